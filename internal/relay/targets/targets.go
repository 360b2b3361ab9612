// Package targets knows every kind of target that a relay can deliver to.
package targets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/kafka"
	"github.com/lastseat/lastseat/internal/relay/natsjs"
	"github.com/lastseat/lastseat/internal/relay/webhook"
)

// Open makes the sink of a target, by the scheme of its URL. The target need not be up.
func Open(target relay.Target, logger *slog.Logger) (relay.Sink, error) {
	switch target.URL.Scheme {
	case "http", "https":
		return webhook.New(target)
	case "nats", "tls":
		return natsjs.New(target, logger)
	case "kafka", "kafka+tls":
		return kafka.New(target)
	}
	return nil, fmt.Errorf("the scheme %q has no relay", target.URL.Scheme)
}

// Check looks, for worker doctor, whether every target of LASTSEAT_RELAY is served and takes outcomes, and returns what
// it found out. That JetStream acknowledges before it syncs to disk is a warning in that and no error: outcomes arrive
// all the same, as long as the servers keep their power.
func Check(ctx context.Context, db relay.DB, variable string) (string, error) {
	named, err := relay.ParseTargets(variable)
	if err != nil {
		return "", err
	}
	all, err := relay.List(ctx, db)
	if err != nil {
		return "", err
	}
	byName := make(map[string]relay.Status)
	for _, status := range all {
		byName[status.Name] = status
	}
	var told []string
	for _, target := range named {
		status, known := byName[target.Name]
		switch {
		case !known || !status.Running && status.DisabledAt == nil:
			return "", fmt.Errorf("no worker relays to %s: start one with this LASTSEAT_RELAY", target.Name)
		case status.DisabledAt != nil:
			return "", fmt.Errorf("%v: worker relay resume %s", status, target.Name)
		case status.Failures > 0:
			return "", errors.New(status.String())
		}
		told = append(told, status.String())
		if scheme := target.URL.Scheme; scheme == "nats" || scheme == "tls" {
			synced, err := natsjs.CheckSync(ctx, target)
			if err != nil {
				synced = "warning: " + err.Error()
			}
			told = append(told, synced)
		}
	}
	return strings.Join(told, "; "), nil
}
