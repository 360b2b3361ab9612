package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/localpg"
	"github.com/lastseat/lastseat/schema"
)

func (p *program) devCommand() *cobra.Command {
	var data, ui string
	var processor fakeProcessor
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run all that a developer needs: Postgres, schema, worker, River UI",
		Long: `Run all that a developer needs, until Ctrl-C.

That is the schema, a worker, River UI and, if DATABASE_URL is not set, a private Postgres. With --processor it is also
a card processor for trying things out (docs/outside.md).

River UI has no login, and can cancel and delete jobs. So it only listens on this machine.`,
		Example: "  worker dev\n  worker dev --data ./postgres\n  worker dev --processor 127.0.0.1:12111",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if host, _, err := net.SplitHostPort(ui); err != nil || !loopback(host) {
				return cli.Usage("--ui is %q: an address of this machine, 127.0.0.1:8080", ui)
			}
			if err := processor.check(); err != nil {
				return err
			}
			given, err := config.Load(p.streams.Environ, false)
			if err != nil {
				return err
			}
			return p.withDatabase(cmd.Context(), data, func(ctx context.Context, loaded config.Config,
				pool *pgxpool.Pool) error {
				if given.DatabaseURL == "" {
					_, _ = fmt.Fprintf(p.streams.Err, "A private Postgres is up:\n  export DATABASE_URL='%s'\n", loaded.DatabaseURL)
				}
				listener, err := processor.listen(ctx, &loaded)
				if err != nil {
					return err
				}
				group, ctx := errgroup.WithContext(ctx)
				group.Go(func() error { return p.serveUI(ctx, pool, ui, p.logger(loaded)) })
				group.Go(func() error { return processor.serve(ctx, listener, p.streams.Err, p.logger(loaded)) })
				group.Go(func() error { return p.newWorker(pool, loaded, watchers{}).Run(ctx) })
				return group.Wait()
			})
		},
	}
	cmd.Flags().StringVar(&data, "data", "",
		"directory to keep the data of the private Postgres; without it, the data is deleted at the end")
	cmd.Flags().StringVar(&processor.address, "processor", "",
		"also run a card processor that moves no money, on this address; port 0 picks a free port")
	cmd.Flags().StringVar(&processor.webhooks, "processor-webhooks", "", "the URL that gets the processor's webhooks")
	cmd.Flags().StringVar(&ui, "ui", "127.0.0.1:0", "where River UI listens; port 0 picks a free port")
	return cmd
}

// withDatabase runs do with a migrated database: the one that DATABASE_URL names, or a private Postgres, which is
// stopped afterwards.
func (p *program) withDatabase(ctx context.Context, data string, do func(context.Context, config.Config,
	*pgxpool.Pool) error) (err error) {
	loaded, err := config.Load(p.streams.Environ, false)
	if err != nil {
		return err
	}
	if loaded.DatabaseURL == "" {
		server, err := localpg.Start(ctx, localpg.Options{Dir: data})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		loaded.DatabaseURL = server.URL()
	}
	if _, err := schema.Up(ctx, loaded.DatabaseURL, false, schema.Report(p.sayWaiting)); err != nil {
		return err
	}
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat worker", workerConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	return do(ctx, loaded, pool)
}

// serveUI serves River UI until ctx is done.
func (p *program) serveUI(ctx context.Context, pool *pgxpool.Pool, address string, logger *slog.Logger) error {
	handler, err := admin.NewRiverUI(pool, "")
	if err != nil {
		return err
	}
	if err := handler.Start(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("river UI: %w: choose another address with --ui", err)
	}
	server := &http.Server{Handler: guardUI(handler), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	logger.InfoContext(ctx, "River UI", slog.String("url", "http://"+listener.Addr().String()))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
