package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"riverqueue.com/riverui"

	"github.com/lastseat/lastseat/schema"
)

// NewRiverUI makes River UI for the jobs of a database, under a path. It serves nothing right before it is started, and
// asks nobody who they are: put a guard in front of it.
func NewRiverUI(pool *pgxpool.Pool, prefix string) (*riverui.Handler, error) {
	client, err := river.NewClient(riverpgxv5.New(pool),
		&river.Config{Schema: schema.Name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("river UI: %w", err)
	}
	handler, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(client, nil), Logger: slog.New(riverLog{}), Prefix: prefix,
	})
	if err != nil {
		return nil, fmt.Errorf("river UI: %w", err)
	}
	return handler, nil
}

// riverPages are River UI under /river/. Viewers may GET, and River UI changes nothing then. Operators may change jobs
// and queues; whatever they send is logged.
type riverPages struct {
	ui     *riverui.Handler
	prefix string
	wanted chan struct{}
	want   sync.Once
}

func newRiverPages(pool *pgxpool.Pool, subpath string) (*riverPages, error) {
	prefix := subpath + "/river"
	ui, err := NewRiverUI(pool, prefix)
	return &riverPages{ui: ui, prefix: prefix, wanted: make(chan struct{})}, err
}

// run starts what River UI does in the background when somebody looks for the first time: it counts jobs now and then,
// which a worker whose River UI nobody uses should not pay for.
func (p *riverPages) run(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-p.wanted:
		_ = p.ui.Start(ctx) // it can't fail: its services only start goroutines
	}
}

// riverPolicy lets River UI load what is its own, and nothing else. Its style sheet has pictures in data URLs, and its
// messages, with the reason of a refusal, style themselves inline.
const riverPolicy = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP answers a request of somebody who may make it.
func (p *riverPages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.want.Do(func() { close(p.wanted) })
	w.Header().Set("Content-Security-Policy", riverPolicy)
	with, address := *r, *r.URL
	address.Path = strings.TrimSuffix(p.prefix, "/river") + address.Path // which the guard has stripped
	if address.RawPath != "" {
		address.RawPath = strings.TrimSuffix(p.prefix, "/river") + address.RawPath
	}
	with.URL = &address
	if path.Ext(address.Path) == ".svg" { // River UI takes it for text, which no browser shows as a picture
		w = &pictureWriter{w}
	}
	p.ui.ServeHTTP(w, &with)
}

// pictureWriter writes an SVG picture.
type pictureWriter struct{ http.ResponseWriter }

func (w *pictureWriter) Write(b []byte) (int, error) {
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/xml") ||
		strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
		w.Header().Set("Content-Type", "image/svg+xml")
	}
	return w.ResponseWriter.Write(b)
}

// seesRiver tells whether somebody of a role may see River UI, which shows the arguments of jobs.
func (s *Server) seesRiver(r role) bool { return r == operator || r == viewer && !s.options.HideArgs }

// addRiver adds River UI to a mux.
func (s *Server) addRiver(mux *http.ServeMux) {
	look := s.guard.viewers(s.limited(http.HandlerFunc(s.lookByRiver)))
	mux.Handle("GET /river", look)
	mux.Handle("GET /river/", look)
	mux.Handle("/river/", s.guard.atLeast(operator, s.limited(http.HandlerFunc(s.changeByRiver))))
}

func (s *Server) lookByRiver(w http.ResponseWriter, r *http.Request) {
	if !s.seesRiver(s.guard.role(r)) {
		s.show(w, r, http.StatusForbidden, "error.html", "Nothing to show",
			"River UI shows the arguments of jobs, and LASTSEAT_ADMIN_HIDE_ARGS hides them from viewers. "+
				"The operator's token is needed.")
		return
	}
	s.river.ServeHTTP(w, r)
}

// changeByRiver has River UI change something, and logs who has asked for it.
func (s *Server) changeByRiver(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "what was sent can't be read: choose fewer jobs", http.StatusBadRequest)
		return
	}
	jobs := s.jobsIn(r.Context(), body)
	why := &reason{}
	answer := &riverAnswer{ResponseWriter: w, why: why, code: http.StatusOK}
	with := r.WithContext(context.WithValue(r.Context(), reasonKey{}, why))
	with.Body = io.NopCloser(bytes.NewReader(body))
	s.river.ServeHTTP(answer, with)
	s.logRiver(r, jobs, answer)
}

