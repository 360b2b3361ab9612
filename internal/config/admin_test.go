package config_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/config"
)

// What other machines reach has a token, and TLS here or at a proxy. Otherwise the worker does not start.
func TestAdminServerIsSafeOrRefused(t *testing.T) {
	t.Parallel()
	const token, secret = "LASTSEAT_ADMIN_VIEWER_TOKEN=0123456789abcdef", "0123456789abcdef"
	const proxy = "LASTSEAT_ADMIN_PROXY_URL=https://ops.example/lastseat"
	here := []string{"LASTSEAT_ADMIN_TLS_CERT=admin.go", "LASTSEAT_ADMIN_TLS_KEY=admin_test.go"} // files that exist
	for name, c := range map[string]struct {
		addr    string
		environ []string
		refused string // what the mistake says; empty: there is none
	}{
		"off":                       {"", nil, ""},
		"this machine":              {"127.0.0.1:9187", nil, ""},
		"this machine, by name":     {"localhost:9187", nil, ""},
		"this machine, IPv6":        {"[::1]:9187", nil, ""},
		"this machine, token":       {"127.0.0.1:9187", []string{token}, ""},
		"all addresses":             {":9187", nil, "other machines reach: set LASTSEAT_ADMIN_VIEWER_TOKEN"},
		"all addresses, token":      {"0.0.0.0:9187", []string{token}, "would cross the network readable"},
		"all addresses, TLS":        {"0.0.0.0:9187", here, "other machines reach: set LASTSEAT_ADMIN_VIEWER_TOKEN"},
		"all, TLS and token":        {"0.0.0.0:9187", append(here, token), ""},
		"all, proxy and token":      {"0.0.0.0:9187", []string{proxy, token}, ""},
		"a name of another machine": {"db.example:9187", []string{token}, "would cross the network readable"},
		"looks like this machine":   {"127.0.0.1.example:9187", nil, "other machines reach"},
		"proxy, no token":           {"127.0.0.1:9187", []string{proxy}, "is behind a proxy, which lets strangers in"},
		"proxy, operator's token":   {"127.0.0.1:9187", []string{proxy, "LASTSEAT_ADMIN_OPERATOR_TOKEN=" + secret}, ""},
		"no port":                   {"127.0.0.1", nil, "an address and a port"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			environ := append([]string{"LASTSEAT_ADMIN_ADDR=" + c.addr}, c.environ...)
			if c.refused == "" {
				if _, err := config.Load(environ, false); err != nil {
					t.Fatal(err)
				}
				return
			}
			got := mistakes(t, false, environ...)
			if len(got) != 1 || !strings.Contains(got[0], c.refused) || strings.Contains(got[0], secret) {
				t.Errorf("%q, want one that says %q, without the token", got, c.refused)
			}
		})
	}
}

func TestAdminProxyURL(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"ops.example", "http://ops.example/", "https://", "ftp://ops.example",
		"https://u:p@ops.example/", "https://ops.example/?x=1"} {
		got := mistakes(t, false, "LASTSEAT_ADMIN_PROXY_URL="+bad)
		if len(got) != 1 || !strings.HasPrefix(got[0], "LASTSEAT_ADMIN_PROXY_URL is not an address") {
			t.Errorf("%s: %q", bad, got)
		}
	}
}
