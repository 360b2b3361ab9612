package config_test

import (
	"errors"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/config"
)

const url = "postgres://lastseat_worker:hunter2@db.example:5432/shop"

var defaults = config.Config{
	DatabaseURL: url, Lanes: 1, Batch: 2000, TxRetries: 5, Isolation: config.Isolation(pgx.Serializable),
	Poll: time.Second, StopTimeout: 10 * time.Second, LogLevel: slog.LevelInfo, LogFormat: "text",
	HoldLimit: 30 * time.Second, ReplyLimit: 30 * time.Second, RetainEvery: time.Hour, AuditEvery: time.Minute,
}

// mistakes loads what has to be refused.
func mistakes(t *testing.T, needDatabase bool, environ ...string) []string {
	t.Helper()
	got, err := config.Load(environ, needDatabase)
	failed := (*config.Error)(nil)
	if !errors.As(err, &failed) {
		t.Fatalf("%q: %v, want a config.Error", environ, err)
	}
	if got != (config.Config{}) {
		t.Errorf("%q: beside the error there is %+v", environ, got)
	}
	return failed.Mistakes
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	// other programs' variables are nobody's business
	got, err := config.Load([]string{"DATABASE_URL=" + url, "PATH=/bin", "PGHOST=x", "LASTSEATS=7"}, true)
	if err != nil || got != defaults {
		t.Errorf("%+v, %v, want %+v", got, err, defaults)
	}
	withoutDatabase := defaults
	withoutDatabase.DatabaseURL = ""
	if got, err := config.Load(nil, false); err != nil || got != withoutDatabase {
		t.Errorf("%+v, %v, want %+v", got, err, withoutDatabase)
	}
}

func TestSetButEmptyTakesTheDefault(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + url}
	for _, name := range config.Variables() {
		if name != "DATABASE_URL" {
			environ = append(environ, name+"=")
		}
	}
	if got, err := config.Load(environ, true); err != nil || got != defaults {
		t.Errorf("%+v, %v, want %+v", got, err, defaults)
	}
	if got := mistakes(t, true, "DATABASE_URL="); len(got) != 1 || !strings.HasPrefix(got[0],
		"DATABASE_URL is not set: postgres://") {
		t.Errorf("an empty DATABASE_URL: %q", got)
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	t.Parallel()
	want := config.Config{
		DatabaseURL: url, Lanes: 64, Batch: 10_000, TxRetries: 100, Isolation: config.Isolation(pgx.ReadCommitted),
		KeepCompleted: time.Hour,
		Poll:          10 * time.Millisecond, StopTimeout: 90 * time.Second, LogLevel: slog.LevelDebug, LogFormat: "json",
		HoldLimit: 100 * time.Millisecond, ReplyLimit: time.Minute, Relay: "nats://broker:4222",
		RetainURL: url, RetainEvery: 24 * time.Hour, AuditEvery: time.Second, TraceKeys: true,
		StripeKey: "sk_test_x", StripeURL: "http://127.0.0.1:1",
		StripeWebhookSecrets: "whsec_the_old_one whsec_the_new_one", WebhookAddr: ":9188",
	}
	got, err := config.Load([]string{
		"DATABASE_URL=" + url, "LASTSEAT_LANES=64", "LASTSEAT_BATCH=10000", "LASTSEAT_TX_RETRIES=100",
		"LASTSEAT_ISOLATION=Read Committed",
		"LASTSEAT_KEEP_COMPLETED=1h", "LASTSEAT_POLL=10ms", "LASTSEAT_STOP_TIMEOUT=1m30s", "LASTSEAT_LOG_LEVEL=DEBUG",
		"LASTSEAT_HOLD_LIMIT=100ms", "LASTSEAT_REPLY_LIMIT=1m",
		"LASTSEAT_LOG_FORMAT=json", "LASTSEAT_RELAY=nats://broker:4222", "LASTSEAT_RETAIN_URL=" + url,
		"LASTSEAT_RETAIN_EVERY=24h", "LASTSEAT_AUDIT_EVERY=1s", "LASTSEAT_TRACE_KEYS=true",
		"LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x",
		"LASTSEAT_PROCESSOR_STRIPE_URL=http://127.0.0.1:1",
		"LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS=whsec_the_old_one whsec_the_new_one", "LASTSEAT_WEBHOOK_ADDR=:9188",
	}, true)
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	// the widest that is accepted on the other side
	if _, err := config.Load([]string{"LASTSEAT_LANES=1", "LASTSEAT_BATCH=1", "LASTSEAT_TX_RETRIES=1",
		"LASTSEAT_STOP_TIMEOUT=1ns", "LASTSEAT_ISOLATION=serializable"}, false); err != nil {
		t.Error(err)
	}
}

