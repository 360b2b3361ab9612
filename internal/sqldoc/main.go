// Command sqldoc writes docs/sql.md, the reference of the SQL interface, from the comments in the database: make docs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/schema"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sqldoc:", err)
		os.Exit(1)
	}
}

// run prints the reference of a schema that it makes on a private Postgres.
func run(ctx context.Context) error {
	server, err := localpg.Start(ctx, localpg.Options{Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	if _, err := schema.Up(ctx, server.URL(), false); err != nil {
		return err
	}
	conn, err := pgsession.Open(ctx, server.URL())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	page, err := reference(ctx, conn)
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(page)
	return err
}
