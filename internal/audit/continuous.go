package audit

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/history"
)

// Continuous proves what was settled since its last round, a bounded piece at a time: that each new link of the history
// continues the one before, that the rows which it names are there as it has them, and that their accounts add up. It
// reads by key, so a round costs the same in a database of any size.
//
// How far it has come it keeps in memory, with the hash of the last link: so whoever can write the whole database can't
// have it believe in another past while the process lives. A new one begins with the links of the last hour.
// [Run] proves what it does not: rows that were changed after they had been proved, and rows that no link names.
type Continuous struct {
	// Rows is how many rows a round proves, or a few links more; default 50,000.
	Rows int

	chains map[string]history.Head
	open   map[openKey][]note // noted, and not yet seen as noted
	told   map[string]bool    // violations that hold
	known  knownTransfers
}

// openKey is a row that the history has noted.
type openKey struct {
	table int // of newRows
	id    string
}

type note struct {
	relation string
	version  int64
	digest   []byte
	at       time.Time
}

// Round is what a round of a [Continuous] has found.
type Round struct {
	Links, Rows int           // that were proved
	Behind      time.Duration // since when a link waits to be proved; 0: none does
	New         []string      // violations that were not there at the round before
	Mended      []string      // violations that are no more
	All         []string      // violations that hold
}

const (
	roundRows    = 50_000
	linksAtATime = 4 // of a chain, in turns
	// A chain that is met for the first time is proved from an hour ago, or from so many links before its end.
	firstLinks = 1000
)

// The planner settings keep every access by key or along one index, as in the lane's session.
const roundSQL = `SET LOCAL timezone = 'UTC'; SET LOCAL statement_timeout = '20s'; SET LOCAL lock_timeout = '1s';
	SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
	SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off`

// Round proves the next piece, on one snapshot. It only reads. After an error the next round begins where this one did.
func (c *Continuous) Round(ctx context.Context, db Beginner) (Round, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return Round{}, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	defer readEveryTime(tx.Conn())()
	if _, err := tx.Exec(ctx, roundSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		return Round{}, err
	}
	next := c.copied()
	r := &round{Continuous: next, tx: tx, before: c.told}
	if err := r.do(ctx); err != nil {
		return Round{}, err
	}
	*c = *next
	return r.result(), nil
}

// copied is what a round goes on with. Nothing is left of it if the round fails.
func (c *Continuous) copied() *Continuous {
	next := &Continuous{
		Rows: c.Rows, chains: make(map[string]history.Head), open: make(map[openKey][]note), told: make(map[string]bool),
		known: c.known.copied(),
	}
	maps.Copy(next.chains, c.chains)
	for key, notes := range c.open {
		next.open[key] = slices.Clone(notes)
	}
	return next
}

// round is one round at work.
type round struct {
	*Continuous
	tx     pgx.Tx
	before map[string]bool
	Round
	ended   bool            // every chain was read to its end
	waiting map[string]bool // rows of history_waiting, which a lane is about to note: RELATION KEY
	removed []time.Time     // for each of newRows: what was settled before may have been removed
}

// violation is told; what was told for good stays so.
func (r *round) violation(format string, args ...any) { r.told[fmt.Sprintf(format, args...)] = true }

func (r *round) result() Round {
	for told := range r.told {
		if !r.before[told] {
			r.New = append(r.New, told)
		}
	}
	for told := range r.before {
		if !r.told[told] {
			r.Mended = append(r.Mended, told)
		}
	}
	slices.Sort(r.New)
	slices.Sort(r.Mended)
	r.All = slices.Sorted(maps.Keys(r.told))
	return r.Round
}

func (r *round) do(ctx context.Context) error {
	for told := range r.before {
		if forGood(told) {
			r.told[told] = true
		}
	}
	if err := r.links(ctx); err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	if err := r.context(ctx); err != nil {
		return err
	}
	for table := range newRows {
		if err := r.rows(ctx, table); err != nil {
			return fmt.Errorf("read what the history notes of %s: %w", newRows[table].relations[0], err)
		}
	}
	if err := r.transfers(ctx); err != nil {
		return fmt.Errorf("read new transfers: %w", err)
	}
	return nil
}

// The ends of all chains. The recursion goes from one to the next along the index.
const endsSQL = `
	WITH RECURSIVE c(chain) AS (
		(SELECT h.chain FROM lastseat.history h ORDER BY h.chain LIMIT 1)
		UNION ALL
		SELECT (SELECT h.chain FROM lastseat.history h WHERE h.chain > c.chain ORDER BY h.chain LIMIT 1)
		FROM c WHERE c.chain IS NOT NULL)
	SELECT c.chain, e.number FROM c, LATERAL (
		SELECT h.number FROM lastseat.history h WHERE h.chain = c.chain ORDER BY h.number DESC LIMIT 1) e`

