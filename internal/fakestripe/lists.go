package fakestripe

import (
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
)

// item is one object of a list. Only those of the page that is asked for are made: a look may read thousands.
type item struct {
	id     string
	object func() any
}

// list is a page: the newest first, from behind starting_after on.
func list(path string, items []item, values url.Values) response {
	limit := 10
	if given := values.Get("limit"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > 100 {
			return invalid("limit", "", "Invalid limit: it is 1 to 100.")
		}
		limit = n
	}
	if after := values.Get("starting_after"); after != "" {
		at := slices.IndexFunc(items, func(i item) bool { return i.id == after })
		if at < 0 {
			return missing("starting_after", "object", after)
		}
		items = items[at+1:]
	}
	more := len(items) > limit
	data := make([]any, 0, limit)
	for _, i := range items[:min(limit, len(items))] {
		data = append(data, i.object())
	}
	return success(map[string]any{"object": "list", "url": path, "has_more": more, "data": data})
}

func (s *Server) getIntent(r *http.Request, values url.Values) response {
	i := s.intents[r.PathValue("id")]
	if i == nil {
		return missing("intent", "payment_intent", r.PathValue("id"))
	}
	return success(i.object(expands(values, "latest_charge")))
}

func expands(values url.Values, field string) bool {
	for name, given := range values {
		if len(name) > 6 && name[:7] == "expand[" && slices.Contains(given, field) {
			return true
		}
	}
	return false
}

func (s *Server) listIntents(_ *http.Request, values url.Values) response {
	items, expanded, customer := make([]item, 0), expands(values, "data.latest_charge"), values.Get("customer")
	inRange := within(values)
	for _, i := range slices.Backward(s.order) {
		if inRange(i.created) && (customer == "" || customer == i.customer) {
			items = append(items, item{i.id, func() any { return i.object(expanded) }})
		}
	}
	return list("/v1/payment_intents", items, values)
}

// within makes a test of times by the range of created[gte] and its like.
func within(values url.Values) func(created int64) bool {
	from, to := int64(0), int64(math.MaxInt64)
	for name, narrow := range map[string]func(limit int64){
		"created[gte]": func(limit int64) { from = max(from, limit) },
		"created[gt]":  func(limit int64) { from = max(from, limit+1) },
		"created[lte]": func(limit int64) { to = min(to, limit) },
		"created[lt]":  func(limit int64) { to = min(to, limit-1) },
	} {
		if given := values.Get(name); given != "" {
			limit, err := strconv.ParseInt(given, 10, 64)
			if err != nil {
				return func(int64) bool { return false }
			}
			narrow(limit)
		}
	}
	return func(created int64) bool { return from <= created && created <= to }
}

// clause is the one kind of query that is understood: metadata['name']:'value'.
var clause = regexp.MustCompile(`^metadata\[['"]([^'"]+)['"]\]:['"]([^'"]*)['"]$`)

// searchIntents finds what is older than the lag of the search.
func (s *Server) searchIntents(_ *http.Request, values url.Values) response {
	parts := clause.FindStringSubmatch(values.Get("query"))
	if parts == nil {
		return invalid("query", "", "This query is not understood.")
	}
	visible := s.options.Now().Add(-s.options.SearchLag).Unix()
	data := make([]any, 0)
	for _, i := range slices.Backward(s.order) {
		if i.metadata[parts[1]] == parts[2] && i.created <= visible {
			data = append(data, i.object(false))
		}
	}
	return success(map[string]any{
		"object": "search_result", "url": "/v1/payment_intents/search", "has_more": false, "next_page": nil, "data": data,
	})
}
