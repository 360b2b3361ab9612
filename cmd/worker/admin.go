package main

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

// watchedWorker is newWorker, and the worker's own server with its metrics if LASTSEAT_ADMIN_ADDR says
// where. stop ends the server.
func (p *program) watchedWorker(
	ctx context.Context, pool *pgxpool.Pool, loaded config.Config, auditor *auditor, tracer outbox.Tracer,
) (worker *outbox.Worker, metrics *admin.Metrics, stop func(), err error) {
	var told observers
	var audited func() admin.AuditStatus
	if auditor != nil {
		told, audited = append(told, auditor), auditor.Status
	}
	if loaded.AdminAddr == "" {
		return p.newWorker(pool, loaded, watchers{told.orNil(), tracer}), nil, func() {}, nil
	}
	own, err := admin.NewPool(ctx, pool)
	if err != nil {
		return nil, nil, nil, err
	}
	forRiver, err := admin.NewRiverPool(ctx, pool)
	if err != nil {
		own.Close()
		return nil, nil, nil, err
	}
	closePools := func() { forRiver.Close(); own.Close() }
	metrics = admin.NewMetrics(admin.MetricsOptions{
		Kinds: kindNames(), Lanes: loaded.Lanes, Version: cli.Version(), Pool: own,
		Stats: func() outbox.Snapshot { return worker.Stats() }, Audit: audited,
	})
	worker = p.newWorker(pool, loaded, watchers{append(told, metrics), tracer})
	server, err := admin.Listen(ctx, admin.Options{
		Address: loaded.AdminAddr, ViewerToken: loaded.AdminViewerToken, OperatorToken: loaded.AdminOperatorToken,
		CertFile: loaded.AdminTLSCert, KeyFile: loaded.AdminTLSKey, ProxyURL: loaded.AdminProxyURL,
		Version: cli.Version(), Logger: p.logger(loaded), Pool: own, RiverPool: forRiver,
		HideArgs: loaded.AdminHideArgs, Metrics: metrics.Handler(), Audit: audited,
		Examine: func(ctx context.Context) ([]admin.Finding, error) { return examine(ctx, own, loaded.Lanes) },
	})
	if err != nil {
		closePools()
		return nil, nil, nil, err
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
	return worker, metrics, func() { end(); <-ended; closePools() }, nil
}

func kindNames() (names []string) {
	for _, kind := range jobs.Kinds() {
		names = append(names, kind.Name)
	}
	return names
}

// examine tells whether requests are being settled, as worker doctor does. It sends no probe, because strangers may
// ask.
func examine(ctx context.Context, pool *pgxpool.Pool, lanes int) (findings []admin.Finding, err error) {
	found, err := doctor.Examine(ctx, pool, doctor.Options{NoProbe: true, Lanes: lanes})
	for _, f := range found {
		findings = append(findings, admin.Finding{Check: f.Check, Severity: string(f.Severity), Told: f.Told, Do: f.Do})
	}
	return findings, err
}
