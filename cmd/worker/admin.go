package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
	"github.com/lastseat/lastseat/schema"
)

// watchedWorker is newWorker, and the worker's own server if LASTSEAT_ADMIN_ADDR says where. stop ends the server.
func (p *program) watchedWorker(
	ctx context.Context, pool *pgxpool.Pool, loaded config.Config,
) (worker *outbox.Worker, stop func(), err error) {
	if loaded.AdminAddr == "" {
		return p.newWorker(pool, loaded, nil), func() {}, nil
	}
	own, err := admin.NewPool(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	metrics := admin.NewMetrics(admin.MetricsOptions{
		Kinds: kindNames(), Lanes: loaded.Lanes, Version: cli.Version(), Pool: own,
		Stats: func() outbox.Snapshot { return worker.Stats() },
	})
	worker = p.newWorker(pool, loaded, metrics)
	server, err := admin.Listen(ctx, admin.Options{
		Address: loaded.AdminAddr, ViewerToken: loaded.AdminViewerToken, OperatorToken: loaded.AdminOperatorToken,
		CertFile: loaded.AdminTLSCert, KeyFile: loaded.AdminTLSKey, ProxyURL: loaded.AdminProxyURL,
		Version: cli.Version(), Logger: p.logger(loaded), Metrics: metrics.Handler(),
		Examine: func(ctx context.Context) ([]admin.Finding, error) { return examine(ctx, own) },
	})
	if err != nil {
		own.Close()
		return nil, nil, err
	}
	logger := p.logger(loaded)
	logger.InfoContext(ctx, "admin server", slog.String("url", server.URL()))
	serving, end := context.WithCancel(context.WithoutCancel(ctx)) // it answers while the last batch is finished
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(serving); err != nil {
			logger.ErrorContext(ctx, "admin server ended", slog.String("error", err.Error()))
		}
	}()
	return worker, func() { end(); <-ended; own.Close() }, nil
}

func kindNames() (names []string) {
	for _, kind := range jobs.Kinds() {
		names = append(names, kind.Name)
	}
	return names
}

// examine tells whether requests are being settled.
func examine(ctx context.Context, pool *pgxpool.Pool) (findings []admin.Finding, err error) {
	found := func(check, severity, told, do string) {
		findings = append(findings, admin.Finding{Check: check, Severity: severity, Told: told, Do: do})
	}
	if err := schema.Check(ctx, pool); err != nil {
		if !errors.As(err, new(*schema.VersionError)) {
			return nil, err
		}
		found("schema", "wrong", err.Error(), "worker migrate status")
		return findings, nil
	}
	found("schema", "ok", "schema up to date", "")
	now, err := inspect.Look(ctx, pool, time.Minute)
	if err != nil {
		return findings, err
	}
	if len(now.Lanes) == 0 {
		found("lanes", "wrong", "no worker has ever held a lane", "worker run")
	}
	for _, lane := range now.Lanes {
		name := fmt.Sprintf("lane %d of the queue %s", lane.Lane, lane.Queue)
		switch {
		case lane.Paused != nil:
			found("queue", "wrong", "the queue "+lane.Queue+" is paused", "worker resume")
		case lane.PID == nil:
			found("lanes", "wrong", "no worker holds "+name, "worker run")
		default:
			found("lanes", "ok", fmt.Sprintf("process %d holds %s", *lane.PID, name), "")
		}
	}
	return findings, nil
}
