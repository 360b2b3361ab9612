package outbox

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// Where outcomes that have failed alternate with others, each is a link of its own. However many they are, a statement
// has few of them, and there are few statements to prepare.
func TestManyLinksInFewStatements(t *testing.T) {
	t.Parallel()
	const links = 10_001 // with 7 parameters each: more than the 65,535 that a statement may have
	log := &history.Log{}
	for i := range links {
		log.Add([]string{history.Requests, history.Failed}[i%2], strconv.Itoa(i), []byte{1})
	}
	c, write := &chain{head: &history.Head{}}, &pgx.Batch{}
	c.queue(write, log, time.Now())
	var numbers, statements = 0, make(map[string]bool)
	for _, query := range write.QueuedQueries {
		statements[query.SQL] = true
		if n := len(query.Arguments); n > 65_535 {
			t.Errorf("a statement has %d parameters", n)
		}
		for i := 1; i < len(query.Arguments); i += 7 {
			if numbers++; query.Arguments[i] != int64(numbers) {
				t.Fatalf("link %v comes as the %d-th", query.Arguments[i], numbers)
			}
		}
	}
	if numbers != links || len(statements) > linksAtOnce || c.next.Number != links {
		t.Errorf("%d links in %d statements, the last is %d", numbers, len(statements), c.next.Number)
	}
}
