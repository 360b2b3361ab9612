// Package targets knows every kind of target that a relay can deliver to.
package targets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/lastseat/lastseat/internal/doctor"
	"github.com/lastseat/lastseat/internal/quote"
	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/internal/relay/kafka"
	"github.com/lastseat/lastseat/internal/relay/natsjs"
	"github.com/lastseat/lastseat/internal/relay/webhook"
	"github.com/lastseat/lastseat/internal/retry"
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

// Examine looks, for worker doctor, whether every target of LASTSEAT_RELAY is served and takes outcomes, and whether
// NATS servers keep what they acknowledge. Nothing of it is worse than a warning: requests are settled all the same.
func Examine(ctx context.Context, db relay.DB, variable string) ([]doctor.Finding, error) {
	named, err := relay.ParseTargets(variable)
	if err != nil || len(named) == 0 {
		return nil, err
	}
	all, err := relay.List(ctx, db)
	switch {
	case retry.SQLState(err) == "42501":
		told := "this role may not see the relays"
		return []doctor.Finding{{Check: "relay", Severity: doctor.Note, OK: true, Told: told}}, nil
	case err != nil:
		return nil, err
	}
	byName := make(map[string]relay.Status)
	for _, status := range all {
		byName[status.Name] = status
	}
	var findings []doctor.Finding
	for _, target := range named {
		status, known := byName[target.Name]
		findings = append(findings, judge(target.Name, status, known))
		if scheme := target.URL.Scheme; scheme == "nats" || scheme == "tls" {
			findings = append(findings, judgeSync(natsjs.CheckSync(ctx, target)))
		}
	}
	return findings, nil
}

func judge(name string, status relay.Status, known bool) doctor.Finding {
	finding := doctor.Finding{Check: "relay", Severity: doctor.Warning, OK: true, Told: status.String()}
	switch {
	case !known:
		finding.Told = "no worker has ever relayed to " + quote.Word(name)
		finding.Do = "start one with this LASTSEAT_RELAY"
	case status.DisabledAt != nil:
		finding.Told += ": " + status.DisabledBecause
		finding.Do = "when the target is well again: worker relay resume " + quote.Word(name)
	case !status.Running:
		finding.Do = "no worker relays to it: start one with this LASTSEAT_RELAY"
	case status.Failures > 0:
		finding.Do = "nothing is lost: it goes on when the target takes outcomes again"
	default:
		finding.Severity = doctor.OK
	}
	return finding
}

func judgeSync(found string, err error) doctor.Finding {
	finding := doctor.Finding{Check: "relay", Severity: doctor.OK, OK: true, Told: found}
	switch {
	case errors.Is(err, natsjs.ErrNotSynced):
		finding.Severity, finding.Told = doctor.Warning, err.Error()
		finding.Do = "set sync_interval: always in the configuration of every NATS server"
	case err != nil:
		finding.Severity, finding.Told = doctor.Warning, err.Error()
		finding.Do = "look whether the NATS server is up, and at the option monitor of its URL"
	case found == natsjs.CantSee:
		finding.Severity = doctor.Note
		finding.Do = "set sync_interval: always, and name the server's monitoring port: #monitor=http://host:8222"
	}
	return finding
}
