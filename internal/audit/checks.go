package audit

import "slices"

// Checks are all the rules, in the order in which they are looked at.
var Checks = slices.Concat(moneyChecks, inventoryChecks, requestChecks, historyChecks, schemaChecks)

// moneyChecks are the rules of accounts, transfers and payments.
var moneyChecks = []Check{
	{
		Name: "transfers.balanced",
		Rule: "every transfer has two entries: minus its amount on the account that gives, plus its amount on the one " +
			"that gets",
		sql: `
		SELECT format('transfer %s (key %s): %s entries, sum %s, amount %s', t.id, t.key, count(e.transfer_id),
		  coalesce(sum(e.amount), 0), t.amount)
		FROM lastseat.transfers t LEFT JOIN lastseat.entries e ON e.transfer_id = t.id
		GROUP BY t.id
		HAVING count(e.transfer_id) <> 2
		    OR count(*) FILTER (WHERE e.account_id = t.from_account AND e.amount = -t.amount) <> 1
		    OR count(*) FILTER (WHERE e.account_id = t.to_account AND e.amount = t.amount) <> 1`,
	},
	{
		Name: "transfers.amount",
		Rule: "a transfer moves a positive amount between two accounts",
		sql: `
		SELECT format('transfer %s (key %s): %s from %s to %s', id, key, amount, from_account, to_account)
		FROM lastseat.transfers WHERE amount <= 0 OR from_account = to_account`,
	},
	{
		Name: "transfers.legs",
		Rule: "a key moves money once: its transfers are its legs, numbered 1, 2, 3 ... without a gap",
		sql: `
		SELECT format('key %s: %s transfers, with the legs %s', key, count(*), string_agg(leg::text, ', ' ORDER BY leg))
		FROM lastseat.transfers GROUP BY key
		HAVING min(leg) <> 1 OR max(leg) <> count(*) OR count(DISTINCT leg) <> count(*)`,
	},
	{
		Name: "transfers.reversed",
		Rule: "a transfer is reversed at most once, by one that is its opposite, and neither belongs to a payment",
		sql: `
		SELECT format('transfer %s (key %s) reverses %s: %s', r.id, r.key, r.reverses_id,
		              CASE WHEN t.id IS NULL THEN 'there is none' WHEN r.times > 1 THEN r.times || ' transfers do'
		                   WHEN t.reverses_id IS NOT NULL THEN 'a reversal itself'
		                   WHEN r.payment_id IS NOT NULL OR t.payment_id IS NOT NULL THEN 'of payment '
		                     || coalesce(r.payment_id, t.payment_id)
		                   ELSE 'not its opposite' END)
		FROM (SELECT *, count(*) OVER (PARTITION BY reverses_id) AS times FROM lastseat.transfers
		  WHERE reverses_id IS NOT NULL) r
		LEFT JOIN lastseat.transfers t ON t.id = r.reverses_id
		WHERE t.id IS NULL OR r.times > 1 OR t.reverses_id IS NOT NULL OR r.payment_id IS NOT NULL OR t.payment_id IS NOT NULL
		   OR (r.from_account, r.to_account, r.amount) IS DISTINCT FROM (t.to_account, t.from_account, t.amount)`,
	},
	{
		Name: "entries.of_transfer",
		Rule: "every entry belongs to a transfer",
		sql: `
		SELECT format('entry %s of account %s: there is no transfer %s', e.version, e.account_id, e.transfer_id)
		FROM lastseat.entries e LEFT JOIN lastseat.transfers t ON t.id = e.transfer_id WHERE t.id IS NULL`,
	},
	{
		Name: "entries.chain",
		Rule: "an account's entries are numbered 1, 2, 3 ... and in the order of time, and each balance_after is the one " +
			"before plus the amount; after a closing they go on from it, and up to it some may be gone",
		sql: `
		SELECT format('entry %s of account %s: after entry %s with balance %s comes amount %s, balance %s; %s after %s',
		              e.version, e.account_id, e.last_version, e.last_balance, e.amount, e.balance_after, e.created_at,
		                coalesce(e.last_time::text, 'none'))
		FROM (SELECT n.account_id, n.version, n.amount, n.balance_after, n.created_at, coalesce(c.version, 0) AS closed,
		             CASE WHEN n.first THEN c.version ELSE n.last_version END AS last_version,
		             CASE WHEN n.first THEN c.balance ELSE n.last_balance END AS last_balance,
		             CASE WHEN n.first THEN c.through ELSE n.last_time END AS last_time
		      FROM (SELECT b.*, b.last_version < c.version AND b.version > c.version AS first
		            FROM (SELECT account_id, version, amount, balance_after, created_at,
		                         lag(version, 1, 0::bigint) OVER w AS last_version,
		                         lag(balance_after, 1, 0::bigint) OVER w AS last_balance,
		                         lag(created_at) OVER w AS last_time
		                  FROM lastseat.entries WINDOW w AS (PARTITION BY account_id ORDER BY version)) b
		            LEFT JOIN ` + lastClosings + ` c USING (account_id)) n
		      LEFT JOIN ` + lastClosings + ` c USING (account_id)) e
		WHERE e.version <> e.last_version + 1 AND e.version > e.closed
		   OR e.version = e.last_version + 1 AND e.balance_after::numeric <> e.last_balance::numeric + e.amount
		   OR e.created_at < e.last_time`,
	},
	{
		Name: "accounts.balance",
		Rule: "an account's balance is that of its last closing plus its later entries, and the last balance_after, and " +
			"entry_count the last version",
		sql: `
		SELECT format('account %s: balance %s, entries sum to %s; %s entries, entry_count %s',
		              coalesce(a.id, e.account_id), a.balance, coalesce(c.balance, 0) + coalesce(e.total, 0),
		                greatest(e.entries, c.version, 0), a.entry_count)
		FROM lastseat.accounts a
		FULL JOIN (SELECT n.account_id, sum(n.amount) FILTER (WHERE n.version > coalesce(c.version, 0)) AS total,
		             max(n.version) AS entries
		           FROM lastseat.entries n LEFT JOIN ` + lastClosings + ` c USING (account_id)
		           GROUP BY n.account_id) e ON e.account_id = a.id
		LEFT JOIN ` + lastClosings + ` c ON c.account_id = a.id
		LEFT JOIN lastseat.entries l ON l.account_id = a.id AND l.version = a.entry_count
		WHERE a.id IS NULL OR a.balance <> coalesce(c.balance, 0) + coalesce(e.total, 0)
		   OR a.balance <> coalesce(l.balance_after, CASE WHEN c.version = a.entry_count THEN c.balance END, 0)
		   OR a.entry_count <> greatest(e.entries, c.version, 0) OR a.version < a.entry_count`,
	},
	{
		Name: "closings.entries",
		Rule: "an account is closed at entries that it has had, in their order, and a closing is what its entry says if " +
			"that is still there",
		sql: `
		SELECT format('closing of account %s at entry %s: balance %s after transfer %s at %s; %s', c.account_id, c.version,
		              c.balance, c.transfer_id, c.through,
		              CASE WHEN a.id IS NULL THEN 'there is no such account'
		                   WHEN c.version > a.entry_count THEN 'the account has ' || a.entry_count || ' entries'
		                   WHEN e.version IS NOT NULL AND (e.balance_after, e.transfer_id, e.created_at)
		                     IS DISTINCT FROM (c.balance, c.transfer_id, c.through)
		                     THEN format('the entry has balance %s, transfer %s at %s', e.balance_after, e.transfer_id,
		                       e.created_at)
		                   ELSE format('the closing before has transfer %s at %s', c.last_transfer, c.last_time) END)
		FROM (SELECT *, lag(transfer_id) OVER w AS last_transfer, lag(through) OVER w AS last_time
		      FROM lastseat.closings WINDOW w AS (PARTITION BY account_id ORDER BY version)) c
		LEFT JOIN lastseat.accounts a ON a.id = c.account_id
		LEFT JOIN lastseat.entries e ON e.account_id = c.account_id AND e.version = c.version
		WHERE a.id IS NULL OR c.version > a.entry_count
		   OR e.version IS NOT NULL AND (e.balance_after, e.transfer_id, e.created_at)
		     IS DISTINCT FROM (c.balance, c.transfer_id, c.through)
		   OR c.transfer_id <= c.last_transfer OR c.through < c.last_time`,
	},
	{
		Name: "accounts.limit",
		Rule: "no account is beyond its overdraft limit, and nothing held is negative",
		sql: `
		SELECT format('account %s: balance %s, held %s, overdraft limit %s', id, balance, held, overdraft_limit)
		FROM lastseat.accounts WHERE held < 0 OR balance::numeric - held < -overdraft_limit`,
	},
	{
		Name: "accounts.held",
		Rule: "what an account holds is the sum of its live authorizations, and of those that a processor is asked for",
		sql: `
		SELECT format('account %s: held %s, its authorizations sum to %s', coalesce(a.id, p.from_account),
		  coalesce(a.held, 0), coalesce(p.total, 0))
		FROM lastseat.accounts a
		FULL JOIN (SELECT from_account, sum(amount) AS total FROM lastseat.payments
		  WHERE status = 'authorized' OR status = 'pending' AND calling IS NOT NULL AND in_flight = 0
		  GROUP BY from_account) p ON p.from_account = a.id
		WHERE a.id IS NULL OR a.held <> coalesce(p.total, 0)`,
	},
	{
		Name: "money.conserved",
		Rule: "in every currency all balances sum to zero",
		sql: `
		SELECT format('%s: balances sum to %s', currency, sum(balance))
		FROM lastseat.accounts GROUP BY currency HAVING sum(balance) <> 0`,
	},
	{
		Name: "transfers.currency",
		Rule: "a transfer is in the currency of both its accounts",
		sql: `
		SELECT format('transfer %s in %s: account %s is in %s, account %s in %s', t.id, t.currency, t.from_account,
		  f.currency, t.to_account, o.currency)
		FROM lastseat.transfers t
		LEFT JOIN lastseat.accounts f ON f.id = t.from_account LEFT JOIN lastseat.accounts o ON o.id = t.to_account
		WHERE f.currency IS DISTINCT FROM t.currency OR o.currency IS DISTINCT FROM t.currency`,
	},
	{
		Name: "payments.amounts",
		Rule: "a payment is of a positive amount between two accounts; it is captured exactly if its status says so, at " +
			"most that amount, and refunded at most what was captured",
		sql: `
		SELECT format('payment %s: %s, amount %s from %s to %s, captured %s, refunded %s', id, status, amount, from_account,
		  to_account, amount_captured, amount_refunded)
		FROM lastseat.payments
		WHERE amount <= 0 OR from_account = to_account OR amount_captured > amount OR amount_refunded NOT BETWEEN 0
		  AND amount_captured
		   OR (status = 'captured') <> (amount_captured > 0)
		   OR status NOT IN ('pending', 'authorized', 'captured', 'declined', 'voided', 'expired')`,
	},
	{
		Name: "payments.currency",
		Rule: "a payment that was authorized is in the currency of both its accounts",
		sql: `
		SELECT format('payment %s in %s: account %s is in %s, account %s in %s', p.id, p.currency, p.from_account,
		  f.currency, p.to_account, o.currency)
		FROM lastseat.payments p
		LEFT JOIN lastseat.accounts f ON f.id = p.from_account LEFT JOIN lastseat.accounts o ON o.id = p.to_account
		WHERE p.status NOT IN ('pending', 'declined') AND (f.currency IS DISTINCT FROM p.currency OR o.currency IS DISTINCT
		  FROM p.currency)`,
	},
	{
		Name: "payments.transfers",
		Rule: "a payment that is not by card is captured by one transfer from its giver to its taker, refunded by " +
			"transfers back, and its figures are their sums; a transfer that names a payment is one of these",
		sql: `
		SELECT format('payment %s (%s): captured %s, refunded %s; %s transfers name it, %s capture %s, %s refund %s',
		              coalesce(p.id, t.payment_id), coalesce(p.status, 'there is none'), p.amount_captured,
		                p.amount_refunded, count(t.id),
		              count(*) FILTER (WHERE captures), coalesce(sum(t.amount) FILTER (WHERE captures), 0),
		              count(*) FILTER (WHERE refunds), coalesce(sum(t.amount) FILTER (WHERE refunds), 0))
		FROM lastseat.payments p
		FULL JOIN (SELECT * FROM lastseat.transfers WHERE payment_id IS NOT NULL AND payment_id NOT IN (` + byCard + `)) t
		  ON t.payment_id = p.id
		CROSS JOIN LATERAL (SELECT (t.from_account, t.to_account, t.currency) = (p.from_account, p.to_account,
		  p.currency) AS captures,
		                           (t.to_account, t.from_account, t.currency) = (p.from_account, p.to_account,
		                             p.currency) AS refunds) which
		GROUP BY p.id, t.payment_id
		HAVING p.processor IS NULL AND (p.id IS NOT NULL OR max(t.created_at) >= ` + paymentsGone + `)
		  AND (count(t.id) <> count(*) FILTER (WHERE captures OR refunds)
		    OR count(*) FILTER (WHERE captures) > 1
		    OR coalesce(sum(t.amount) FILTER (WHERE captures), 0) <> p.amount_captured
		    OR coalesce(sum(t.amount) FILTER (WHERE refunds), 0) <> p.amount_refunded)`,
	},
	{
		Name: "payments.cleared",
		Rule: "a payment by card has transfers by its clearing account only; what has come there and not left is in " +
			"flight, and the taker has what was captured and not refunded",
		sql: `
		SELECT format('payment %s (%s by %s): captured %s, refunded %s, in flight %s; its %s transfers say in flight %s, and '
		                'that %s has %s of it', id, status, processor, amount_captured, amount_refunded, in_flight,
		              transfers, coming - leaving, to_account, given - taken)
		FROM (SELECT p.*, count(t.id) AS transfers,
		             coalesce(sum(t.amount) FILTER (WHERE t.to_account = clearing), 0) AS coming,
		             coalesce(sum(t.amount) FILTER (WHERE t.from_account = clearing), 0) AS leaving,
		             coalesce(sum(t.amount) FILTER (WHERE t.to_account = p.to_account), 0) AS given,
		             coalesce(sum(t.amount) FILTER (WHERE t.from_account = p.to_account), 0) AS taken,
		             count(*) FILTER (WHERE t.from_account IN (p.from_account, p.to_account) AND t.to_account = clearing
		               OR t.from_account = clearing AND t.to_account IN (p.from_account, p.to_account)) AS cleared
		      FROM (SELECT *, 'lastseat:clearing:' || processor || ':' || currency AS clearing FROM lastseat.payments
		            WHERE processor IS NOT NULL) p
		      LEFT JOIN lastseat.transfers t ON t.payment_id = p.id
		      GROUP BY p.id, p.key, p.from_account, p.to_account, p.amount, p.amount_captured, p.amount_refunded, p.currency,
		        p.status, p.expires_at, p.version, p.created_at, p.updated_at, p.processor, p.method, p.reference, p.calling,
		        p.in_flight, p.clearing) p
		WHERE transfers <> cleared OR coming - leaving <> in_flight
		   OR given - taken <> amount_captured - amount_refunded - CASE status WHEN 'captured' THEN in_flight ELSE 0 END`,
	},
	{
		Name: "accounts.clearing",
		Rule: "on a clearing account is what is in flight, and nothing else",
		sql: `
		SELECT format('account %s: balance %s, in flight %s', coalesce(a.id, p.id), a.balance, coalesce(p.in_flight, 0))
		FROM (SELECT id, balance FROM lastseat.accounts WHERE starts_with(id, 'lastseat:clearing:')) a
		FULL JOIN (SELECT 'lastseat:clearing:' || processor || ':' || currency AS id, sum(in_flight) AS in_flight
		           FROM lastseat.payments WHERE in_flight > 0 GROUP BY 1) p ON p.id = a.id
		WHERE a.balance IS DISTINCT FROM coalesce(p.in_flight, 0)`,
	},
	{
		// A job that came past the SQL functions makes its payment when it is settled: until then, and if its arguments are
		// invalid, its request has none.
		Name: "payments.authorize",
		Rule: "every payment is what a payment.authorize or payment.charge request asked for: pending as long as that is " +
			"pending or failed, declined if it was rejected, else authorized because it was applied; every valid one that is " +
			"settled has its payment",
		sql: `
		SELECT CASE WHEN p.id IS NULL THEN format('request %s is %s (%s), and there is no payment', r.key, r.status, r.code)
		            ELSE format('payment %s (%s %s from %s to %s) is %s, its request %s is %s', p.id, p.amount, p.currency,
		              p.from_account, p.to_account,
		                        p.status, p.key, CASE WHEN r.fingerprint <> ALL (p.fingerprints) THEN 'for another'
		                          ELSE coalesce(r.status, 'not there') END) END
		FROM (SELECT *, CASE WHEN processor IS NULL THEN ARRAY[` + digest("payment.authorize", termsOfPayment) + `]
		                     ELSE ARRAY[` + digest("payment.charge", termsByCard) + `,
		                                ` + digest("payment.authorize", termsByCard) + `]
		                END AS fingerprints
		      FROM lastseat.payments) p
		FULL JOIN (SELECT key, status, code, fingerprint, settled_at FROM lastseat.requests
		           WHERE kind IN ('payment.authorize', 'payment.charge')) r
		  ON r.key = p.key
		WHERE CASE WHEN p.id IS NULL THEN (r.status = 'applied' OR r.status = 'rejected' AND r.code <> 'invalid_args')
		             AND r.settled_at >= ` + paymentsGone + `
		           WHEN r.key IS NULL OR r.fingerprint <> ALL (p.fingerprints) THEN p.created_at >= ` + requestsGone + `
		           WHEN p.status = 'pending' THEN r.status NOT IN ('pending', 'failed')
		           WHEN p.status = 'declined' THEN r.status <> 'rejected'
		           ELSE r.status <> 'applied' END`,
	},
	{
		Name: "payments.voided",
		Rule: "every voided payment has one applied payment.void request, and every such request its payment",
		sql: `
		SELECT CASE WHEN p.id IS NULL THEN format('request %s is applied, and its payment is not voided', r.key)
		            ELSE format('payment %s is voided: %s applied requests ask for it', p.id, coalesce(r.times, 0)) END
		FROM (SELECT id, updated_at, ` + fingerprint("payment.void", `'payment', id`) + `
		      FROM lastseat.payments WHERE status = 'voided') p
		FULL JOIN (SELECT key, fingerprint, settled_at, count(*) OVER (PARTITION BY fingerprint) AS times
		           FROM lastseat.requests WHERE kind = 'payment.void' AND status = 'applied') r
		             ON r.fingerprint = p.fingerprint
		WHERE p.id IS NULL AND r.settled_at >= ` + paymentsGone + ` OR r.times > 1
		   OR r.times IS NULL AND p.updated_at >= ` + requestsGone,
	},
	{
		// Keys like the worker's own were free to callers before version 5: a payment whose key is taken has no record.
		Name: "payments.expired",
		Rule: "every expired payment is recorded as an applied payment.expire request under a key of the worker's, and " +
			"every such record has its payment",
		sql: `
		SELECT CASE WHEN p.id IS NULL THEN format('request %s is applied, and its payment is not expired', r.key)
		            ELSE format('payment %s is expired: its record %s is %s', p.id, p.key,
		              coalesce(r.status, 'not there')) END
		FROM (SELECT id, updated_at, 'lastseat:payment.expire:' || id AS key FROM lastseat.payments
		      WHERE status = 'expired') p
		FULL JOIN (SELECT key, kind, status, settled_at FROM lastseat.requests WHERE kind = 'payment.expire'
		  OR starts_with(key, 'lastseat:payment.expire:')) r ON r.key = p.key
		WHERE r.key IS NULL AND p.updated_at >= ` + requestsGone + `
		   OR r.kind = 'payment.expire' AND (r.status = 'applied') <> (p.id IS NOT NULL)
		     AND NOT (p.id IS NULL AND r.settled_at < ` + paymentsGone + `)`,
	},
	{
		Name: "payments.overdue",
		Rule: "no authorization is live 10 seconds past its time, unless a request from before that waits or its processor " +
			"is asked for something",
		sql: `
		SELECT format('payment %s is authorized, and was to expire at %s: is a worker running?', id, expires_at)
		FROM lastseat.payments
		WHERE status = 'authorized' AND calling IS NULL AND ` + overdue,
	},
	{
		Name: "payments.calling",
		Rule: "a payment whose processor is asked has a pending or failed request for that",
		sql: `
		SELECT format('payment %s (%s) asks %s for request %s, which is %s', p.id, p.status, p.processor, p.calling,
		              coalesce(r.kind || ', ' || r.status, 'not there'))
		FROM lastseat.payments p LEFT JOIN lastseat.requests r ON r.key = p.calling
		WHERE p.calling IS NOT NULL AND (r.key IS NULL OR r.status NOT IN ('pending', 'failed'))`,
	},
}

