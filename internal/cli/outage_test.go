package cli_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/clitest"
)

// An outage is one line when it begins and one when it is over, whoever reports it. A second one soon after is not
// reported by stragglers of the first, and everything else passes.
func TestOutageIsTwoLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out clitest.Buffer
		begun := time.Now()
		up := begun.Add(4500 * time.Millisecond)
		log := slog.New(cli.NewOutage(slog.NewTextHandler(&out, nil), func(context.Context) error {
			if time.Now().Before(up) {
				return errors.New("connection refused")
			}
			return nil
		}))
		river := log.With(slog.String("part", "river"))
		for range 20 {
			log.Error("lane lost its connection", slog.String("error", "connect a lane: failed to connect to `x`"))
			river.Error("producer: Error fetching jobs", slog.Any("err", errors.New("unexpected EOF")))
			time.Sleep(250 * time.Millisecond)
		}
		river.Error("Error attempting to elect", slog.String("err", "conn closed")) // it was asleep meanwhile
		log.Error("job failed", slog.String("error", "division by zero"))
		log.Info("lane taken", slog.String("error", "conn closed"))
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 4 {
			t.Fatalf("%d lines, want 4:\n%s", len(lines), out.String())
		}
		for i, want := range []string{
			"lane lost its connection", `"the database answers again" duration=4.5s`, "job failed", "lane taken",
		} {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d is %q, want %q", i, lines[i], want)
			}
		}

		time.Sleep(time.Minute)
		up = time.Now().Add(150 * time.Second)
		for time.Now().Before(up) {
			river.Warn("elect", slog.String("err", "SQLSTATE 57P03"))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		lines = strings.Split(strings.TrimSpace(out.String()), "\n")[4:]
		if len(lines) != 4 || !strings.Contains(lines[3], "duration=2m30s") {
			t.Errorf("of an outage of two and a half minutes: %q, want a line each minute and one at the end", lines)
		}
	})
}
