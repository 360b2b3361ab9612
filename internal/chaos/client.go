package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/outbox"
)

// callTimeout is how long a client waits for one call.
const callTimeout = 4 * time.Second

// client asks for one thing after the other, through one of several doors, and notes how each call ended.
type client struct {
	number  int
	url     string
	dir     string // of the programs
	since   time.Time
	pause   time.Duration
	history *History
	asker   *asker
	random  *rand.Rand
	environ func(url string) []string
	// dualWrite is a sabotage of the bench's own: the business row is written in a transaction of its own.
	dualWrite bool
	// prompt has the client schedule nothing for later: the server's clock is set, and so is when that is.
	prompt bool
	// forgetful has the client ask for nothing again that was answered with ok: it may be lost.
	forgetful bool

	conn *pgx.Conn
	open []*Op // calls that ended with unknown, to be asked again
	done []*Op // some that were answered with ok
}

// run asks until asking is over, and clears up what is unknown until ctx is done.
func (c *client) run(ctx, asking context.Context) {
	defer c.close()
	for asking.Err() == nil {
		c.turn(ctx)
		time.Sleep(time.Duration(c.random.Int64N(int64(2*c.pause) + 1)))
	}
	for len(c.open) > 0 && ctx.Err() == nil {
		if c.again(ctx); len(c.open) > 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func (c *client) turn(ctx context.Context) {
	switch dice := c.random.IntN(100); {
	case len(c.done) > 0 && dice < 2:
		c.misuse(ctx, c.done[c.random.IntN(len(c.done))])
	case len(c.done) > 0 && dice < 4:
		c.ask(ctx, c.done[c.random.IntN(len(c.done))]) // a duplicate
	case dice < 8:
		c.askMany(ctx)
	case len(c.open) > 0 && dice < 50:
		c.again(ctx)
	default:
		op := c.asker.next()
		for op.Later && c.prompt {
			op = c.asker.next()
		}
		c.ask(ctx, op)
	}
}

// again asks for something unknown once more; some of it is left unknown.
func (c *client) again(ctx context.Context) {
	op := c.open[0]
	c.open = c.open[1:]
	if len(op.Key)%7 == 3 && c.random.IntN(4) == 0 {
		return
	}
	call := c.ask(ctx, op)
	// A refusal of the contract's is final; after any other one the first call is as unknown as it was.
	if call.Status == Refused && !strings.Contains(call.Error, "(SQLSTATE LS") {
		c.open = append(c.open, op)
	}
}

// doorOf is the door through which a key is asked for, always the same one.
func doorOf(op *Op) string {
	if op.Kind == "payment.transfer" && !op.Later && strings.HasSuffix(op.Key, "7") && op.Asks.Amount%2 == 0 {
		return "enqueue"
	}
	return "sql"
}

// ask makes one call and notes it.
func (c *client) ask(ctx context.Context, op *Op) Call {
	call := Call{Client: c.number, Door: doorOf(op), Op: op, Asked: time.Since(c.since), Row: doorOf(op) == "sql"}
	if call.Door == "enqueue" {
		c.askProgram(ctx, &call)
	} else {
		c.askSQL(ctx, &call)
	}
	call.Answered = time.Since(c.since)
	c.history.Note(call)
	switch call.Status {
	case Unknown:
		c.open = append(c.open, op)
	case OK:
		if c.random.IntN(4) == 0 && !c.forgetful {
			c.done = append(c.done[max(0, len(c.done)-20):], op)
		}
	case Refused:
	}
	return call
}

const askSQL = `SELECT r.duplicate FROM lastseat.enqueue($1, $2, $3::jsonb, queue => $4,
	scheduled_at => now() + $5::interval) r`

// askSQL writes a business row and asks, in one transaction.
func (c *client) askSQL(ctx context.Context, call *Call) {
	c.transact(ctx, call, func(ctx context.Context, tx pgx.Tx) error {
		op, later := call.Op, "0"
		if op.Later {
			later = "1.5 s"
		}
		err := tx.QueryRow(ctx, askSQL, op.Kind, op.Key, string(op.Args), op.Queue, later).Scan(&call.Duplicate)
		if err != nil || call.Duplicate {
			return err
		}
		return c.writeRow(ctx, tx, op.Key)
	})
}

const writeRowSQL = `INSERT INTO bench.orders VALUES ($1, $2)`

func (c *client) writeRow(ctx context.Context, tx pgx.Tx, key string) error {
	if c.dualWrite {
		return nil // written before
	}
	_, err := tx.Exec(ctx, writeRowSQL, key, c.number)
	return err
}

// transact runs work in a transaction, and says how the call has ended: an error before COMMIT, or an answer to it with
// an error, means that nothing has happened.
func (c *client) transact(ctx context.Context, call *Call, work func(context.Context, pgx.Tx) error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call.Status = Refused
	err := c.connect(ctx)
	if err == nil && c.dualWrite && !call.Misuse {
		_, err = c.conn.Exec(ctx, writeRowSQL, call.Op.Key, c.number)
	}
	var tx pgx.Tx
	if err == nil {
		tx, err = c.conn.Begin(ctx)
	}
	if err == nil {
		if err = work(ctx, tx); err == nil {
			err = outbox.Commit(ctx, tx)
		} else {
			_ = tx.Rollback(ctx)
		}
	}
	switch {
	case err == nil:
		call.Status = OK
	case errors.Is(err, outbox.ErrCommitUnknown):
		call.Status = Unknown
	}
	if err != nil {
		call.Error = err.Error()
	}
}

func (c *client) connect(ctx context.Context) (err error) {
	if c.conn == nil || c.conn.IsClosed() {
		if c.conn, err = connectPlainly(ctx, c.url); err != nil {
			time.Sleep(50 * time.Millisecond) // as anybody would
		}
	}
	return err
}

// connectPlainly prepares no statements: there may be a pooler in transaction mode in between.
func connectPlainly(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

func (c *client) close() {
	if c.conn != nil {
		ctx, cancel := context.WithTimeout(background, time.Second)
		defer cancel()
		_ = c.conn.Close(ctx)
	}
}

// misuse asks with other arguments under a key that was answered with ok: that must be refused.
func (c *client) misuse(ctx context.Context, op *Op) {
	if op.Kind != "payment.transfer" || op.Later {
		return
	}
	args := strings.Replace(string(op.Args), `"amount":`, `"amount":1`, 1)
	other := *op
	other.Args = json.RawMessage(args)
	call := Call{Client: c.number, Door: "sql", Op: &other, Asked: time.Since(c.since), Misuse: true}
	c.transact(ctx, &call, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, askSQL, op.Kind, op.Key, args, op.Queue, "0").Scan(&call.Duplicate)
	})
	call.Answered = time.Since(c.since)
	c.history.Note(call)
}

// askMany asks for several things in one transaction: all are in, or none is.
func (c *client) askMany(ctx context.Context) {
	type request struct {
		Kind  string          `json:"kind"`
		Key   string          `json:"key"`
		Args  json.RawMessage `json:"args"`
		Queue string          `json:"queue"`
	}
	var ops []*Op
	var requests []request
	for range 2 + c.random.IntN(4) {
		op := c.asker.next()
		if op.Later || op.Kind == "payment.reverse" {
			continue // one whose transfer is not there refuses all of them
		}
		ops = append(ops, op)
		requests = append(requests, request{op.Kind, op.Key, op.Args, op.Queue})
	}
	if len(ops) == 0 {
		return
	}
	text, err := json.Marshal(requests)
	if err != nil {
		panic(err) // nothing in them can't be encoded
	}
	call := Call{Client: c.number, Door: "many", Op: ops[0], Asked: time.Since(c.since), Row: true}
	c.transact(ctx, &call, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT duplicate FROM lastseat.enqueue_many($1::jsonb)`, string(text))
		if err != nil {
			return err
		}
		if _, err := pgx.CollectRows(rows, pgx.RowTo[bool]); err != nil {
			return err
		}
		for _, op := range ops {
			if err := c.writeRow(ctx, tx, op.Key); err != nil {
				return err
			}
		}
		return nil
	})
	call.Answered = time.Since(c.since)
	for _, op := range ops {
		call.Op = op
		c.history.Note(call)
		if call.Status == Unknown {
			c.open = append(c.open, op)
		}
	}
}

// askProgram runs `enqueue transfer`. Exit code 75 says that what became of the request is unknown.
func (c *client) askProgram(ctx context.Context, call *Call) {
	a := call.Op.Asks
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	code, output := ask(ctx, c.dir, c.environ(c.url), "transfer", "--key", call.Op.Key, "--from", a.From, "--to", a.To,
		"--amount", fmt.Sprintf("%d.%02d", a.Amount/100, a.Amount%100), "--currency", currency)
	switch code {
	case 0:
		call.Status = OK
	case 75, -1: // unknown, or ended by us
		call.Status = Unknown
	default:
		call.Status = Refused
	}
	if code != 0 {
		call.Error = strconv.Itoa(code) + ": " + strings.TrimSpace(output)
	}
}