// bad is a wrong value for every variable, and what the error says of it.
var bad = map[string][]string{
	"DATABASE_URL":            {"postgres://u:hunter2@host:port/shop", "can't be read"},
	"LASTSEAT_LANES":          {"65", "is 65: 1 to 64"},
	"LASTSEAT_BATCH":          {"many", `is "many": a whole number`},
	"LASTSEAT_TX_RETRIES":     {"0", "is 0: 1 to 100"},
	"LASTSEAT_ISOLATION":      {"repeatable read", `"serializable" or "read committed"`},
	"LASTSEAT_KEEP_COMPLETED": {"-1s", "0s or longer"},
	"LASTSEAT_TRACE_KEYS":     {"maybe", `is "maybe": true or false`},
	"LASTSEAT_POLL":           {"1", `is "1": a duration with its unit`}, // no unit
	"LASTSEAT_STOP_TIMEOUT":   {"0s", "longer than 0s"},
	"LASTSEAT_HOLD_LIMIT":     {"99ms", "100ms or longer"},
	"LASTSEAT_REPLY_LIMIT":    {"0s", "100ms or longer"},
	"LASTSEAT_LOG_LEVEL":      {"loud", `is "loud": debug, info, warn or error`},
	"LASTSEAT_LOG_FORMAT":     {"xml", `"text" or "json"`},

	"LASTSEAT_RETAIN_URL":      {"postgres://u:hunter2@host:port/shop", "can't be read"},
	"LASTSEAT_RETAIN_EVERY":    {"1ms", "1s or longer"},
	"LASTSEAT_AUDIT_EVERY":     {"1ms", "100ms or longer"},
	"LASTSEAT_RELAY":           {"nats://b:4222,https://u:hunter2@h/hunter2#x=hunter2", `can't be used: URL 2: https has no option "x"`},
	"LASTSEAT_SEAL_KEY":        {"secret", "is not 64 hexadecimal digits"},
	"LASTSEAT_SEAL_PUBLIC_KEY": {"0123", "is not 64 hexadecimal digits"},

	"LASTSEAT_PROCESSOR_STRIPE_KEY": {"hunter2", "begins with sk_ or rk_"},
	"LASTSEAT_PROCESSOR_STRIPE_URL": {"http://hunter2@stripe", "the URL of Stripe is https"},

	"LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS": {"hunter2", "a signing secret of Stripe begins with whsec_"},

	"LASTSEAT_WEBHOOK_ADDR":         {"everywhere", `is "everywhere": an address and a port`},
	"LASTSEAT_ADMIN_ADDR":           {"everywhere", `is "everywhere": an address and a port`},
	"LASTSEAT_ADMIN_VIEWER_TOKEN":   {"secret", "is shorter than 16 characters"},
	"LASTSEAT_ADMIN_OPERATOR_TOKEN": {"secret", "is the viewer's"},
	"LASTSEAT_ADMIN_TLS_CERT":       {"/none/cert.pem", `is "/none/cert.pem": there is no such file`},
	"LASTSEAT_ADMIN_TLS_KEY":        {"/none/key.pem", `is "/none/key.pem": there is no such file`},
	"LASTSEAT_ADMIN_PROXY_URL":      {"ops.example", "is not an address at which browsers"},
	"LASTSEAT_ADMIN_HIDE_ARGS":      {"maybe", `is "maybe"`},
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	var environ []string
	for _, name := range config.Variables() {
		if bad[name] == nil {
			t.Fatalf("no wrong value for %s", name)
		}
		environ = append(environ, name+"="+bad[name][0])
	}
	got := mistakes(t, true, environ...)
	if len(got) != len(bad) {
		t.Errorf("%d mistakes, want one for each of %d variables:\n%s", len(got), len(bad), strings.Join(got, "\n"))
	}
	for name, want := range bad {
		told := slices.IndexFunc(got, func(mistake string) bool { return strings.HasPrefix(mistake, name+" ") })
		if told < 0 || !strings.Contains(got[told], want[1]) {
			t.Errorf("%s=%s: nothing says %q in\n%s", name, want[0], want[1], strings.Join(got, "\n"))
		}
	}
	_, err := config.Load(environ, true)
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(bad) {
		t.Errorf("%d lines, want %d:\n%v", len(lines), len(bad), err)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "configuration: ") {
			t.Errorf("the line %q does not say what it is about", line)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is told: %v", err)
	}
}