// riverJob is a job that an operator has named, and the key of the request that it carries, if it carries one.
type riverJob struct {
	ID  int64
	Key string
}

// jobsIn are the jobs that a request to River UI names. The keys are read before the change, which may delete the jobs.
// Without an answer of the database, there are ids alone.
func (s *Server) jobsIn(ctx context.Context, body []byte) (jobs []riverJob) {
	var named struct {
		IDs []json.Number `json:"ids"`
	}
	if json.Unmarshal(body, &named) != nil { // River UI will say so
		return nil
	}
	ids := make([]int64, 0, len(named.IDs))
	for _, number := range named.IDs {
		id, err := number.Int64()
		if err != nil || len(ids) == mostChanged {
			return nil // River UI refuses this, too
		}
		ids, jobs = append(ids, id), append(jobs, riverJob{ID: id})
	}
	rows, err := s.options.Pool.Query(ctx, riverJobsSQL, ids)
	if err != nil {
		return jobs
	}
	if found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[riverJob]); err == nil {
		return found
	}
	return jobs
}

const riverJobsSQL = `
	SELECT asked.id, coalesce(j.key, '') FROM unnest($1::bigint[]) WITH ORDINALITY AS asked(id, n)
	LEFT JOIN LATERAL (SELECT q.args ->> 'key' AS key FROM lastseat.river_job q WHERE q.id = asked.id OFFSET 0) j ON true
	ORDER BY asked.n`

// logRiver logs a change by River UI: a line for each job, as for each request that the pages change.
func (s *Server) logRiver(r *http.Request, jobs []riverJob, answer *riverAnswer) {
	who, _, _ := r.BasicAuth()
	level, told := slog.LevelInfo, "done"
	if answer.code >= http.StatusBadRequest {
		level, told = slog.LevelWarn, answer.why.text
		if told == "" {
			told = http.StatusText(answer.code)
		}
	}
	log, from, result := s.options.Logger, slog.String("from", r.RemoteAddr), slog.String("result", told)
	asked := strings.TrimPrefix(r.URL.Path, "/river/api/")
	for _, job := range jobs {
		log.LogAttrs(r.Context(), level, "operator changes a job in River UI", slog.String("who", who),
			slog.String("action", path.Base(asked)), slog.Int64("job_id", job.ID), slog.String("key", job.Key), from, result)
	}
	if len(jobs) == 0 {
		log.LogAttrs(r.Context(), level, "operator changes something in River UI", slog.String("who", who),
			slog.String("action", r.Method+" "+asked), from, result)
	}
}

// reason is why River UI refuses something. It tells nobody but its log.
type reason struct{ text string }

type reasonKey struct{}

// riverLog is River UI's log. It keeps the reason of a refusal for the operator who has asked, and nothing else: River
// UI logs every request.
type riverLog struct{}

func (riverLog) Enabled(context.Context, slog.Level) bool { return true }
func (l riverLog) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l riverLog) WithGroup(string) slog.Handler          { return l }

func (riverLog) Handle(ctx context.Context, record slog.Record) error {
	if why, ok := ctx.Value(reasonKey{}).(*reason); ok {
		record.Attrs(func(attr slog.Attr) bool {
			if attr.Key == "error" || attr.Key == "internal_error" {
				why.text = attr.Value.String()
			}
			return true
		})
	}
	return nil
}

// riverAnswer is River UI's answer to a change. Where that would be "Internal server error", it has the reason: the
// database refuses to delete a job that carries a pending request, for example.
type riverAnswer struct {
	http.ResponseWriter

	why  *reason
	code int
	said bool
}

func (a *riverAnswer) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

func (a *riverAnswer) Write(b []byte) (int, error) {
	if a.code != http.StatusInternalServerError || a.why.text == "" {
		return a.ResponseWriter.Write(b)
	}
	if a.said {
		return len(b), nil
	}
	a.said = true
	err := json.NewEncoder(a.ResponseWriter).Encode(map[string]string{"message": a.why.text})
	return len(b), err
}
