package admin

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/lastseat/lastseat/internal/inspect"
	"github.com/lastseat/lastseat/outbox"
)

// chosen says which requests a list shows.
type chosen struct {
	Status, Code, Kind, Since string
}

// Query is the list's address, encoded.
func (c chosen) Query() template.URL {
	query := url.Values{"status": {c.Status}, "code": {c.Code}, "kind": {c.Kind}, "since": {c.Since}}
	return template.URL(query.Encode())
}

func choose(form func(string) string) chosen {
	c := chosen{Status: form("status"), Code: form("code"), Kind: form("kind"), Since: form("since")}
	if _, known := ages[c.Since]; !known {
		c.Since = "7 days"
	}
	return c
}

// ages are how far back a list may look.
var ages = map[string]time.Duration{
	"1 hour": time.Hour, "1 day": 24 * time.Hour, "7 days": 7 * 24 * time.Hour, "30 days": 30 * 24 * time.Hour, "ever": 0,
}

// filter wants the requests that were chosen. It looks at so many jobs and outcomes, and no more, that a page is quick
// even if hardly any of a hundred million is wanted.
func (c chosen) filter(limit int) inspect.Filter {
	filter := inspect.Filter{Since: ages[c.Since], Limit: limit, Look: mostLooked}
	for _, wanted := range []struct {
		value string
		list  *[]string
	}{{c.Status, &filter.Statuses}, {c.Code, &filter.Codes}, {c.Kind, &filter.Kinds}} {
		if wanted.value != "" {
			*wanted.list = []string{wanted.value}
		}
	}
	return filter
}

type requestsPage struct {
	chosen
	Ages     []string
	Statuses []string
	Requests []outbox.Outcome
	Next     string // the cursor of the next page
	Action   string // that an operator may ask for: retry, cancel, or none
	All      bool   // for all that are chosen
}

const (
	mostListed = 50
	mostLooked = 20_000
	lookWithin = 100 * time.Millisecond // where that many take longer: another page goes on
)

func (s *Server) requests(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), pageLimit)
	defer cancel()
	query := r.URL.Query()
	page := requestsPage{
		chosen: choose(query.Get), Ages: []string{"1 hour", "1 day", "7 days", "30 days", "ever"},
		Statuses: []string{"", "pending", "applied", "rejected", "failed"},
	}
	switch page.Status {
	case string(outbox.Failed):
		page.Action = actionRetry
	case string(outbox.Pending):
		page.Action = actionCancel
	}
	filter := page.filter(mostListed)
	filter.After, filter.Within = query.Get("after"), lookWithin
	next, err := inspect.ListPage(ctx, s.options.Pool, filter, func(o outbox.Outcome) error {
		page.Requests = append(page.Requests, o)
		return nil
	})
	page.Next = next
	return page, err
}