// requestChecks are the rules of requests: what they have brought about, and how far they are.
var requestChecks = []Check{
	{
		Name: "requests.effect",
		Rule: "every transfer has its applied request, of the kind that makes such transfers, and every applied request " +
			"that moves money has its transfer",
		sql: `
		SELECT CASE WHEN t.id IS NULL THEN format('request %s is applied (%s), and there is no transfer', r.key, r.code)
		            ELSE format('transfer %s (key %s): its request is %s', t.id, t.key, coalesce(r.kind || ', '
		              || r.status, 'not there')) END
		FROM (SELECT key, kind, status, code, makes FROM lastseat.requests JOIN (VALUES
		        ('payment.transfer', 'plain'), ('payment.capture', 'capture'), ('payment.refund', 'refund'),
		        ('payment.reverse', 'reversal'), ('booking.book', 'plain')) AS of_kind(kind, makes) USING (kind)
		      WHERE code IS DISTINCT FROM 'returned' -- what the books never had
		        AND key NOT IN (SELECT t.key FROM lastseat.transfers t WHERE t.payment_id IN (` + byCard + `))) r
		FULL JOIN (SELECT t.id, t.key, t.created_at, CASE WHEN t.reverses_id IS NOT NULL THEN 'reversal'
		                                    WHEN t.payment_id IS NULL THEN 'plain'
		                                    WHEN t.from_account = p.from_account THEN 'capture'
		                                    WHEN t.from_account = p.to_account THEN 'refund' END AS made
		           FROM lastseat.transfers t LEFT JOIN lastseat.payments p ON p.id = t.payment_id
		           WHERE p.processor IS NULL) t ON t.key = r.key
		WHERE CASE WHEN r.key IS NULL THEN t.created_at >= ` + requestsGone + `
		           ELSE (r.status = 'applied') <> (t.id IS NOT NULL) OR r.makes <> t.made END`,
	},
	{
		Name: "requests.cleared",
		Rule: "a charge or refund by card moves money to the clearing account when the processor is asked, and on when it " +
			"is applied, or back when it is rejected; a capture moves it by that account when it is applied",
		sql: `
		SELECT format('request %s is %s: %s transfers, from %s and to %s', coalesce(r.key, t.key),
		              coalesce(r.kind || ', ' || r.status, 'not there'), coalesce(t.legs, 0), t.giver, t.taker)
		FROM (SELECT key, count(*) AS legs, min(from_account) FILTER (WHERE leg = 1) AS giver,
		             min(to_account) FILTER (WHERE leg = 2) AS taker
		      FROM lastseat.transfers WHERE payment_id IN (` + byCard + `) GROUP BY key) t
		FULL JOIN (SELECT key, kind, status FROM lastseat.requests
		           WHERE kind IN ('payment.charge', 'payment.refund', 'payment.capture')) r
		  ON r.key = t.key
		WHERE CASE WHEN t.key IS NULL THEN r.kind = 'payment.charge' AND r.status = 'applied'
		           WHEN r.kind = 'payment.capture' THEN r.status <> 'applied' OR legs <> 2 OR giver = taker
		           WHEN r.status = 'applied' THEN legs <> 2 OR giver = taker
		           WHEN r.status = 'rejected' THEN legs <> 2 OR giver <> taker
		           ELSE r.key IS NULL OR legs <> 1 END`,
	},
	{
		Name: "requests.outcome",
		Rule: "every settled request has exactly one outcome, a pending one none",
		sql: `
		SELECT format('request %s: status %s, code %s, settled at %s', key, status, code, settled_at)
		FROM lastseat.requests
		WHERE (status = 'pending') <> (code IS NULL) OR (status = 'pending') <> (settled_at IS NULL)
		   OR status NOT IN ('pending', 'applied', 'rejected', 'failed')`,
	},
	{
		Name: "requests.job",
		Rule: "every pending request has a job that waits, and no settled request has one",
		sql: `
		SELECT format('request %s is %s, its job %s is %s', r.key, r.status, r.job_id,
		  coalesce(j.state::text, 'not there, or another''s'))
		FROM lastseat.requests r LEFT JOIN lastseat.river_job j ON j.id = r.job_id
		  AND r.key IN (j.args ->> 'key', 'river_job:' || j.id)
		WHERE (r.status = 'pending') <> (j.state IS NOT NULL AND j.state NOT IN ('completed', 'cancelled', 'discarded'))`,
	},
	{
		// A failed request may be tried again, with the answer that its call has by then.
		Name: "requests.calls",
		Rule: "every open call is that of a pending or failed request of its kind, its calls are numbered 1, 2, 3 ..., and " +
			"what it sends is what was to be sent",
		sql: `
		SELECT format('call %s of request %s (%s), sent %s: its request is %s', c.step, c.key, c.target,
		  coalesce('at ' || c.sent_at, 'never'), coalesce(r.kind || ', ' || r.status, 'not there'))
		FROM (SELECT *, lag(step, 1, 0) OVER (PARTITION BY key ORDER BY step) AS before FROM lastseat.calls) c
		LEFT JOIN lastseat.requests r ON r.key = c.key
		WHERE r.kind IS DISTINCT FROM c.kind OR c.step <> c.before + 1
		   OR c.ended_at IS NULL AND r.status NOT IN ('pending', 'failed') OR c.ended_at IS NOT NULL AND r.status = 'pending'
		     AND NOT EXISTS (SELECT FROM lastseat.calls o WHERE o.key = c.key AND o.step > c.step)
		     AND c.result <> 'lost'
		   OR sha256(convert_to(c.body, 'UTF8')) <> c.body_hash`,
	},
	{
		// Rows of the log that all readers have read may be deleted, the oldest first: what was settled before them is gone,
		// too.
		Name: "requests.logged",
		Rule: "every settled request is in the log of outcomes once under the time at which it was settled, as far back " +
			"as the log goes",
		sql: `
		SELECT format('request %s was settled at %s: it is in the log %s times', r.key, r.settled_at, coalesce(l.times, 0))
		FROM lastseat.requests r
		LEFT JOIN (SELECT k.key, l.settled_at, count(*) AS times
		           FROM lastseat.outcome_log l CROSS JOIN LATERAL unnest(l.keys) AS k(key) GROUP BY k.key, l.settled_at) l
		             ON l.key = r.key AND l.settled_at = r.settled_at
		WHERE l.times IS DISTINCT FROM 1 AND r.settled_at >= (SELECT min(settled_at) FROM lastseat.outcome_log)`,
	},
}

