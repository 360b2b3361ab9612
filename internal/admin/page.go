package admin

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/internal/quote"
)

//go:embed pages
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000Z") },
	"ago": func(s float64) string {
		return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
	},
	"quoted": quote.Literal,
	"shell":  quote.Word,
}).ParseFS(files, "pages/*.html"))

// view is what every page shows.
type view struct {
	Base     string // the subpath
	Title    string
	Query    string
	Operator bool
	Login    bool // the viewer may show the operator's token
	River    bool // they may see River UI
	Data     any
}

// errNotFound says that nothing has an id.
var errNotFound = errors.New("nothing has this id")

// page makes a page of what read returns.
func (s *Server) page(name, title string, read func(r *http.Request) (any, error)) http.Handler {
	return s.guard.viewers(s.limited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := any(nil), errNotFound
		if storable(r.URL.Query()) {
			data, err = read(r)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.show(w, r, http.StatusOK, name, title, data)
	})))
}

// storable tells whether what a request asks for can be the name of anything: Postgres has no other text.
func storable(asked url.Values) bool {
	for _, values := range asked {
		for _, value := range values {
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
				return false
			}
		}
	}
	return true
}

// refuse shows why there is no page.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusServiceUnavailable
	if errors.Is(err, errNotFound) || errors.Is(err, inspect.ErrNoRequest) ||
		errors.Is(err, inspect.ErrCursor) {
		code = http.StatusNotFound
	}
	told := err.Error()
	asked := r.URL.Query()
	if id := cmp.Or(asked.Get("key"), asked.Get("id")); code == http.StatusNotFound && id != "" && storable(asked) {
		told += ": " + id
	}
	s.show(w, r, code, "error.html", "Nothing to show", told)
}

func (s *Server) show(w http.ResponseWriter, r *http.Request, code int, name, title string, data any) {
	var page bytes.Buffer
	may := s.guard.role(r)
	isOperator := may == operator
	err := templates.ExecuteTemplate(&page, name, view{
		Base: s.guard.subpath, Title: title, Query: r.FormValue("q"), Operator: isOperator,
		Login: !isOperator && s.options.OperatorToken != "", River: s.seesRiver(may), Data: data,
	})
	if err != nil {
		s.options.Logger.ErrorContext(r.Context(), "admin page", slog.String("error", err.Error()))
		http.Error(w, "the page can't be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = page.WriteTo(w)
}

// pages adds the pages to a mux.
func (s *Server) pages(mux *http.ServeMux) {
	mux.Handle("GET /{$}", s.page("now.html", "Now", s.now))
	mux.Handle("GET /request", s.page("request.html", "Request", s.request))
	mux.Handle("GET /account", s.page("account.html", "Account", s.account))
	mux.Handle("GET /payment", s.page("payment.html", "Payment", s.payment))
	mux.Handle("GET /reservation", s.page("reservation.html", "Reservation", s.reservation))
	mux.Handle("GET /resource", s.page("resource.html", "Resource", s.resource))
	mux.Handle("GET /resources", s.page("resources.html", "Resources", s.resources))
	mux.Handle("GET /requests", s.page("requests.html", "Requests", s.requests))
	mux.Handle("GET /search", s.page("search.html", "Search", s.search))
	mux.Handle("POST /change", s.guard.atLeast(operator, s.limited(http.HandlerFunc(s.change))))
	mux.Handle("GET /operator", http.HandlerFunc(s.becomeOperator))
	for _, name := range []string{"style.css", "live.js", "icon.svg"} {
		mux.Handle("GET /"+name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, files, "pages/"+name)
		}))
	}
	mux.Handle("GET /live", s.guard.viewers(s.live))
}

const pageLimit = 8 * time.Second

type nowPage struct {
	inspect.Overview
	Doctor  examination
	Audit   *AuditStatus // nil: it is turned off
	Picture picture      // of the last hour
	Refresh bool         // by the page itself, for a browser without scripts
}

// Count is a number of jobs that were counted up to a bound.
func (nowPage) Count(n int) string {
	if n > mostDue {
		return "over 10,000"
	}
	return strconv.Itoa(n)
}

// Trouble is what is not as it should be.
func (e examination) Trouble() (found []Finding) {
	if e.err != nil {
		found = []Finding{{Check: "connection", Severity: wrong, Told: e.err.Error()}}
	}
	for _, f := range e.Findings {
		if f.Severity != fine {
			found = append(found, f)
		}
	}
	return found
}

// Fine is all else that was looked at.
func (e examination) Fine() (found []Finding) {
	for _, f := range e.Findings {
		if f.Severity == fine {
			found = append(found, f)
		}
	}
	return found
}

func (s *Server) now(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	overview, err := inspect.Look(ctx, s.options.Pool, time.Minute, mostDue+1)
	if err != nil {
		return nil, err
	}
	now := nowPage{
		Overview: overview, Doctor: s.ready.glance(ctx), Picture: s.live.picture(), Refresh: r.URL.Query().Has("refresh"),
	}
	if s.options.Audit != nil {
		status := s.options.Audit()
		now.Audit = &status
	}
	return now, nil
}

type requestPage struct {
	inspect.Explanation
	Detail      string
	Args        string
	Transfers   []transferRow
	Payment     string // that it made, or that its arguments name; empty: none
	Reservation string
}

// Full tells whether Ahead was counted no further.
func (p requestPage) Full() bool { return p.Ahead == mostDue }

type transferRow struct {
	ID       int64
	From, To string
	Amount   int64
	Currency string
	Payment  string // empty: none
}

// explainBounds keep the page of a request quick behind a long backlog.
var explainBounds = inspect.Bounds{Ahead: mostDue, Jobs: mostDue}

const transfersSQL = `
	SELECT t.id, t.from_account, t.to_account, t.amount, t.currency, coalesce(t.payment_id, '')
	FROM lastseat.transfers t
	WHERE t.key = $1 ORDER BY t.leg LIMIT 100`

// madeSQL has the payment and the reservation that a request made.
const madeSQL = `
	SELECT coalesce((SELECT p.id FROM lastseat.payments p WHERE p.key = $1 LIMIT 1), ''),
	       coalesce((SELECT r.id FROM lastseat.reservations r WHERE r.key = $1 LIMIT 1), '')`

func (s *Server) request(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	key := r.URL.Query().Get("key")
	bounds := explainBounds
	bounds.HideArgs = !s.seesRiver(s.guard.role(r))
	explained, err := inspect.Explain(ctx, s.options.Pool, key, bounds)
	if err != nil {
		return nil, err
	}
	found := requestPage{Explanation: explained, Detail: string(explained.Detail)}
	named := struct {
		Payment     string `json:"payment"`
		Reservation string `json:"reservation"`
	}{}
	if explained.Job != nil && explained.Job.Args != nil {
		found.Args = string(explained.Job.Args)
		_ = json.Unmarshal(explained.Job.Args, &named) // arguments that are wrong name nothing
	}
	err = read(ctx, s.options.Pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, transfersSQL, key)
		if err != nil {
			return err
		}
		if found.Transfers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[transferRow]); err != nil {
			return err
		}
		return tx.QueryRow(ctx, madeSQL, key).Scan(&found.Payment, &found.Reservation)
	})
	found.Payment = cmp.Or(found.Payment, named.Payment)
	found.Reservation = cmp.Or(found.Reservation, named.Reservation)
	return found, err
}
