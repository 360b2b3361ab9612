package outbox

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Queue is the queue of the built-in kinds, and of every kind that names no other.
const Queue = "lastseat"

// Settings of a [Worker]. The zero value of a field means its default.
type Settings struct {
	Queue         string         // default [Queue]
	Lanes         int            // lanes that the queue is split into, the same in all its workers; default 1
	Batch         int            // jobs in a transaction, at most; default 2000
	TxRetries     int            // tries of a batch after a conflict, before it is halved; default 5
	Isolation     pgx.TxIsoLevel // default serializable; pgx.ReadCommitted for no conflicts at all
	KeepCompleted time.Duration  // how long completed jobs are kept; default 0: deleted when they are settled
	Poll          time.Duration  // how often an idle lane looks without being told; default 1s
	StopTimeout   time.Duration  // how long the batch in hand may take when the worker is stopped; default 10s
	ID            string         // of this worker, in river_job.attempted_by; default host name, process and time
	Logger        *slog.Logger   // default slog.Default()
	// HoldLimit is how long a settler may keep the lane's transaction open between two statements; default 30s. Then
	// Postgres ends the session: a worker that is frozen loses the lane, and a job that takes longer has failed.
	HoldLimit time.Duration
	// ReplyLimit is how long the lane waits for an answer of the server, and Poll on top of that; default 30s. Handlers
	// with a longer timeout extend it. Then the lane connects again.
	ReplyLimit time.Duration
	// Observer is told what the lanes do; default nil: nobody is.
	Observer Observer
	// Tracer is told about requests that carry a trace context; default nil: nobody is, and the lane reads none.
	Tracer Tracer

	// Calls are the times of calls; see [RegisterCall].
	Calls CallTimes

	looking looking
}

func (s Settings) withDefaults() Settings {
	orDefault(&s.Queue, Queue)
	orDefault(&s.Lanes, 1)
	orDefault(&s.Batch, 2000)
	orDefault(&s.TxRetries, 5)
	orDefault(&s.Isolation, pgx.Serializable)
	orDefault(&s.Poll, time.Second)
	orDefault(&s.StopTimeout, 10*time.Second)
	orDefault(&s.Logger, slog.Default())
	orDefault(&s.HoldLimit, 30*time.Second)
	orDefault(&s.ReplyLimit, 30*time.Second)
	s.looking = s.looking.withDefaults()
	s.Calls = s.Calls.withDefaults()
	if s.ID == "" {
		host, _ := os.Hostname()
		now := time.Now().UTC().Format("2006_01_02T15_04_05")
		s.ID = fmt.Sprintf("%s_%d_%s", strings.ReplaceAll(host, ".", "_"), os.Getpid(), now)
	}
	return s
}

func orDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}