// lastClosings are the closings from which the accounts go on.
const lastClosings = `(SELECT DISTINCT ON (account_id) * FROM lastseat.closings ORDER BY account_id, version DESC)`

// requestsGone is the time before which retention may have removed requests. What they have left behind may then stand
// alone: the checks of the history prove that each of them was removed on record.
const requestsGone = `coalesce((SELECT before FROM lastseat.removed WHERE what = 'requests'), '-infinity')`

// paymentsGone and reservationsGone are the times before which retention may have removed those that had ended. A
// request that was settled before, and a transfer, may then stand alone.
const (
	paymentsGone     = `coalesce((SELECT before FROM lastseat.removed WHERE what = 'payments'), '-infinity')`
	reservationsGone = `coalesce((SELECT before FROM lastseat.removed WHERE what = 'reservations'), '-infinity')`
)

// overdue says of a row that it has not ended 10 seconds past its time. What was asked for in time still counts: as
// long as such a request waits, the row stays.
const overdue = `expires_at < now() - interval '10 seconds'
		  AND expires_at < coalesce((SELECT min(scheduled_at) FROM lastseat.river_job
		                             WHERE state = 'available' AND queue = 'lastseat' AND isfinite(scheduled_at)),
		                               'infinity')`

// fingerprint is the column of that name as lastseat.fingerprint makes it of a request's kind and arguments; a viewer
// may not call that.
func fingerprint(kind, args string) string {
	return digest(kind, args) + ` AS fingerprint`
}

func digest(kind, args string) string {
	return `sha256(convert_to('` + kind + ` ' || jsonb_build_object(` + args + `)::text, 'UTF8'))`
}

// termsOfPayment are the arguments of an authorization.
const termsOfPayment = `'payment', id, 'from', from_account, 'to', to_account, 'amount', amount, 'currency', currency`

// termsByCard are those of a payment by card.
const termsByCard = termsOfPayment + `, 'processor', processor, 'method', method`

// byCard are the payments that have a processor.
const byCard = `SELECT id FROM lastseat.payments WHERE processor IS NOT NULL`
