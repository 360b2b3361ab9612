package cli

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/pgsession"
)

// Connect opens a pool of sessions that are the program's own, and proves that the database answers.
func Connect(
	ctx context.Context, databaseURL, application string, connections int32, options ...func(*pgxpool.Config),
) (*pgxpool.Pool, error) {
	return connect(ctx, databaseURL, application, connections, pgsession.NewPool, options)
}

// ConnectShared is Connect for a program that works behind a pooler in transaction mode as well.
func ConnectShared(
	ctx context.Context, databaseURL, application string, connections int32, options ...func(*pgxpool.Config),
) (*pgxpool.Pool, error) {
	return connect(ctx, databaseURL, application, connections, pgsession.NewSharedPool, options)
}

func connect(
	ctx context.Context, databaseURL, application string, connections int32,
	open func(context.Context, *pgxpool.Config) (*pgxpool.Pool, error), options []func(*pgxpool.Config),
) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	if _, named := config.ConnConfig.RuntimeParams["application_name"]; !named {
		config.ConnConfig.RuntimeParams["application_name"] = application
	}
	for _, option := range options {
		option(config)
	}
	pool, err := open(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// Require marks flags as required.
func Require(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		if err := cmd.MarkFlagRequired(flag); err != nil {
			panic(err) // no such flag
		}
	}
}

// Version is the module's version as Go has built it in.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
