package main

import (
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/clitest"
)

// One key on two lines may be a payment too few. So the lines are named, whether the first is in the same chunk, an
// earlier one, or of an earlier import; and lines that were asked for by another import are not.
func TestImportNamesRepeatedLines(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	file := transfers(6, map[int]string{4: "k2,bank,ada,0.01,EUR,", 7: "k3,bank,ada,0.01,EUR,"})
	for _, chunk := range []string{"100", "2", "100"} {
		got := s.importFile(t, file, "--chunk", chunk)
		got.Succeeds(t)
		counts := clitest.Lines[counts](t, got)[0]
		want := []repeated{{4, 2, "k2"}, {7, 3, "k3"}}
		if counts.RepeatedLines != 2 || len(counts.Repeated) != 2 || counts.Repeated[0] != want[0] ||
			counts.Repeated[1] != want[1] {
			t.Errorf("chunks of %s: %+v, want %v", chunk, counts, want)
		}
	}
	text := runIn(t, s.url, strings.NewReader(file), "import", "-")
	text.Succeeds(t)
	if want := "line 4 repeats line 2 (key \"k2\"): it was asked for once\n"; !strings.Contains(text.Out, want) {
		t.Errorf("printed %q, want %q in it", text.Out, want)
	}
	once := s.importFile(t, transfers(6, nil))
	if counts := clitest.Lines[counts](t, once)[0]; counts.RepeatedLines != 0 || counts.Duplicates == 0 {
		t.Errorf("of another import: %+v", counts)
	}
	many := runIn(t, s.url, strings.NewReader(transfersHeader+strings.Repeat("k2,bank,ada,0.01,EUR,\n", 50)), "import",
		"-")
	if !strings.Contains(many.Out, "29 more lines repeat earlier ones") || strings.Count(many.Out, "\n") != 22 {
		t.Errorf("printed %q", many.Out)
	}
}

// A file that ends in the middle of an amount moves nothing until somebody says that it is whole.
func TestImportOfACutFile(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	const cut = "key,from_account,to_account,currency,amount\nk1,bank,ada,EUR,5\nk2,bank,ada,EUR,1"
	s.importFile(t, cut).Fails(t, 65, "line 3: ", `"1"`, "--allow-missing-newline")
	s.asked(t, "k", 0)
	s.importFile(t, cut, "--allow-missing-newline").Succeeds(t)
	s.asked(t, "k", 2)
}

// JSON Lines name a queue and a time, as enqueue_many's objects do, and CSV has metadata.
func TestImportQueueTimeAndMetadata(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.importFile(t, `{"kind":"own.kind","key":"q","args":{},"queue":"own","scheduled_at":"2099-01-01T00:00:00Z"}`).
		Succeeds(t)
	s.importFile(t, "key,from_account,to_account,amount,currency,metadata\nm,bank,ada,1,EUR,\"{\"\"order\"\": 7}\"\n").
		Succeeds(t)
	s.importFile(t,
		`{"kind":"payment.transfer","key":"r","args":{"from":"bank","to":"ada","amount":1,"currency":"EUR"},"queue":"own"}`).
		Fails(t, 65, "line 1: ", `queue "own"`)
	var own, metadata int
	err := s.pool.QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE queue = 'own' AND state = 'scheduled' AND scheduled_at = '2099-01-01 00:00:00Z'),
		       count(*) FILTER (WHERE args -> 'metadata' = '{"order": 7}')
		FROM lastseat.river_job`).Scan(&own, &metadata)
	if err != nil || own != 1 || metadata != 1 {
		t.Errorf("%d jobs in the queue own for 2099, %d with metadata, %v; want 1 of each", own, metadata, err)
	}
}
