package config_test

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/config"
)

// TestWebhooks: without a secret or a processor the server for webhooks is refused.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	const (
		address = "LASTSEAT_WEBHOOK_ADDR=127.0.0.1:9188"
		key     = "LASTSEAT_PROCESSOR_STRIPE_KEY=sk_test_x"
		secrets = "LASTSEAT_PROCESSOR_STRIPE_WEBHOOK_SECRETS="
		good    = "whsec_the_new_one"
	)
	for name, c := range map[string]struct {
		environ []string
		want    string // part of the one mistake; empty: it is good
	}{
		"all there":         {[]string{address, key, secrets + good}, ""},
		"no address":        {[]string{key, secrets + good}, ""},
		"two secrets":       {[]string{address, key, secrets + " whsec_the_old_one  whsec_the_new_one "}, ""},
		"other machines":    {[]string{"LASTSEAT_WEBHOOK_ADDR=0.0.0.0:9188", key, secrets + good}, ""},
		"no secret":         {[]string{address, key}, secrets[:len(secrets)-1] + " is not set"},
		"an empty secret":   {[]string{address, key, secrets}, "is not set"},
		"a blank secret":    {[]string{address, key, secrets + "  "}, "is not set"},
		"three secrets":     {[]string{address, key, secrets + good + " " + good + " " + good}, "or two while"},
		"a short secret":    {[]string{address, key, secrets + "whsec_"}, "whsec_"},
		"no processor":      {[]string{address, secrets + "whsec_the_new_one"}, "LASTSEAT_PROCESSOR_STRIPE_KEY is not set"},
		"no port":           {[]string{"LASTSEAT_WEBHOOK_ADDR=127.0.0.1", key, secrets + good}, "an address and a"},
		"an empty port":     {[]string{"LASTSEAT_WEBHOOK_ADDR=127.0.0.1:", key, secrets + good}, "an address and a"},
		"a port of letters": {[]string{"LASTSEAT_WEBHOOK_ADDR=127.0.0.1:x!", key, secrets + good}, "an address and a"},
	} {
		if _, err := config.Load(c.environ, false); c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := mistakes(t, false, c.environ...); len(got) != 1 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
