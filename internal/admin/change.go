package admin

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/outbox"
)

// What an operator may do to requests.
const (
	actionRetry  = "retry"
	actionCancel = "cancel"
)

const (
	mostChanged = 1000 // requests at a time
	changeLimit = 40 * time.Second
)

// changePage asks whether requests are to be changed, and says what follows; or what was done.
type changePage struct {
	chosen
	Action   string
	Keys     []string // that were ticked; empty: all that are chosen
	All      bool
	Until    string // what was settled since is none of them
	Count    int
	Most     bool // there are more
	Kinds    []kindCount
	Done     int
	Refused  []refusedChange
	Finished bool
}

type kindCount struct {
	Kind, Code string
	Count      int
}

type refusedChange struct{ Key, Why string }

// change asks first, and does it when the operator has said yes. One that is changed by itself needs no question.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), changeLimit)
	defer cancel()
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form can't be read: choose fewer requests", http.StatusBadRequest)
		return
	}
	page := changePage{
		chosen: choose(r.PostForm.Get), Action: r.PostForm.Get("action"), Keys: r.PostForm["key"],
		All: r.PostForm.Has("all"), Until: r.PostForm.Get("until"),
	}
	if page.Action != actionRetry && page.Action != actionCancel || !page.All && len(page.Keys) == 0 {
		s.show(w, r, http.StatusBadRequest, "error.html", "Nothing was chosen", "Tick the requests that you mean.")
		return
	}
	found, err := s.meant(ctx, &page)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if !r.PostForm.Has("yes") {
		page.count(found)
		s.show(w, r, http.StatusOK, "change.html", "Are you sure?", page)
		return
	}
	page.Finished = true
	for _, o := range found {
		if err := s.changeOne(ctx, r, page.Action, o.Key); err != nil {
			page.Refused = append(page.Refused, refusedChange{o.Key, err.Error()})
		} else {
			page.Done++
		}
	}
	code := http.StatusOK
	if page.Done == 0 {
		code = http.StatusConflict
	}
	s.show(w, r, code, "change.html", "Done", page)
}

// meant are the requests that the operator means.
func (s *Server) meant(ctx context.Context, page *changePage) (found []outbox.Outcome, err error) {
	if !page.All {
		page.Keys = page.Keys[:min(len(page.Keys), mostChanged)]
		found, err := outbox.Outcomes(ctx, s.options.Pool, page.Keys...)
		return found, err
	}
	until, err := time.Parse(time.RFC3339Nano, page.Until)
	if err != nil {
		if err := s.options.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&until); err != nil {
			return nil, err
		}
		page.Until = until.UTC().Format(time.RFC3339Nano)
	}
	page.Status = string(outbox.Failed)
	if page.Action == actionCancel {
		page.Status = string(outbox.Pending)
	}
	filter := page.filter(mostChanged)
	filter.Look, filter.Until = 0, until
	next, err := inspect.ListPage(ctx, s.options.Pool, filter, func(o outbox.Outcome) error {
		if !o.RequestedAt.After(until) {
			found = append(found, o)
		}
		return nil
	})
	page.Most = next != ""
	return found, err
}

func (p *changePage) count(found []outbox.Outcome) {
	p.Count = len(found)
	for _, o := range found {
		i := slices.IndexFunc(p.Kinds, func(k kindCount) bool { return k.Kind == o.Kind && k.Code == o.Code })
		if i < 0 {
			i = len(p.Kinds)
			p.Kinds = append(p.Kinds, kindCount{Kind: o.Kind, Code: o.Code})
		}
		p.Kinds[i].Count++
	}
	slices.SortFunc(p.Kinds, func(a, b kindCount) int { return cmp.Compare(b.Count, a.Count) })
}

// cancelSQL cancels a job as River does. The trigger of river_job has its request fail, or refuses while a call of it
// is under way. A job that is being settled is waited for, and gone then.
const cancelSQL = `
	UPDATE lastseat.river_job j SET state = 'cancelled', finalized_at = clock_timestamp()
	FROM lastseat.requests r
	WHERE r.key = $1 AND r.status = 'pending' AND j.id = r.job_id AND j.args ->> 'key' = r.key
	  AND j.state IN ('available', 'scheduled', 'retryable', 'pending')`

// errNotPending says that there is nothing to cancel.
var errNotPending = errors.New("it does not wait any more")

// changeOne changes a request in a transaction of its own, and logs who has asked for it.
func (s *Server) changeOne(ctx context.Context, r *http.Request, action, key string) error {
	err := pgx.BeginFunc(ctx, s.options.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '5s'`); err != nil {
			return err
		}
		if action == actionRetry {
			_, err := outbox.Retry(ctx, tx, key)
			return err
		}
		done, err := tx.Exec(ctx, cancelSQL, key)
		if err == nil && done.RowsAffected() == 0 {
			err = errNotPending
		}
		return err
	})
	who, _, _ := r.BasicAuth()
	level, told := slog.LevelInfo, "done"
	if err != nil {
		level, told = slog.LevelWarn, err.Error()
	}
	s.options.Logger.Log(ctx, level, "operator changes a request", slog.String("who", who),
		slog.String("action", action), slog.String("key", key), slog.String("from", r.RemoteAddr),
		slog.String("result", told))
	return err
}

// becomeOperator has the browser ask for the operator's token, and shows it with every request from then on.
func (s *Server) becomeOperator(w http.ResponseWriter, r *http.Request) {
	if s.guard.role(r) < operator {
		askForToken(w)
		return
	}
	keep(r)
	http.Redirect(w, r, s.guard.subpath+"/", http.StatusSeeOther)
}
