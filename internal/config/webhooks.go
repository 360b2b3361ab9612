package config

import (
	"net"
	"strings"

	"github.com/lastseat/lastseat/processor/stripe"
)

const webhookSecrets = "LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS" //nolint:gosec // the name of a variable

// webhookMistakes checks the variables of the server for webhooks. Without a secret anybody could make up an event, and
// without the API key nobody could fetch what it tells of.
func (c *Config) webhookMistakes(check func(name string, ok bool, format string, args ...any)) {
	if secrets := c.StripeWebhookSecretList(); len(secrets) > 0 {
		_, err := stripe.Webhooks(secrets...)
		check(webhookSecrets, err == nil, "can't be used: %v", err)
	}
	if c.WebhookAddr == "" {
		return
	}
	_, port, err := net.SplitHostPort(c.WebhookAddr)
	_, noPort := net.LookupPort("tcp", port)
	check("LASTSEAT_WEBHOOK_ADDR", err == nil && port != "" && noPort == nil,
		"is %q: an address and a port, 127.0.0.1:9188", c.WebhookAddr)
	check(webhookSecrets, strings.TrimSpace(c.StripeWebhookSecrets) != "",
		"is not set, and LASTSEAT_WEBHOOK_ADDR is: without the endpoint's signing secret no webhook can be proven")
	check("LASTSEAT_PROCESSOR_STRIPE_KEY", c.StripeKey != "",
		"is not set, and LASTSEAT_WEBHOOK_ADDR is: webhooks are taken in of a processor that this worker can ask")
}

// StripeWebhookSecretList are the signing secrets of Stripe's endpoint: one, or two while one is rolled.
func (c *Config) StripeWebhookSecretList() []string { return strings.Fields(c.StripeWebhookSecrets) }
