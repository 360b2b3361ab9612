package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/testdb"
)

// asJavaScript prints the numbers of JSON lines as JavaScript has read them, with their types.
const asJavaScript = `
const lines = require('fs').readFileSync(0, 'utf8').trim().split('\n')
const [rich, small, refused, stored] = lines.map(line => JSON.parse(line))
const detail = refused.detail
for (const n of [rich.balance, small.balance, detail.asked, detail.balance, stored.asked, stored.balance])
  console.log(typeof n, BigInt(n).toString())`

// JavaScript reads amounts to the last unit: those that its numbers would round are text, in what the commands print
// and in what the worker has stored.
func TestJavaScriptLosesNothing(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node here")
	}
	s := newShop(t)
	s.transfer(t, "all", "--from", "bank", "--to", "ada", "--amount", "92233720368547758.07").Succeeds(t)
	s.transfer(t, "more", "--from", "bank", "--to", "ada", "--amount", "90071992547409.93").Succeeds(t)
	s.exec(t, `SELECT lastseat.open_account('osaka', 'JPY'),
		lastseat.transfer('osaka', 'tokyo', 'osaka', 9007199254740991, 'JPY')`)
	s.drain(t)
	lines := s.enqueue(t, "balance", "ada", "-o", "json").Out + s.enqueue(t, "balance", "osaka", "-o", "json").Out +
		s.enqueue(t, "outcome", "more", "-o", "json").Out +
		testdb.Scalar[string](t, s.pool, `SELECT detail::text FROM lastseat.requests WHERE key = 'more'`)
	script := exec.CommandContext(t.Context(), node, "-e", asJavaScript)
	script.Stdin = strings.NewReader(lines)
	got, err := script.CombinedOutput()
	const want = `string 9223372036854775807
number 9007199254740991
string 9007199254740993
string -9223372036854775807
string 9007199254740993
string -9223372036854775807
`
	if err != nil || string(got) != want {
		t.Errorf("JavaScript reads\n%s(%v) in\n%s\nwant\n%s", got, err, lines, want)
	}
}