// links reads new links of all chains, in turns, until there are none or the round has enough.
func (r *round) links(ctx context.Context) error {
	if err := r.stillThere(ctx); err != nil {
		return err
	}
	rows, err := r.tx.Query(ctx, endsSQL)
	if err != nil {
		return err
	}
	ends := make(map[string]int64)
	var chain string
	var number int64
	if _, err = pgx.ForEachRow(rows, []any{&chain, &number}, func() error {
		ends[chain] = number
		return nil
	}); err != nil {
		return err
	}
	for chain, end := range ends {
		if _, known := r.chains[chain]; known {
			continue
		}
		if r.known.begun { // it began since the last round: all that it notes is new, whatever times its links have
			r.chains[chain] = history.Head{}
			continue
		}
		if r.chains[chain], err = r.beginning(ctx, chain, end); err != nil {
			return err
		}
	}
	enough := r.Continuous.Rows
	if enough <= 0 {
		enough = roundRows
	}
	for r.Round.Rows < enough && !r.ended {
		r.ended = true
		for chain, end := range ends {
			if r.chains[chain].Number >= end {
				continue
			}
			r.ended = false
			if err := r.piece(ctx, chain); err != nil {
				return err
			}
		}
	}
	return r.measure(ctx, ends)
}

const (
	headsThereSQL = `
	SELECT k.chain, h.hash FROM unnest($1::text[], $2::bigint[]) AS k(chain, number), LATERAL (
		SELECT h.hash FROM lastseat.history h WHERE h.chain = k.chain COLLATE "C" AND h.number = k.number OFFSET 0) h`

	beginningSQL = `
	SELECT h.number, h.hash FROM lastseat.history h
	WHERE h.chain = $1 AND h.number BETWEEN $2 AND $3 AND (h.number = $2 OR h.at < now() - interval '1 hour')
	ORDER BY h.number DESC LIMIT 1`
)

// stillThere compares the links to which the chains were proved with those that stand there now.
func (r *round) stillThere(ctx context.Context) error {
	var chains []string
	var numbers []int64
	for chain, head := range r.chains {
		if head.Number > 0 {
			chains, numbers = append(chains, chain), append(numbers, head.Number)
		}
	}
	rows, err := r.tx.Query(ctx, headsThereSQL, chains, numbers)
	if err != nil {
		return err
	}
	there := make(map[string][]byte)
	var chain string
	var hash []byte
	if _, err = pgx.ForEachRow(rows, []any{&chain, &hash}, func() error {
		there[chain] = bytes.Clone(hash)
		return nil
	}); err != nil {
		return err
	}
	for _, chain := range chains {
		if head := r.chains[chain]; !bytes.Equal(there[chain], head.Hash) {
			r.violation("link %d of chain %q was proved, and is not there: the history was rewritten or cut, or the "+
				"database was restored as of before", head.Number, chain)
			delete(r.chains, chain)
			r.known = knownTransfers{} // what the chain noted is not known any more
		}
	}
	return nil
}

// beginning is the link after which the first round proves a chain.
func (r *round) beginning(ctx context.Context, chain string, end int64) (head history.Head, err error) {
	rows, err := r.tx.Query(ctx, beginningSQL, chain, max(1, end-firstLinks), end)
	if err != nil {
		return head, err
	}
	_, err = pgx.ForEachRow(rows, []any{&head.Number, &head.Hash}, func() error { return nil })
	if head.Number == 1 {
		head = history.Head{} // the first link has to continue nothing
	}
	return head, err
}

const pieceSQL = `
	SELECT h.chain, h.number, h.at, h.relation, h.keys, h.digests, h.hash
	FROM lastseat.history h WHERE h.chain = $1 AND h.number > $2 ORDER BY h.number LIMIT $3`

func (r *round) piece(ctx context.Context, chain string) error {
	rows, err := r.tx.Query(ctx, pieceSQL, chain, r.chains[chain].Number, linksAtATime)
	if err != nil {
		return err
	}
	links, err := pgx.CollectRows(rows, func(pgx.CollectableRow) (storedLink, error) {
		return scanLink(rows)
	})
	for i := range links {
		r.link(&links[i])
	}
	return err
}

func (r *round) link(l *storedLink) {
	before := r.chains[l.Chain]
	switch {
	case l.Number != before.Number+1:
		r.violation("link %d of chain %q: link %d is missing", l.Number, l.Chain, before.Number+1)
	case !bytes.Equal(l.hash, l.Hash(before.Hash)):
		r.violation("link %d of chain %q (%s %s ... at %s) was changed, or the one before it",
			l.Number, l.Chain, l.Relation, l.Keys[0], l.At.Format(time.RFC3339))
	}
	r.chains[l.Chain] = history.Head{Number: l.Number, Hash: l.hash}
	r.Links++
	r.Round.Rows += len(l.Keys)
	table := slices.IndexFunc(newRows, func(t table) bool { return slices.Contains(t.relations, l.Relation) })
	if table < 0 {
		return // what was removed on record
	}
	for i, key := range l.Keys {
		id, version := identify(newRows[table], key)
		at := openKey{table, id}
		r.open[at] = append(r.open[at], note{l.Relation, version, l.Digests[i], l.At})
		if l.Relation == history.Transfers {
			r.known.add(at.number())
		}
	}
}

// measure says how long the oldest link has waited that was not proved.
func (r *round) measure(ctx context.Context, ends map[string]int64) error {
	for chain, end := range ends {
		if r.chains[chain].Number >= end {
			continue
		}
		var waits float64
		err := r.tx.QueryRow(ctx, `SELECT coalesce((SELECT extract(epoch FROM now() - h.at)
			FROM lastseat.history h WHERE h.chain = $1 AND h.number > $2 ORDER BY h.number LIMIT 1), 0)::float8`,
			chain, r.chains[chain].Number).Scan(&waits)
		if err != nil {
			return err
		}
		r.Behind = max(r.Behind, time.Duration(waits*float64(time.Second)))
	}
	return nil
}
