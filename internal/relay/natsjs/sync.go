package natsjs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lastseat/lastseat/internal/relay"
)

// ErrNotSynced says that a server acknowledges messages before they are on its disk.
var ErrNotSynced = errors.New("JetStream acknowledges messages before they are on disk: several servers that lose " +
	"power at once, or one that is alone, lose acknowledged outcomes")

// CantSee is what [CheckSync] has found out without the option monitor.
const CantSee = "can't see whether the NATS server syncs each message to disk before it acknowledges it"

// CheckSync asks a server whether it syncs each message to disk before it acknowledges it, and returns what it found
// out. Its default is to sync every two minutes; then the error is an [ErrNotSynced]. A client can't see the setting:
// the option monitor has the address of the server's monitoring port, http://host:8222.
func CheckSync(ctx context.Context, target relay.Target) (string, error) {
	monitor := target.Options.Get("monitor")
	if monitor == "" {
		return CantSee, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(monitor, "/")+"/varz", nil)
	if err != nil {
		return "", errors.New("the option monitor is no URL: monitor=http://host:8222")
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the NATS server's monitoring port: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	var varz struct {
		Version   string `json:"version"`
		JetStream struct {
			Config *struct {
				SyncAlways   bool          `json:"sync_always"`
				SyncInterval time.Duration `json:"sync_interval"`
			} `json:"config"`
		} `json:"jetstream"`
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&varz); err != nil {
		return "", fmt.Errorf("read the answer of the NATS server's monitoring port: %w", err)
	}
	config := varz.JetStream.Config
	switch {
	case config == nil:
		return "", errors.New("the NATS server has no JetStream")
	case !config.SyncAlways:
		return "", fmt.Errorf("NATS server %s, sync_interval %v: %w", varz.Version, config.SyncInterval, ErrNotSynced)
	}
	return "NATS server " + varz.Version + " syncs each message to disk", nil
}
