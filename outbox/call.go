package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Intent is what a request wants done outside the database. See [Calls].
type Intent struct {
	Target    string          // who is called: the [Caller] of that name does it
	Operation string          // what is asked of them in one word: charge, send
	Body      json.RawMessage // what they are sent; the same with every attempt
	// Subject is what the call is about, if that may have one open call at a time: "payment:p-1045". The settler keeps to
	// it; the database proves it.
	Subject string
}

// Calls is the result of a job whose request needs something done outside the database. The intent is written in the
// batch's commit, a [Caller] carries it out afterwards with no transaction open, and the request stays pending. When
// the answer is there, the settler gets the job again, with [Job].Answer, and settles the request.
func Calls(intent Intent) Result { return Result{intent: &intent} }

// IsCalling tells whether the result is a [Calls].
func (r Result) IsCalling() bool { return r.intent != nil }

// Later is the result of a job that can't be settled yet, because the call of another request has to end first. The job
// comes again after a while, as it is, and uses up no attempt. Later jobs pass it by.
func Later(after time.Duration) Result { return Result{later: after} }

// Certainty is what is known of a call after an attempt.
type Certainty string

// What may be known.
const (
	Done     Certainty = "done"     // it was carried out
	Declined Certainty = "declined" // it was refused for good and has had no effect: an outcome, not an error
	// Unknown: it may have been carried out. The call is tried again, with the same key and the same body.
	Unknown Certainty = "unknown"
	// Absent is an answer of LookUp only: the other side knows nothing of the call, up to now. Once it is too late for the
	// last attempt to arrive, that is a Declined with [CodeNotDone].
	Absent Certainty = "absent"

	// lost: it will never be known.
	lost Certainty = "lost"
)

// CodeNotDone is of a call that was never carried out, as a look has shown.
const CodeNotDone = "not_done"

// Answer is what a call has brought.
type Answer struct {
	Result Certainty
	Code   string          // the reason in one word; may be empty
	Detail json.RawMessage // what else there is to say; JSON, or nothing
	// Stored: after an Unknown, the other side would give the same answer to the same key again, so nothing is sent any
	// more. LookUp decides.
	Stored bool
	// After is how long to wait before the next attempt, at least.
	After time.Duration
}

// Call is an attempt at a call.
type Call struct {
	// Key is the call's idempotency key: 64 hexadecimal digits, the same with every attempt and for no other call.
	Key       string
	Request   string // the request's own key
	Kind      string // the request's kind
	Operation string
	Body      json.RawMessage
	Attempt   int // from 1
	// First and Last are when the first and the last attempt began, by the database's clock.
	First, Last time.Time
}

// ErrNotSent is for an error of a [Caller] that was nobody's answer: the attempt has had no effect.
var ErrNotSent = errors.New("nothing was sent")

// The limits of a [Caller].
const (
	CallTimeout = time.Minute      // how long an attempt may take, at most
	Late        = 10 * time.Minute // how long a call that was cut off may still be on its way, if a Caller does not say
	callWorkers = 20
)

// Caller carries out the calls of a target. Its functions run in a River worker, several at a time, and no transaction
// is open meanwhile.
type Caller struct {
	Target string // its name
	// Send makes one attempt. An error is an Unknown. It has to send call.Key, so that the other side carries the call out
	// once however often it is sent. A process may be killed at any time: then the same call is sent again.
	Send func(ctx context.Context, call Call) (Answer, error)
	// LookUp finds out whether the call was carried out, without sending it. Nil: there is no way to know. An error is an
	// Unknown, and it is asked again.
	LookUp func(ctx context.Context, call Call) (Answer, error)
	// KeyWindow is how long the other side surely knows a key, from its first use. After that nothing is sent. 0: it has
	// no keys, so nothing is ever sent twice.
	KeyWindow time.Duration
	Late      time.Duration // default: [Late]
	Timeout   time.Duration // of an attempt; default and most: [CallTimeout]
	Workers   int           // attempts at a time; default 20
}

// AddCaller has this worker carry out the calls of a target. Other workers may do so as well. A call of a target that
// no worker has waits. Two callers of one target are a programming error, and panic.
func (k *Kinds) AddCaller(c Caller) {
	orDefault(&c.Late, Late)
	orDefault(&c.Timeout, CallTimeout)
	orDefault(&c.Workers, callWorkers)
	if _, taken := k.callers[c.Target]; taken || c.Target == "" || c.Send == nil || c.Timeout > CallTimeout {
		panic(fmt.Sprintf("outbox: the caller of %q has been added before, has no name, no Send, or a timeout above %v",
			c.Target, CallTimeout))
	}
	if k.callers == nil {
		k.callers = make(map[string]Caller)
	}
	k.callers[c.Target] = c
}

// callQueuePrefix begins the names of the queues in which calls wait, one for each target: a slow one holds up no
// other.
const callQueuePrefix = "lastseat_call_"

var queueName = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)

// CallQueue is the queue of the calls of a target.
func CallQueue(target string) string {
	name := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToLower(target))
	if len(name) > 40 || !queueName.MatchString(name) {
		name = callKey(target, 0)[:32]
	}
	return callQueuePrefix + name
}
