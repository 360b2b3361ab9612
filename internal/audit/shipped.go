package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/schema"
)

// schemaChecks are about what guards the rows.
var schemaChecks = []Check{
	{
		Name: "schema.shipped",
		Rule: "the schema is the one of this release: tables, columns, constraints, keys, triggers, functions and rights",
		run:  compareSchema,
	},
	{
		Name: "sequences.ahead",
		Rule: "no sequence was set back: the numbers that it gives next are not in use",
		sql: `
		SELECT format('sequence %s: it comes to %s next, and %s is in use', name, next, used)
		FROM (SELECT 'transfers_id_seq' AS name, (SELECT last_value + is_called::int FROM lastseat.transfers_id_seq) AS next,
		             greatest((SELECT max(id) FROM lastseat.transfers),
		               (SELECT max(transfer_id) FROM lastseat.closings)) AS used
		      UNION ALL
		      SELECT 'river_job_id_seq', (SELECT last_value + is_called::int FROM lastseat.river_job_id_seq),
		             greatest((SELECT max(job_id) FROM lastseat.requests), (SELECT max(id) FROM lastseat.river_job))
		      UNION ALL
		      SELECT 'waiting_number_seq', (SELECT last_value + is_called::int FROM lastseat.waiting_number_seq),
		             (SELECT max(waiting_number) FROM lastseat.reservations)
		      UNION ALL
		      SELECT 'outcome_log_number_seq', (SELECT last_value + is_called::int FROM lastseat.outcome_log_number_seq),
		             (SELECT max(number % 100000000000000000) FROM lastseat.outcome_log)) s
		WHERE next <= used`,
	},
	{
		Name: "records.fingerprint",
		Rule: "a record of what ran out or was granted has the fingerprint that follows from its key",
		sql: `
		SELECT format('request %s: its fingerprint is not that of its key', r.key)
		FROM lastseat.requests r
		WHERE r.job_id = 0 AND r.fingerprint <> sha256(convert_to(r.kind || ' ' || jsonb_build_object(
		    split_part(r.kind, '.', 1), substr(r.key, length('lastseat:' || r.kind || ':') + 1))::text, 'UTF8'))`,
	},
	{
		Name: "entries.order",
		Rule: "an account's entries are in the order of their transfers, and its closings among them",
		sql: `
		SELECT format('entry %s of account %s: transfer %s comes after transfer %s', version, account_id, transfer_id,
		              last_transfer)
		FROM (SELECT account_id, version, transfer_id,
		             lag(transfer_id) OVER (PARTITION BY account_id ORDER BY version) AS last_transfer
		      FROM (SELECT account_id, version, transfer_id FROM lastseat.entries
		            UNION SELECT account_id, version, transfer_id FROM lastseat.closings) l) e
		WHERE transfer_id < last_transfer`,
	},
}

// compareSchema compares the catalog with that of a fresh installation.
func compareSchema(ctx context.Context, tx pgx.Tx, _ *Seal) ([]string, error) {
	rows, err := tx.Query(ctx, schema.ShippedSQL)
	if err != nil {
		return nil, err
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	want := make(map[string]bool)
	for _, line := range schema.Shipped() {
		want[line] = true
	}
	var broken []string
	for _, line := range have {
		if !want[line] && !strings.HasPrefix(line, "index ") && !strings.HasPrefix(line, "currency ") {
			// somebody's own index does no harm, and the history has the currencies that were defined
			broken = append(broken, fmt.Sprintf("not as shipped: %s", line))
		}
		delete(want, line)
	}
	for _, line := range schema.Shipped() {
		if want[line] {
			broken = append(broken, fmt.Sprintf("missing or changed: %s", line))
		}
	}
	if len(broken) > mostViolations {
		broken = broken[:mostViolations]
	}
	return broken, nil
}
