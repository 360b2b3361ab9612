package audit

// Checks are all the rules, in the order in which they are looked at.
var Checks = []Check{
	{
		Name: "transfers.balanced",
		Rule: "every transfer has two entries: minus its amount on the account that gives, plus its amount on the one that gets",
		sql: `
		SELECT format('transfer %s (key %s): %s entries, sum %s, amount %s', t.id, t.key, count(e.transfer_id), coalesce(sum(e.amount), 0), t.amount)
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
		Name: "transfers.once",
		Rule: "a key moves money once",
		sql: `
		SELECT format('key %s: %s transfers', key, count(*)) FROM lastseat.transfers GROUP BY key HAVING count(*) > 1`,
	},
	{
		Name: "transfers.reversed",
		Rule: "a transfer is reversed at most once, by one that is its opposite",
		sql: `
		SELECT format('transfer %s (key %s) reverses %s: %s', r.id, r.key, r.reverses_id,
		              CASE WHEN t.id IS NULL THEN 'there is none' WHEN r.times > 1 THEN r.times || ' transfers do' ELSE 'not its opposite' END)
		FROM (SELECT *, count(*) OVER (PARTITION BY reverses_id) AS times FROM lastseat.transfers WHERE reverses_id IS NOT NULL) r
		LEFT JOIN lastseat.transfers t ON t.id = r.reverses_id
		WHERE t.id IS NULL OR r.times > 1 OR (r.from_account, r.to_account, r.amount) IS DISTINCT FROM (t.to_account, t.from_account, t.amount)`,
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
		Rule: "an account's entries are numbered 1, 2, 3 ... and each balance_after is the one before plus the amount",
		sql: `
		SELECT format('entry %s of account %s: after entry %s with balance %s comes amount %s, balance %s',
		              e.version, e.account_id, e.last_version, e.last_balance, e.amount, e.balance_after)
		FROM (SELECT account_id, version, amount, balance_after, lag(version, 1, 0::bigint) OVER w AS last_version,
		             lag(balance_after, 1, 0::bigint) OVER w AS last_balance
		      FROM lastseat.entries WINDOW w AS (PARTITION BY account_id ORDER BY version)) e
		WHERE e.version <> e.last_version + 1 OR e.balance_after::numeric <> e.last_balance::numeric + e.amount`,
	},
	{
		Name: "accounts.balance",
		Rule: "an account's balance is the sum of its entries and the last balance_after, and entry_count the last version",
		sql: `
		SELECT format('account %s: balance %s, entries sum to %s; %s entries, entry_count %s',
		              coalesce(a.id, e.account_id), a.balance, coalesce(e.total, 0), coalesce(e.entries, 0), a.entry_count)
		FROM lastseat.accounts a
		FULL JOIN (SELECT account_id, sum(amount) AS total, max(version) AS entries FROM lastseat.entries GROUP BY account_id) e ON e.account_id = a.id
		LEFT JOIN lastseat.entries l ON l.account_id = a.id AND l.version = a.entry_count
		WHERE a.id IS NULL OR a.balance <> coalesce(e.total, 0) OR a.balance <> coalesce(l.balance_after, 0)
		   OR a.entry_count <> coalesce(e.entries, 0) OR a.version < a.entry_count`,
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
		Rule: "what an account holds is the sum of its live authorizations",
		sql: `
		SELECT format('account %s: held %s, its authorizations sum to %s', coalesce(a.id, p.from_account), coalesce(a.held, 0), coalesce(p.total, 0))
		FROM lastseat.accounts a
		FULL JOIN (SELECT from_account, sum(amount) AS total FROM lastseat.payments WHERE status = 'authorized' GROUP BY from_account) p ON p.from_account = a.id
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
		SELECT format('transfer %s in %s: account %s is in %s, account %s in %s', t.id, t.currency, t.from_account, f.currency, t.to_account, o.currency)
		FROM lastseat.transfers t
		LEFT JOIN lastseat.accounts f ON f.id = t.from_account LEFT JOIN lastseat.accounts o ON o.id = t.to_account
		WHERE f.currency IS DISTINCT FROM t.currency OR o.currency IS DISTINCT FROM t.currency`,
	},
	{
		Name: "requests.effect",
		Rule: "every transfer has its applied request, and every applied request that moves money its transfer",
		sql: `
		SELECT CASE WHEN t.id IS NULL THEN format('request %s is applied (%s), and there is no transfer', r.key, r.code)
		            ELSE format('transfer %s (key %s): its request is %s', t.id, t.key, coalesce(r.status, 'not there')) END
		FROM (SELECT key, status, code FROM lastseat.requests WHERE kind IN ('payment.transfer', 'payment.capture', 'payment.refund', 'payment.reverse')) r
		FULL JOIN lastseat.transfers t ON t.key = r.key
		WHERE (r.status = 'applied') IS DISTINCT FROM (t.id IS NOT NULL)`,
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
		SELECT format('request %s is %s, its job %s is %s', r.key, r.status, r.job_id, coalesce(j.state::text, 'not there, or another''s'))
		FROM lastseat.requests r LEFT JOIN lastseat.river_job j ON j.id = r.job_id AND r.key IN (j.args ->> 'key', 'river_job:' || j.id)
		WHERE (r.status = 'pending') <> (j.state IS NOT NULL AND j.state NOT IN ('completed', 'cancelled', 'discarded'))`,
	},
}
