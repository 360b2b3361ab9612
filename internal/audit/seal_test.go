package audit_test

import (
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/lastseat/lastseat/internal/audit"
)

// sealOf audits and returns the seal, through JSON, signed.
func sealOf(t *testing.T, db audit.Beginner, key ed25519.PrivateKey) *audit.Seal {
	t.Helper()
	var seal *audit.Seal
	ok, err := audit.RunObserved(t.Context(), db, audit.Observer{Seal: func(s *audit.Seal) { seal = s }})
	if err != nil || !ok || seal == nil || len(seal.Heads) == 0 {
		t.Fatalf("%t, %v, seal %v", ok, err, seal)
	}
	seal.Sign(key)
	text, err := json.Marshal(seal)
	if err != nil {
		t.Fatal(err)
	}
	read, err := audit.ParseSeal(text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func since(t *testing.T, db audit.Beginner, seal *audit.Seal) string {
	t.Helper()
	var told []string
	_, err := audit.RunObserved(t.Context(), db, audit.Observer{Since: seal, Report: func(f audit.Finding) {
		if f.Check == "history.chain" {
			told = append(told, f.Violations...)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(told, "\n")
}

// Whoever rewrites the history with all its hashes, or cuts it off together with the rows, is seen by a seal.
func TestSeal(t *testing.T) {
	t.Parallel()
	pool := filled(t)
	drain(t, pool)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	seal := sealOf(t, pool, key)
	public, _ := key.Public().(ed25519.PublicKey)
	if !seal.Verify(public) {
		t.Error("the signature does not hold")
	}
	forged := *seal
	forged.Heads = slices.Clone(seal.Heads)
	forged.Heads[0].Number++
	if forged.Verify(public) || (&audit.Seal{}).Verify(public) {
		t.Error("a signature holds for another seal")
	}

	if told := since(t, pool, seal); told != "" {
		t.Errorf("at once: %s", told)
	}
	call(t, pool, `transfer('after', 'bank', 'ada', 1, 'EUR')`, `open_account('after', 'EUR')`)
	drain(t, pool)
	if told := since(t, pool, seal); told != "" {
		t.Errorf("after more was settled: %s", told)
	}
	for name, sql := range map[string]string{
		"cut": `DELETE FROM lastseat.history WHERE number > 2`,
		"rewritten": `UPDATE lastseat.history h SET hash = sha256('x') FROM (SELECT chain, max(number) AS number
			FROM lastseat.history WHERE at < (SELECT max(at) FROM lastseat.history) GROUP BY chain) l
			WHERE h.chain = l.chain AND h.number >= l.number - 20`,
	} {
		if told := since(t, past{pool, sql}, seal); !strings.Contains(told, "sealed") {
			t.Errorf("%s: %q", name, told)
		}
	}
	before := `UPDATE lastseat.history SET digests[1] = sha256('x') WHERE number = 1 AND chain = 'lastseat 0/1'`
	if told := since(t, past{pool, before}, seal); !strings.Contains(told, `link 1 of chain "lastseat 0/1"`) {
		t.Errorf("a digest of before the seal: %q", told)
	}
}
