package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/lastseat/lastseat/internal/quote"
)

// slowCall is how long a call may be open before somebody should look.
const slowCall = 10 * time.Minute

// openCalls are the calls of a target that have been open for long.
type openCalls struct {
	Target string
	Calls  int
	Unsent int // of them nothing was ever sent
	Since  time.Time
	Error  string // of one of them; may be empty
	Now    time.Time
}

// checkCalls looks for calls, and for money on clearing accounts, that have been under way for long.
var checkCalls = look("calls", `
	SELECT c.target, count(*), count(*) FILTER (WHERE c.first_sent_at IS NULL), min(c.created_at),
	       coalesce(max(left(c.last_error, 200)), ''), clock_timestamp()
	FROM lastseat.calls c WHERE c.ended_at IS NULL AND c.created_at < now() - interval '10 minutes'
	GROUP BY c.target ORDER BY c.target`,
	func(_ *exam, rows []openCalls) []Finding { return judgeCalls(rows) })

// neverSentSQL settles the requests whose calls nobody makes. It locks each call, so that none is sent meanwhile.
const neverSentSQL = `SELECT lastseat.answer_call(c.key, c.step, c.attempt, 'declined', 'not_done', '{}', ` +
	`false, '0') FROM (SELECT * FROM lastseat.calls WHERE target = %s AND ended_at IS NULL AND ` +
	`first_sent_at IS NULL FOR UPDATE) c`

func judgeCalls(rows []openCalls) (found []Finding) {
	for _, c := range rows {
		told := fmt.Sprintf("%d calls of %s have had no answer for more than %s, the oldest since %s (%s)",
			c.Calls, c.Target, span(slowCall), c.Since.UTC().Format(time.RFC3339), span(c.Now.Sub(c.Since)))
		if c.Error != "" {
			told += ": " + strings.Join(strings.Fields(c.Error), " ")
		}
		do := "look at lastseat.calls, and at lastseat.clearing() for the money: it is settled when " + c.Target + " answers"
		if c.Unsent == c.Calls {
			do = "start a worker that can call " + c.Target + ": nothing was sent. If nobody ever will, have these calls " +
				"declined, as lastseat_worker: " + fmt.Sprintf(neverSentSQL, quote.Literal(c.Target))
		}
		found = append(found, warning(do, "%s", told))
	}
	if found == nil {
		found = []Finding{ok("no call has been open for more than %s", span(slowCall))}
	}
	return found
}
