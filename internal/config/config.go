// Package config reads the worker's configuration from the environment, and reports every mistake in it at once.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/processor/stripe"
)

// Config is the whole configuration. docs/operations.md lists it; a test keeps the list and this struct the same.
type Config struct {
	DatabaseURL   string        `env:"DATABASE_URL"`
	Lanes         int           `env:"LASTSEAT_LANES" envDefault:"1"`
	Batch         int           `env:"LASTSEAT_BATCH" envDefault:"2000"`
	TxRetries     int           `env:"LASTSEAT_TX_RETRIES" envDefault:"5"`
	Isolation     Isolation     `env:"LASTSEAT_ISOLATION" envDefault:"serializable"`
	KeepCompleted time.Duration `env:"LASTSEAT_KEEP_COMPLETED" envDefault:"0s"`
	Poll          time.Duration `env:"LASTSEAT_POLL" envDefault:"1s"`
	StopTimeout   time.Duration `env:"LASTSEAT_STOP_TIMEOUT" envDefault:"10s"`
	HoldLimit     time.Duration `env:"LASTSEAT_HOLD_LIMIT" envDefault:"30s"`
	ReplyLimit    time.Duration `env:"LASTSEAT_REPLY_LIMIT" envDefault:"30s"`
	LogLevel      slog.Level    `env:"LASTSEAT_LOG_LEVEL" envDefault:"info"`
	LogFormat     string        `env:"LASTSEAT_LOG_FORMAT" envDefault:"text"`
	Relay         string        `env:"LASTSEAT_RELAY"`           // targets: relay.ParseTargets reads them
	SealKey       string        `env:"LASTSEAT_SEAL_KEY"`        // signs what worker audit --seal prints
	SealPublicKey string        `env:"LASTSEAT_SEAL_PUBLIC_KEY"` // proves it

	StripeKey string `env:"LASTSEAT_PROCESSOR_STRIPE_KEY"` // its secret API key; empty: this worker calls no Stripe
	StripeURL string `env:"LASTSEAT_PROCESSOR_STRIPE_URL"` // where Stripe is; empty: at Stripe
	// StripeWebhookSecrets are the signing secrets of its endpoint for webhooks, with spaces between them.
	StripeWebhookSecrets string `env:"LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS"`

	WebhookAddr string `env:"LASTSEAT_WEBHOOK_ADDR"` // where worker run takes webhooks in; empty: nowhere

	RetainURL   string        `env:"LASTSEAT_RETAIN_URL"` // as whom worker run removes what is too old; empty: it does not
	RetainEvery time.Duration `env:"LASTSEAT_RETAIN_EVERY" envDefault:"1h"`

	AuditEvery time.Duration `env:"LASTSEAT_AUDIT_EVERY" envDefault:"1m"` // 0: worker run does not audit

	// TraceKeys: spans have keys and the text of errors. The variables OTEL_... say where traces go.
	TraceKeys bool `env:"LASTSEAT_TRACE_KEYS"`

	AdminAddr          string `env:"LASTSEAT_ADMIN_ADDR"` // where the worker's own server listens; empty: nowhere
	AdminViewerToken   string `env:"LASTSEAT_ADMIN_VIEWER_TOKEN"`
	AdminOperatorToken string `env:"LASTSEAT_ADMIN_OPERATOR_TOKEN"`
	AdminTLSCert       string `env:"LASTSEAT_ADMIN_TLS_CERT"` // files
	AdminTLSKey        string `env:"LASTSEAT_ADMIN_TLS_KEY"`
	AdminProxyURL      string `env:"LASTSEAT_ADMIN_PROXY_URL"` // where browsers reach the server through a proxy
	AdminHideArgs      bool   `env:"LASTSEAT_ADMIN_HIDE_ARGS"` // viewers don't see the arguments of jobs
}

var sealKey = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// Isolation is a transaction's isolation level, spelled as in SQL.
type Isolation pgx.TxIsoLevel

