package main

import (
	"context"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/tracing"
	"github.com/lastseat/lastseat/outbox"
)

// tracer sends traces to where the variables OTEL_... say; nil: nowhere. flush sends what is left.
func (p *program) tracer(ctx context.Context, loaded config.Config) (tracer outbox.Tracer, flush func(), err error) {
	endpoint, err := tracing.Endpoint(p.streams.Environ)
	if err != nil {
		return nil, nil, &cli.Error{Code: cli.ExitConfig, Err: err}
	}
	if endpoint == "" {
		return nil, func() {}, nil
	}
	t, err := tracing.New(ctx, tracing.Options{
		Endpoint: endpoint, Keys: loaded.TraceKeys, Version: cli.Version(), Logger: p.logger(loaded),
	})
	if err != nil {
		return nil, nil, err
	}
	return t, func() { t.Stop(ctx) }, nil
}
