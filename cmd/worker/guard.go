package main

import (
	"mime"
	"net"
	"net/http"
	"net/url"
)

// guardUI lets only pages of River UI itself use it. It has no login, so any page that the developer visits could
// cancel and delete jobs otherwise: by a form or a script that sends JSON as text/plain, or by a name of its own
// that leads to this machine.
func guardUI(ui http.Handler) http.Handler {
	return guardLocal("River UI", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !isJSON(r) {
			http.Error(w, "what changes something is sent as application/json", http.StatusUnsupportedMediaType)
			return
		}
		ui.ServeHTTP(w, r)
	}))
}

// guardLocal keeps pages of other sites, and names of others that lead to this machine, away from a server that has no
// login.
func guardLocal(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !loopback(hostname(r.Host)):
			http.Error(w, "open it by an address of this machine, http://127.0.0.1:PORT or http://localhost:PORT",
				http.StatusMisdirectedRequest)
		case !sameOrigin(r):
			http.Error(w, "another site's page may not use "+name, http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// hostname is the host of a Host header, which may have a port.
func hostname(hostPort string) string {
	return (&url.URL{Host: hostPort}).Hostname()
}

// sameOrigin tells whether a request comes from a page of this server, or from no page at all. Browsers send one of
// the two headers with whatever changes something.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	from, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && from.Scheme == "http" && from.Host == r.Host
}

func isJSON(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/json"
}

// loopback tells whether a host is this machine, and nobody can make it another.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