// UnmarshalText accepts the levels at which the worker is proven to be right.
func (i *Isolation) UnmarshalText(text []byte) error {
	for _, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.ReadCommitted} {
		if strings.EqualFold(string(text), string(level)) {
			*i = Isolation(level)
			return nil
		}
	}
	return errors.New(`"serializable" or "read committed"`)
}

// Error is a configuration that can't be used; one line for every mistake.
type Error struct{ Mistakes []string }

// Error joins the mistakes with line breaks.
func (e *Error) Error() string {
	return "configuration: " + strings.Join(e.Mistakes, "\nconfiguration: ")
}

// Load reads the configuration from environ, which has the form of os.Environ(). DATABASE_URL may be left out only
// where the caller has another database to hand. The error is an [*Error] with all mistakes.
func Load(environ []string, needDatabase bool) (Config, error) {
	variables := env.ToMap(environ)
	var config Config
	mistakes := parse(&config, variables)
	for name, mistake := range config.mistakes(needDatabase) {
		if _, unreadable := mistakes[name]; !unreadable {
			mistakes[name] = mistake
		}
	}
	for name := range variables {
		if strings.HasPrefix(name, "LASTSEAT_") && !slices.Contains(Variables(), name) {
			// One that is misspelt and ignored in silence is worse than one that is refused.
			mistakes[name] = "is not a variable of this program: " + strings.Join(Variables(), ", ")
		}
	}
	if len(mistakes) == 0 {
		return config, nil
	}
	failed := &Error{}
	for _, name := range slices.Sorted(maps.Keys(mistakes)) {
		failed.Mistakes = append(failed.Mistakes, name+" "+mistakes[name])
	}
	return Config{}, failed
}

// Variables are the names of all variables that [Load] looks at, in the order of [Config].
func Variables() []string {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		names = append(names, field.Tag.Get("env"))
	}
	return names
}

// parse fills config; what it can't read it returns by the variable's name.
func parse(config *Config, variables map[string]string) map[string]string {
	mistakes := make(map[string]string)
	err := env.ParseWithOptions(config, env.Options{Environment: variables})
	if all := (env.AggregateError{}); errors.As(err, &all) {
		for _, one := range all.Errors {
			parse := env.ParseError{}
			if !errors.As(one, &parse) {
				mistakes["environment"] = one.Error()
				continue
			}
			field, _ := reflect.TypeFor[Config]().FieldByName(parse.Name)
			name := field.Tag.Get("env")
			mistakes[name] = fmt.Sprintf("is %q: %s", variables[name], wanted(field.Type, parse.Err))
		}
	}
	return mistakes
}

// wanted is what a variable of this type takes, in place of the words of Go's parsers.
func wanted(kind reflect.Type, err error) string {
	switch {
	case kind == reflect.TypeFor[time.Duration]():
		return "a duration with its unit, like 10s, 15m or 24h"
	case kind == reflect.TypeFor[slog.Level]():
		return "debug, info, warn or error"
	case kind.Kind() == reflect.Bool:
		return "true or false"
	case kind.Kind() == reflect.Int:
		return "a whole number"
	}
	return err.Error()
}

