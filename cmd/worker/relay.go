package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/events"
	"github.com/lastseat/lastseat/internal/relay/targets"
	"github.com/lastseat/lastseat/internal/relay/webhook"
)

// relays are the relays that LASTSEAT_RELAY names, ready to run on a pool of their own. Without any it is nil.
func (p *program) relays(ctx context.Context, loaded config.Config) (*relay.Group, error) {
	named, err := relay.ParseTargets(loaded.Relay)
	if err != nil || len(named) == 0 {
		return nil, err
	}
	sinks := make([]relay.Sink, len(named))
	for i, target := range named {
		if sinks[i], err = targets.Open(target, p.logger(loaded)); err != nil {
			mistake := fmt.Sprintf("LASTSEAT_RELAY can't be used: %s: %v", target.Name, err)
			return nil, &config.Error{Mistakes: []string{mistake}}
		}
	}
	holder := relay.NewHolder()
	pool, err := cli.Connect(ctx, loaded.DatabaseURL, "lastseat relay", int32(2+len(named)),
		func(pool *pgxpool.Config) {
			pool.ConnConfig.RuntimeParams["application_name"] = relay.SessionPrefix + holder
			// A relay's statements are short; one that hangs must not keep it for ever.
			pool.ConnConfig.RuntimeParams["statement_timeout"] = "60s"
			pool.ConnConfig.RuntimeParams["lock_timeout"] = "5s"
			pool.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off"
		})
	if err != nil {
		return nil, err
	}
	group := &relay.Group{Holder: holder, DB: pool, Poll: loaded.Poll, Logger: p.logger(loaded)}
	for i, target := range named {
		group.Add(target, sinks[i])
	}
	return group, nil
}

// withRelays runs work, and beside it, if wanted, the relays, which end with it.
func (p *program) withRelays(
	ctx context.Context, loaded config.Config, wanted bool, work func(context.Context) error,
) error {
	if !wanted {
		return work(ctx)
	}
	group, err := p.relays(ctx, loaded)
	switch {
	case err != nil:
		return err
	case group == nil:
		return work(ctx)
	}
	defer group.DB.Close()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); group.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	return work(ctx)
}

func (p *program) relayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "relay",
		Example: "  worker relay status",
		Short:   "Hand outcomes to a broker or a webhook, and see how far that is",
		Long: `Hand outcomes to a broker or a webhook, in the order in which they were settled. LASTSEAT_RELAY names the
targets, a URL each, with commas between them; docs/outside.md has their options.

"worker run" relays beside settling. "worker relay run" only relays.`,
	}
	cmd.AddCommand(p.relayRunCommand(), p.relayStatusCommand(), p.relayResumeCommand(), p.relayReplayCommand(),
		p.relaySecretCommand(), p.relaySchemaCommand())
	return cmd
}

func (p *program) relayRunCommand() *cobra.Command {
	var drain bool
	cmd := &cobra.Command{
		Use:   "run [--drain]",
		Short: "Relay, and settle nothing",
		Example: "  LASTSEAT_RELAY='https://shop.example/hooks#name=shop&secret=whsec_...' worker relay run\n" +
			"  worker relay run --drain",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			loaded, err := p.checked(ctx)
			if err != nil {
				return err
			}
			group, err := p.relays(ctx, loaded)
			switch {
			case err != nil:
				return err
			case group == nil:
				return &config.Error{Mistakes: []string{"LASTSEAT_RELAY is not set: it names where to relay to"}}
			}
			defer group.DB.Close()
			if drain {
				return group.Drain(ctx)
			}
			group.Run(ctx)
			return nil
		},
	}
	cmd.Flags().BoolVar(&drain, "drain", false, "relay what is settled by now, then exit; a target that fails is an error")
	return cmd
}

// checked loads the configuration, and proves that the database has this program's schema.
func (p *program) checked(ctx context.Context) (config.Config, error) {
	loaded, pool, err := p.openMigrated(ctx)
	if err == nil {
		pool.Close()
	}
	return loaded, err
}