func TestOneMistake(t *testing.T) {
	t.Parallel()
	for _, environ := range []string{
		"LASTSEAT_LANES=0", "LASTSEAT_LANES=-1", "LASTSEAT_LANES=99999999999999999999", "LASTSEAT_LANES=1.5",
		"LASTSEAT_BATCH=0", "LASTSEAT_BATCH=10001",
		"LASTSEAT_TX_RETRIES=101", "LASTSEAT_ISOLATION=chaos", "LASTSEAT_POLL=9ms", "LASTSEAT_POLL=-1s",
		"LASTSEAT_STOP_TIMEOUT=-1s", "LASTSEAT_LOG_FORMAT=TEXT",
		"LASTSEAT_LOG_LEVEL=trace", "LASTSEAT_KEEP_COMPLETED=forever",
	} {
		name, value, _ := strings.Cut(environ, "=")
		got := mistakes(t, false, environ)
		if len(got) != 1 || !strings.HasPrefix(got[0], name+" is ") || !strings.Contains(got[0], value) ||
			strings.Contains(got[0], "\n") {
			t.Errorf("%s: %q", environ, got)
		}
	}
}

func TestUnknownVariableIsReported(t *testing.T) {
	t.Parallel()
	for _, environ := range []string{"LASTSEAT_X=1", "LASTSEAT_LANE=2", "LASTSEAT_=", "LASTSEAT_lanes=2"} {
		name, _, _ := strings.Cut(environ, "=")
		got := mistakes(t, false, environ)
		if len(got) != 1 || !strings.HasPrefix(got[0], name+" is not a variable of this program") ||
			!strings.Contains(got[0], "LASTSEAT_LANES") {
			t.Errorf("%s: %q", environ, got)
		}
	}
}

func TestPasswordIsNeverTold(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"port is no number":             "postgres://u:hunter2@host:port/shop",
		"slash in the password":         "postgres://u:hunter2/x@host/shop",
		"slash after a digit in it":     "postgres://u:1/hunter2@host/shop",
		"slash after an at sign in it":  "postgres://u:x@y/hunter2@host/shop",
		"question mark after a digit":   "postgres://u:1?hunter2@host/shop",
		"hash after a digit in it":      "postgres://u:1#hunter2@host/shop",
		"hash in the password":          "postgres://u:hunter2#x@host/shop",
		"question mark in the password": "postgres://u:hunter2?x@host/shop",
		"percent sign in the password":  "postgres://u:hunter2%zz@host/shop",
		"colon in the password":         "postgres://u:hunter2:x@ho st/shop",
		"at sign in the password":       "postgres://u:hunter2@x@ho st/shop",
		"space in the password":         "postgres://u:hunter2 x@host/shop",
		"control character":             "postgres://u:hunter2\x7f@host/shop",
		"bad setting":                   "postgres://u:hunter2@host/shop?sslmode=sometimes",
		"bad pool setting":              "postgres://u:hunter2@host/shop?pool_max_conns=none",
		"password as a parameter":       "postgres://host/shop?password=hunter2&sslmode=sometimes",
		"key and value":                 "host=h password=hunter2 port=x",
		"spaces around the equals sign": "host=h password = hunter2 port=x",
		"quoted":                        "host=h password='hunter2 x' port=x",
		"quoted, with spaces":           "host=h password = 'x hunter2' port=x",
		"escaped quote":                 `host=h password='x\' hunter2' port=x`,
		"quote left open":               `host=h password='hunter2 port=5432`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load([]string{"DATABASE_URL=" + url, "LASTSEAT_LANES=x"}, true)
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is told: %v", err)
			}
		})
	}
}

// docs/operations.md has a table with a line for each variable: | `NAME` | ...
func TestGuideListsTheVariables(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, match := range regexp.MustCompile("(?m)^\\| *`([A-Z][A-Z0-9_]+)`").FindAllStringSubmatch(string(guide), -1) {
		if strings.HasPrefix(match[1], "LASTSEAT_") || match[1] == "DATABASE_URL" {
			listed = append(listed, match[1])
		}
	}
	if len(listed) == 0 {
		t.Fatal("docs/operations.md has no table of the configuration")
	}
	want := config.Variables() // in whatever order tells the reader most
	slices.Sort(listed)
	if slices.Sort(want); !slices.Equal(listed, want) {
		t.Errorf("docs/operations.md lists\n%v, the program reads\n%v", listed, want)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	got := config.Variables()
	if len(got) != len(bad) || got[0] != "DATABASE_URL" || slices.Contains(got, "") {
		t.Errorf("the variables are %q", got)
	}
}