func (c *Config) mistakes(needDatabase bool) map[string]string {
	mistakes := make(map[string]string)
	check := func(name string, ok bool, format string, args ...any) {
		if !ok {
			mistakes[name] = fmt.Sprintf(format, args...)
		}
	}
	if c.DatabaseURL != "" {
		_, err := pgxpool.ParseConfig(c.DatabaseURL)
		// pgx's own error repeats the string, and does not always find the password in it.
		check("DATABASE_URL", err == nil,
			"can't be read: postgres://USER:PASSWORD@HOST:5432/DATABASE, special characters as %%40")
		check("DATABASE_URL", !atSignTooLate(c.DatabaseURL),
			"has an @ after the host: write special characters of the password as %%40 (@), %%2F (/), %%3A (:)")
	} else {
		check("DATABASE_URL", !needDatabase, "is not set: postgres://USER:PASSWORD@HOST:5432/DATABASE")
	}
	if c.RetainURL != "" {
		_, err := pgxpool.ParseConfig(c.RetainURL)
		check("LASTSEAT_RETAIN_URL", err == nil && !atSignTooLate(c.RetainURL),
			"can't be read: postgres://USER:PASSWORD@HOST:5432/DATABASE, special characters as %%40")
	}
	check("LASTSEAT_RETAIN_EVERY", c.RetainEvery >= time.Second, "is %v: 1s or longer", c.RetainEvery)
	check("LASTSEAT_AUDIT_EVERY", c.AuditEvery == 0 || c.AuditEvery >= 100*time.Millisecond,
		"is %v: 100ms or longer, or 0s for never", c.AuditEvery)
	check("LASTSEAT_LANES", c.Lanes >= 1 && c.Lanes <= 64, "is %d: 1 to 64", c.Lanes)
	check("LASTSEAT_BATCH", c.Batch >= 1 && c.Batch <= 10_000, "is %d: 1 to 10000 jobs", c.Batch)
	check("LASTSEAT_TX_RETRIES", c.TxRetries >= 1 && c.TxRetries <= 100, "is %d: 1 to 100", c.TxRetries)
	check("LASTSEAT_KEEP_COMPLETED", c.KeepCompleted >= 0, "is %v: 0s or longer", c.KeepCompleted)
	check("LASTSEAT_POLL", c.Poll >= 10*time.Millisecond, "is %v: 10ms or longer", c.Poll)
	check("LASTSEAT_STOP_TIMEOUT", c.StopTimeout > 0, "is %v: give a time longer than 0s", c.StopTimeout)
	check("LASTSEAT_HOLD_LIMIT", c.HoldLimit >= 100*time.Millisecond, "is %v: 100ms or longer", c.HoldLimit)
	check("LASTSEAT_REPLY_LIMIT", c.ReplyLimit >= 100*time.Millisecond, "is %v: 100ms or longer", c.ReplyLimit)
	for name, key := range map[string]string{"LASTSEAT_SEAL_KEY": c.SealKey, "LASTSEAT_SEAL_PUBLIC_KEY": c.SealPublicKey} {
		check(name, key == "" || sealKey.MatchString(key), "is not 64 hexadecimal digits: openssl rand -hex 32 makes a key")
	}
	_, err := relay.ParseTargets(c.Relay)
	check("LASTSEAT_RELAY", err == nil, "can't be used: %v", oneLine(err))
	c.stripeMistakes(check)
	c.webhookMistakes(check)
	c.adminMistakes(check)
	check("LASTSEAT_LOG_FORMAT", c.LogFormat == "text" || c.LogFormat == "json", `is %q: "text" or "json"`, c.LogFormat)
	return mistakes
}

func (c *Config) stripeMistakes(check func(name string, ok bool, format string, args ...any)) {
	key := c.StripeKey
	if _, err := stripe.New(stripe.Options{Key: key}); err != nil {
		check("LASTSEAT_PROCESSOR_STRIPE_KEY", key == "", "can't be used: %v", err)
		key = "sk_test_any"
	}
	if _, err := stripe.New(stripe.Options{Key: key, URL: c.StripeURL}); err != nil {
		check("LASTSEAT_PROCESSOR_STRIPE_URL", c.StripeURL == "", "can't be used: %v", err)
	}
}

// Stripe is the gateway to Stripe; nil: this worker has none.
func (c *Config) Stripe() *stripe.Gateway {
	if c.StripeKey == "" {
		return nil
	}
	gateway, err := stripe.New(stripe.Options{Key: c.StripeKey, URL: c.StripeURL})
	if err != nil {
		return nil // Load has refused it
	}
	return gateway
}

// oneLine is an error that may be several, on a line.
func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// atSignTooLate tells whether a URL has an @ after its host. Then the password has a /, ? or # that ends the host, and
// what follows would be taken for the name of the database, and be printed.
func atSignTooLate(databaseURL string) bool {
	_, rest, isURL := strings.Cut(databaseURL, "://")
	end := strings.IndexAny(rest, "/?#")
	return isURL && end >= 0 && strings.Contains(rest[end:], "@")
}
