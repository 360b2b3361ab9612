package main

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/admin"
	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/pgsession"
	"github.com/lastseat/lastseat/internal/webhooks"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/processor"
	"github.com/lastseat/lastseat/processor/stripe"
)

// webhookSessions is how many webhooks are in a transaction at a time; the others wait their turn.
const webhookSessions = 4

// withWebhooks runs work, and beside it, if wanted, the server that takes in the processor's webhooks. It ends when ctx
// is done, with what it has in hand. Metrics are nil if there is nobody to read them.
func (p *program) withWebhooks(
	ctx context.Context, pool *pgxpool.Pool, loaded config.Config, metrics *admin.Metrics, wanted bool,
	work func(context.Context) error,
) error {
	if !wanted || loaded.WebhookAddr == "" {
		return work(ctx)
	}
	verify, err := stripe.Webhooks(loaded.StripeWebhookSecretList()...)
	if err != nil {
		return err
	}
	gateway := loaded.Stripe()
	defer gateway.Close()
	own, err := pgsession.NewPoolBeside(ctx, pool, "lastseat webhooks", webhookSessions, 0, webhookSettings)
	if err != nil {
		return err
	}
	defer own.Close()
	logger := p.logger(loaded)
	receiver := processor.Receiver{
		Source: "stripe", Verify: verify, LookUp: gateway.LookUp, DB: own, Take: jobs.TakeLate, Logger: logger,
	}
	if metrics != nil {
		receiver.Observe = metrics.Webhooks(receiver.Source)
	}
	server, err := webhooks.Listen(ctx, loaded.WebhookAddr, receiver)
	if err != nil {
		return err
	}
	logger.InfoContext(ctx, "webhook server", slog.String("url", server.URL()+webhooks.Path(receiver.Source)))
	serving, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(serving, loaded.StopTimeout); err != nil {
			logger.ErrorContext(ctx, "webhook server ended", slog.Any("error", err))
		}
	}()
	defer func() { end(); <-ended }()
	return work(ctx)
}

// webhookSettings bound what a webhook does: one that was not taken in comes again.
var webhookSettings = map[string]string{
	"default_transaction_read_only": "off", "statement_timeout": "15s", "lock_timeout": "5s",
	"idle_in_transaction_session_timeout": "30s",
}
