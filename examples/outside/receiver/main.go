// Command receiver is a webhook's other end: it proves the signature, takes each id once, and prints the outcome. A
// service would write the id and what it does into its database, in one transaction, and then answer.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func main() {
	verifier, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%v/hooks\n", listener.Addr())
	panic(http.Serve(listener, receive(verifier, os.Stdout)))
}

// receive is the whole of it. The relay sends one outcome at a time, so nothing else works on seen.
func receive(verifier *standardwebhooks.Webhook, out io.Writer) http.HandlerFunc {
	seen := make(map[string]bool)
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || verifier.Verify(body, r.Header) != nil {
			http.Error(w, "not from us", http.StatusUnauthorized)
			return
		}
		if id := r.Header.Get("webhook-id"); !seen[id] {
			seen[id] = true
			_, _ = fmt.Fprintf(out, "%s\n", body)
		}
	}
}
