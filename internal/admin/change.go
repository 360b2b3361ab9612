package admin

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/httplimit"
	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/outbox"
)

// What an operator may do to requests.
const (
	actionRetry  = "retry"
	actionCancel = "cancel"
)

const (
	mostChanged  = 1000    // requests at a time
	mostSearched = 100_000 // requests that are looked at for those that are chosen, about
	changeLimit  = 40 * time.Second
)

// changePage asks whether requests are to be changed, and says what follows; or what was done.
type changePage struct {
	chosen
	Action   string
	Keys     []string // that were ticked; empty: all that are chosen
	All      bool
	Jobs     string // of all that are chosen: what the operator says yes to, and nothing that has come since
	Next     string // the cursor of those that come after them
	Full     bool   // the search has ended because it had found as many as may be changed at a time
	Count    int
	Gone     []string // keys that were ticked, and no request has
	Jobless  int      // the jobs of so many more are gone
	Kinds    []kindCount
	Done     int
	Refused  []refusedChange
	Untried  int // the time was up
	Finished bool
}

type kindCount struct {
	Kind, Code string
	Count      int
}

type refusedChange struct{ Key, Why string }

// errNothing says that a form names no requests, or not what to do with them.
var errNothing = errors.New("nothing was chosen")

// change asks first, and does it when the operator has said yes.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), changeLimit)
	defer cancel()
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form can't be read: choose fewer requests", http.StatusBadRequest)
		return
	}
	form := r.PostForm
	page := changePage{
		chosen: choose(form.Get), Action: form.Get("action"), Keys: form["key"], All: form.Has("all"),
		Jobs: form.Get("jobs"), Next: form.Get("next"), Finished: form.Has("yes"),
	}
	keys, err := s.meant(ctx, &page, form)
	switch {
	case errors.Is(err, errNothing):
		s.show(w, r, http.StatusBadRequest, "error.html", "Nothing was chosen",
			"Tick the requests that you mean, at most 1,000.")
	case err != nil:
		s.refuse(w, r, err)
	case !page.Finished:
		s.show(w, r, http.StatusOK, "change.html", "Are you sure?", page)
	default:
		s.changeAll(ctx, r, &page, keys)
		code := http.StatusOK
		if page.Done == 0 {
			code = http.StatusConflict
		}
		s.show(w, r, code, "change.html", "Done", page)
	}
}

// meant are the keys of the requests that the operator means.
func (s *Server) meant(ctx context.Context, page *changePage, form url.Values) (keys []string, err error) {
	switch {
	case !storable(form):
		return nil, errNotFound
	case page.Action != actionRetry && page.Action != actionCancel:
		return nil, errNothing
	case !page.All:
		return s.ticked(ctx, page)
	case page.Finished:
		return s.confirmed(ctx, page)
	default:
		return nil, s.survey(ctx, page, form.Get("after"))
	}
}

// ticked are the keys that were ticked and are there.
func (s *Server) ticked(ctx context.Context, page *changePage) (keys []string, err error) {
	if len(page.Keys) == 0 || len(page.Keys) > mostChanged {
		return nil, errNothing
	}
	found, err := outbox.Outcomes(ctx, s.options.Pool, page.Keys...)
	for _, o := range found {
		keys = append(keys, o.Key)
	}
	for _, key := range page.Keys {
		if !slices.Contains(keys, key) && !slices.Contains(page.Gone, key) {
			page.Gone = append(page.Gone, key)
		}
	}
	page.Keys = keys
	page.count(found)
	return keys, err
}

// jobKeysSQL has the keys of the requests that jobs carry, if the jobs are still there.
const jobKeysSQL = `
	SELECT r.key FROM unnest($1::bigint[]) WITH ORDINALITY AS asked(id, n),
	     LATERAL (SELECT q.id, q.args FROM lastseat.river_job q WHERE q.id = asked.id OFFSET 0) j,
	     LATERAL (SELECT q.key, q.job_id FROM lastseat.requests q WHERE q.key = j.args ->> 'key' OFFSET 0) r
	WHERE r.job_id = j.id ORDER BY asked.n`

func (s *Server) keysOf(ctx context.Context, jobs []int64) (keys []string, err error) {
	rows, err := s.options.Pool.Query(ctx, jobKeysSQL, jobs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// confirmed are the keys of the requests that the operator was shown the number of, and said yes to.
func (s *Server) confirmed(ctx context.Context, page *changePage) (keys []string, err error) {
	var ids []int64
	for word := range strings.FieldsSeq(page.Jobs) {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, errNothing
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 || len(ids) > mostChanged {
		return nil, errNothing
	}
	keys, err = s.keysOf(ctx, ids)
	page.Jobless = len(ids) - len(keys)
	return keys, err
}

// survey looks for all that are chosen and can be changed, as far as a search goes.
func (s *Server) survey(ctx context.Context, page *changePage, after string) error {
	page.Status = string(outbox.Failed)
	if page.Action == actionCancel {
		page.Status = string(outbox.Pending)
	}
	filter := page.filter(mostChanged)
	filter.Look, filter.After = mostSearched, after
	var listed []outbox.Outcome
	var ids []int64
	next, err := inspect.ListPage(ctx, s.options.Pool, filter, func(o outbox.Outcome) error {
		listed, ids = append(listed, o), append(ids, o.JobID)
		return nil
	})
	if err != nil {
		return err
	}
	keys, err := s.keysOf(ctx, ids)
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, key := range keys {
		there[key] = true
	}
	found := slices.DeleteFunc(slices.Clone(listed), func(o outbox.Outcome) bool { return !there[o.Key] })
	words := make([]string, 0, len(found))
	for _, o := range found {
		words = append(words, strconv.FormatInt(o.JobID, 10))
	}
	page.Jobs, page.Next, page.Full = strings.Join(words, " "), next, len(listed) == mostChanged
	page.Jobless = len(listed) - len(found)
	page.count(found)
	return nil
}

// changeAll changes one after the other, while there is time.
func (s *Server) changeAll(ctx context.Context, r *http.Request, page *changePage, keys []string) {
	for _, key := range page.Gone {
		page.Refused = append(page.Refused, refusedChange{key, "no request has this key"})
	}
	for i, key := range keys {
		if ctx.Err() != nil {
			page.Untried = len(keys) - i
			return
		}
		if err := s.changeOne(ctx, r, page.Action, key); err != nil {
			page.Refused = append(page.Refused, refusedChange{key, err.Error()})
		} else {
			page.Done++
		}
	}
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
	WHERE j.id = (SELECT r.job_id FROM lastseat.requests r WHERE r.key = $1 AND r.status = 'pending')
	  AND j.args ->> 'key' = $1 AND j.state IN ('available', 'scheduled', 'retryable', 'pending')`

// errNotPending says that there is nothing to cancel, errWaits that there is nothing to retry.
var (
	errNotPending = errors.New("it does not wait any more")
	errWaits      = errors.New("it waits already")
)

// changeOne changes a request in a transaction of its own, and logs who has asked for it.
func (s *Server) changeOne(ctx context.Context, r *http.Request, action, key string) error {
	err := pgx.BeginFunc(ctx, s.options.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '5s'`); err != nil {
			return err
		}
		if action == actionRetry {
			receipt, err := outbox.Retry(ctx, tx, key)
			if err == nil && receipt.Duplicate {
				err = errWaits
			}
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
	httplimit.Keep(r)
	http.Redirect(w, r, s.guard.subpath+"/", http.StatusSeeOther)
}