func (p *program) relayStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "List the relays: how far each is, and what is wrong; exit 1 if one is disabled",
		Example: "  worker relay status",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.onDatabase(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool) error {
				all, err := relay.List(ctx, pool)
				if err != nil {
					return err
				}
				var disabled error
				for _, status := range all {
					if err := p.output.Print(p.streams.Out, status, status.String()); err != nil {
						return err
					}
					if status.DisabledAt != nil {
						disabled = errors.Join(disabled, fmt.Errorf("%s is disabled: %s", status.Name, status.DisabledBecause))
					}
				}
				if disabled != nil {
					return &cli.Error{Code: cli.ExitViolation, Err: disabled}
				}
				return nil
			})
		},
	}
}

// onDatabase runs do with a pool on a database that has this program's schema.
func (p *program) onDatabase(ctx context.Context, do func(context.Context, *pgxpool.Pool) error) error {
	_, pool, err := p.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	return relayError(do(ctx, pool))
}

func relayError(err error) error {
	if errors.Is(err, relay.ErrUnknownRelay) {
		return &cli.Error{Code: cli.ExitData, Err: fmt.Errorf("%w: worker relay status lists them", err)}
	}
	return err
}

func (p *program) relayResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume NAME",
		Short:   "Try a target again that was disabled, or that waits after a failure; it goes on at its cursor",
		Example: "  worker relay resume https://shop.example",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.onDatabase(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool) error {
				return relay.Resume(ctx, pool, args[0])
			})
		},
	}
}

func (p *program) relayReplayCommand() *cobra.Command {
	var from, since string
	cmd := &cobra.Command{
		Use:   "replay NAME --from CURSOR | --since TIME",
		Short: "Relay again from a cursor or a time on; a process that relays goes back at once",
		Long: `Relay again from a cursor or a time on; a process that relays goes back at once. A target that was disabled is
enabled.

An outcome has the same id each time, so a consumer that looks at ids takes none twice.`,
		Example: "  worker relay replay https://shop.example --since 2026-11-26T12:00:00Z\n" +
			"  worker relay replay https://shop.example --from beginning",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (from == "") == (since == "") {
				return cli.Usage("give either --from or --since")
			}
			at, err := time.Parse(time.RFC3339, since)
			if since != "" && err != nil {
				return cli.Usage("--since is %q: 2026-11-26T12:00:00Z", since)
			}
			return p.onDatabase(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool) (err error) {
				cursor := from
				switch {
				case since != "":
					cursor, err = relay.CursorSince(ctx, pool, at)
				case from == "beginning":
					cursor = ""
				case from == "now":
					cursor, err = relay.CursorNow(ctx, pool)
				}
				if err != nil {
					return err
				}
				return relay.Replay(ctx, pool, args[0], cursor)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "a cursor, beginning or now")
	cmd.Flags().StringVar(&since, "since", "", "a time (RFC 3339): from the first outcome that was settled then or later")
	return cmd
}

func (p *program) relaySecretCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "secret",
		Short:   "Make a secret for a webhook",
		Example: "  worker relay secret",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			secret := webhook.NewSecret()
			return p.output.Print(p.streams.Out, map[string]string{"secret": secret}, secret)
		},
	}
}

func (p *program) relaySchemaCommand() *cobra.Command {
	var asyncAPI bool
	cmd := &cobra.Command{
		Use:     "schema [--asyncapi]",
		Short:   "Print the JSON Schema of what is relayed, or its AsyncAPI document",
		Example: "  worker relay schema > outcome.schema.json\n  worker relay schema --asyncapi > asyncapi.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			describe := events.Schema
			if asyncAPI {
				describe = events.AsyncAPI
			}
			text, err := describe()
			if err == nil {
				_, err = p.streams.Out.Write(text)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asyncAPI, "asyncapi", false, "print the AsyncAPI document")
	return cmd
}
