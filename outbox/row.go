package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Row is a row that a job waits for, because another session has locked it.
type Row struct {
	Table   string   // with its schema: lastseat.accounts
	Columns []string // of its key
	Values  []string // of these columns, as text

	place string // where it is in the table, if that is all that is known
	text  string // what is known of it, if not even that
}

// String is the row as Postgres writes one: lastseat.accounts (id)=(ada).
func (r Row) String() string {
	if r.text != "" {
		return r.text
	}
	if r.place != "" {
		return r.Table + " " + r.place
	}
	return fmt.Sprintf("%s (%s)=(%s)", r.Table, strings.Join(r.Columns, ", "), strings.Join(r.Values, ", "))
}

// lockedPlace is what Postgres adds to an error about a lock: while locking tuple (0,1) in relation "counters".
var lockedPlace = regexp.MustCompile(`(\(\d+,\d+\)).*"([^"]+)"`)

// rowOf is what an error says of the row that a statement waited for in vain.
func rowOf(err error, kind string) Row {
	pgErr := (*pgconn.PgError)(nil)
	if errors.As(err, &pgErr) {
		if parts := lockedPlace.FindStringSubmatch(pgErr.Where); parts != nil {
			return Row{Table: parts[2], place: parts[1]}
		}
		return Row{text: fmt.Sprintf("what %s needs: %s", kind, pgErr.Message)}
	}
	return Row{text: "what " + kind + " needs"}
}

// from is the row in a FROM clause, with its condition.
func (r Row) from() (sql string, args []any) {
	table := pgx.Identifier(strings.SplitN(r.Table, ".", 2)).Sanitize()
	if r.place != "" {
		return table + ` WHERE ctid = $1::text::tid`, []any{r.place}
	}
	conditions := make([]string, len(r.Columns))
	for i, column := range r.Columns {
		conditions[i] = fmt.Sprintf("%s = $%d", pgx.Identifier{column}.Sanitize(), i+1)
		args = append(args, r.Values[i])
	}
	return table + ` WHERE ` + strings.Join(conditions, " AND "), args
}

// holdersSQL finds the sessions whose transactions are $1, which is what a row says of who has locked it: one
// transaction, or the number of a list of them.
const holdersSQL = `
	SELECT a.pid, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, ''), coalesce(a.query, ''),
	       pg_has_role('pg_read_all_stats', 'USAGE') OR a.usename = current_user
	FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
	WHERE k.locktype = 'transactionid' AND k.granted AND k.mode = 'ExclusiveLock'
	  AND k.transactionid = ANY ($1::text[]::xid[]) AND k.pid <> pg_backend_pid()
	ORDER BY a.pid`

// holder is a session that has a row locked.
type holder struct {
	pid                                 int
	role, application, state, statement string
	visible                             bool // whether this session may know the state and the statement
}

// namesakesSQL finds the tables of a name: an error tells of a table without its schema.
const namesakesSQL = `
	SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relname = $1 AND c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
	  AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
	ORDER BY 1 LIMIT 10`

// holders looks for who has a row locked. A prepared transaction has no session, and a row may be free by now.
func (l *lane) holders(ctx context.Context, row Row) ([]holder, error) {
	switch {
	case row.text != "":
		return nil, nil
	case strings.Contains(row.Table, "."):
		return l.holdersOf(ctx, row)
	}
	rows, err := l.conn.Query(ctx, namesakesSQL, row.Table)
	if err != nil {
		return nil, err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, row.Table = range tables {
		if found, err := l.holdersOf(ctx, row); err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, nil
}

// holdersOf looks for who has a row locked whose table is known with its schema.
func (l *lane) holdersOf(ctx context.Context, row Row) ([]holder, error) {
	sql, args := row.from()
	var xmax string
	err := l.conn.QueryRow(ctx, `SELECT xmax::text FROM `+sql, args...).Scan(&xmax)
	if err != nil || xmax == "0" {
		return nil, ignoreNoRows(err)
	}
	found, err := l.sessionsOf(ctx, []string{xmax})
	if err != nil || len(found) > 0 {
		return found, err
	}
	rows, err := l.conn.Query(ctx, `SELECT xid::text FROM pg_get_multixact_members($1::text::xid)`, xmax)
	if err != nil {
		return nil, err
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, nil //nolint:nilerr // it is no such list: the transaction has just ended
	}
	return l.sessionsOf(ctx, members)
}

func ignoreNoRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

func (l *lane) sessionsOf(ctx context.Context, transactions []string) ([]holder, error) {
	rows, err := l.conn.Query(ctx, holdersSQL, transactions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h holder, err error) {
		return h, row.Scan(&h.pid, &h.role, &h.application, &h.state, &h.statement, &h.visible)
	})
}

// attributes are what the log says of who has a row locked.
func attributes(holders []holder) (attrs []slog.Attr) {
	if len(holders) == 0 {
		return []slog.Attr{slog.String("holder", "unknown: it may have just ended, or be a prepared transaction")}
	}
	h := holders[0]
	attrs = append(attrs, slog.Int("pid", h.pid), slog.String("role", h.role), slog.String("state", h.state),
		slog.String("statement", h.statement), slog.String("application", h.application))
	if !h.visible {
		attrs = append(attrs, slog.String("hint", "to see what it does: GRANT pg_read_all_stats TO lastseat_worker"))
	}
	if len(holders) > 1 {
		attrs = append(attrs, slog.Int("holders", len(holders)))
	}
	return slices.Clip(attrs)
}
