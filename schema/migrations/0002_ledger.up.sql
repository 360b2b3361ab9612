-- The ledger: accounts, the transfers between them, and two entries for every transfer.
--
-- The code decides, the database proves: a worker looks at an account in memory and refuses a transfer that the
-- account can't pay. A constraint that fires here aborts the whole batch, so it fires only on a defect of ours.
--
-- The tables that every transfer writes have no foreign keys: Postgres checks those row by row (1,060 ms instead of
-- 270 ms for 50,000 transfers). The statement-level triggers prove the same once for a whole batch.

CREATE TABLE lastseat.currencies (
    code        text COLLATE "C" PRIMARY KEY CHECK (code ~ '^[A-Z][A-Z0-9]{2,11}$' AND code NOT IN ('XXX', 'XTS')),
    minor_units smallint NOT NULL CHECK (minor_units BETWEEN 0 AND 18),
    withdrawn   date
);
COMMENT ON TABLE lastseat.currencies IS
    'The currencies that an account can have: those of ISO 4217 (list one of SIX, of 2026-01-01, without metals and units '
    'that have no minor unit), and those that were defined here. An amount is an integer of minor units.';
COMMENT ON COLUMN lastseat.currencies.code IS 'ISO 4217: EUR. Or one of your own: POINTS.';
COMMENT ON COLUMN lastseat.currencies.minor_units IS 'Decimals of the currency: 12.50 EUR is 1250. Never changes.';
COMMENT ON COLUMN lastseat.currencies.withdrawn IS
    'From this day on no account is opened in it; its accounts still pay and are paid. Null: it is in use.';
CREATE TRIGGER fixed BEFORE UPDATE OF code, minor_units ON lastseat.currencies
    FOR EACH ROW WHEN ((OLD.code, OLD.minor_units) IS DISTINCT FROM (NEW.code, NEW.minor_units))
    EXECUTE FUNCTION lastseat.refuse_change('Amounts are in its minor units. Define another currency.');

CREATE TABLE lastseat.accounts (
    id              text COLLATE "C" PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 200),
    currency        text COLLATE "C" NOT NULL REFERENCES lastseat.currencies,
    balance         bigint NOT NULL DEFAULT 0,
    held            bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    overdraft_limit bigint DEFAULT 0 CHECK (overdraft_limit >= 0),
    version         bigint NOT NULL DEFAULT 0,
    entry_count     bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    -- numeric: the sum of two bigints may not fit into one, and an overflow error would hide what is wrong
    CONSTRAINT accounts_within_limit CHECK (overdraft_limit IS NULL OR balance::numeric - held >= -overdraft_limit)
) WITH (fillfactor = 70); -- room for an update on the same page, which then touches no index
COMMENT ON TABLE lastseat.accounts IS 'One account, one currency. Only the worker changes rows.';
COMMENT ON COLUMN lastseat.accounts.id IS 'The account''s id, chosen by the caller.';
COMMENT ON COLUMN lastseat.accounts.currency IS 'ISO 4217. Never changes.';
COMMENT ON COLUMN lastseat.accounts.balance IS 'Minor units. The sum of the account''s entries.';
COMMENT ON COLUMN lastseat.accounts.held IS
    'Minor units reserved by live authorizations: part of the balance, but not available.';
COMMENT ON COLUMN lastseat.accounts.overdraft_limit IS
    'How far below zero balance - held may go, in minor units; null: no limit.';
COMMENT ON COLUMN lastseat.accounts.version IS 'Goes up by one with every change: an optimistic lock for ORMs.';
COMMENT ON COLUMN lastseat.accounts.entry_count IS
    'The version of the account''s newest entry. It differs from version because a hold changes the account '
    'without an entry.';
COMMENT ON COLUMN lastseat.accounts.created_at IS 'When it was opened.';
COMMENT ON COLUMN lastseat.accounts.updated_at IS 'When it last changed.';
GRANT UPDATE (balance, held, version, entry_count, updated_at) ON lastseat.accounts TO lastseat_worker;

CREATE TABLE lastseat.transfers (
    id           bigint PRIMARY KEY,
    key          text COLLATE "C" NOT NULL,
    leg          smallint NOT NULL DEFAULT 1 CHECK (leg > 0),
    from_account text COLLATE "C" NOT NULL,
    to_account   text COLLATE "C" NOT NULL,
    amount       bigint NOT NULL CHECK (amount > 0),
    currency     text COLLATE "C" NOT NULL,
    payment_id   text COLLATE "C",
    reverses_id  bigint,
    description  text,
    metadata     jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (key, leg),
    CONSTRAINT transfers_two_accounts CHECK (from_account <> to_account)
);
CREATE UNIQUE INDEX transfers_reversed_once ON lastseat.transfers (reverses_id) WHERE reverses_id IS NOT NULL;
CREATE SEQUENCE lastseat.transfers_id_seq AS bigint OWNED BY lastseat.transfers.id;
COMMENT ON TABLE lastseat.transfers IS 'Money that moved, once for each leg of a key. Append-only.';
COMMENT ON COLUMN lastseat.transfers.id IS 'A number, in the order of settling.';
COMMENT ON COLUMN lastseat.transfers.key IS 'The idempotency key of the request that moved the money.';
COMMENT ON COLUMN lastseat.transfers.leg IS
    'Numbers the transfers of one key 1, 2, 3 ... without a gap. So far every key makes one transfer, leg 1.';
COMMENT ON COLUMN lastseat.transfers.from_account IS 'The account whose balance went down.';
COMMENT ON COLUMN lastseat.transfers.to_account IS 'The account whose balance went up.';
COMMENT ON COLUMN lastseat.transfers.amount IS 'Minor units.';
COMMENT ON COLUMN lastseat.transfers.currency IS 'ISO 4217, that of both accounts.';
COMMENT ON COLUMN lastseat.transfers.payment_id IS 'The payment that it captures or refunds, or null.';
COMMENT ON COLUMN lastseat.transfers.reverses_id IS
    'The transfer that this one reverses, or null. A transfer is reversed at most once.';
COMMENT ON COLUMN lastseat.transfers.description IS 'The text that a statement shows.';
COMMENT ON COLUMN lastseat.transfers.metadata IS 'The caller''s own data: kept, never read.';
COMMENT ON COLUMN lastseat.transfers.created_at IS 'When it was settled.';
GRANT INSERT ON lastseat.transfers TO lastseat_worker;
GRANT USAGE ON SEQUENCE lastseat.transfers_id_seq TO lastseat_worker;

CREATE TABLE lastseat.entries (
    account_id    text COLLATE "C" NOT NULL,
    version       bigint NOT NULL CHECK (version > 0),
    transfer_id   bigint NOT NULL,
    amount        bigint NOT NULL CHECK (amount <> 0),
    balance_after bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, version)
);
COMMENT ON TABLE lastseat.entries IS
    'Double entry: every transfer takes from one account and gives to another. Append-only.';
COMMENT ON COLUMN lastseat.entries.account_id IS 'The account.';
COMMENT ON COLUMN lastseat.entries.version IS '1, 2, 3 ... within the account, without a gap.';
COMMENT ON COLUMN lastseat.entries.transfer_id IS 'The transfer that it is one side of.';
COMMENT ON COLUMN lastseat.entries.amount IS 'Minor units; negative: taken from the account.';
COMMENT ON COLUMN lastseat.entries.balance_after IS 'The account''s balance right after this entry.';
COMMENT ON COLUMN lastseat.entries.created_at IS 'When it was settled.';
-- The worker inserts into the ledger and can't rewrite it: no UPDATE, no DELETE.
GRANT INSERT ON lastseat.entries TO lastseat_worker;

-- From here on an account is reckoned (docs/decisions/022-closing.md). A closing is a copy of an entry, which never changes.
CREATE TABLE lastseat.closings (
    account_id  text COLLATE "C" NOT NULL,
    version     bigint NOT NULL CHECK (version > 0),
    balance     bigint NOT NULL,
    transfer_id bigint NOT NULL,
    through     timestamptz NOT NULL,
    closed_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, version)
);
COMMENT ON TABLE lastseat.closings IS
    'Where accounts were closed: entries up to there may be gone, and the balance goes on from there. Append-only.';
COMMENT ON COLUMN lastseat.closings.account_id IS 'The account.';
COMMENT ON COLUMN lastseat.closings.version IS 'The version of the last entry that was closed.';
COMMENT ON COLUMN lastseat.closings.balance IS 'The account''s balance right after that entry. Minor units.';
COMMENT ON COLUMN lastseat.closings.transfer_id IS 'The transfer of that entry.';
COMMENT ON COLUMN lastseat.closings.through IS 'When that entry was settled.';
COMMENT ON COLUMN lastseat.closings.closed_at IS 'When it was closed.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lastseat.closings
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('The balance goes on from a closing.');

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON lastseat.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('A transfer never changes. Ask for a reversal.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.transfers REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.check_removal('A transfer stays. Ask for a reversal.', 'g.id || '' '' || g.key');
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON lastseat.entries
    FOR EACH STATEMENT
    EXECUTE FUNCTION lastseat.refuse_change('An entry never changes. Ask for a transfer that corrects it.');
CREATE TRIGGER removed AFTER DELETE ON lastseat.entries REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_entry_removal();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON lastseat.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.refuse_change('Entries refer to accounts for ever.');
CREATE TRIGGER renamed AFTER UPDATE OF id, currency ON lastseat.accounts
    FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id OR OLD.currency IS DISTINCT FROM NEW.currency)
    EXECUTE FUNCTION lastseat.refuse_change('Entries refer to the id and are in the currency. Open another account.');
CREATE TRIGGER one_currency AFTER INSERT ON lastseat.transfers REFERENCING NEW TABLE AS new_transfers
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_transfer_accounts();
CREATE TRIGGER chain AFTER INSERT ON lastseat.entries REFERENCING NEW TABLE AS new_entries
    FOR EACH STATEMENT EXECUTE FUNCTION lastseat.check_entry_chain();

CREATE TRIGGER noted AFTER INSERT OR UPDATE OF id, currency, overdraft_limit, created_at ON lastseat.accounts
    FOR EACH ROW EXECUTE FUNCTION lastseat.note_definition('id', 'currency', 'overdraft_limit', 'created_at');

-- ISO 4217 as of 2026-01-01, with amendments 176 (XCG for ANG, 2025-03-31) and 179 (XAD), and without BGN, which the euro
-- replaced that day. https://www.six-group.com/en/products-services/financial-information/data-standards.html has the
-- list. A release that adds codes inserts them ON CONFLICT DO NOTHING: somebody may have defined one. The command line
-- has the same list (internal/money).
INSERT INTO lastseat.currencies (code, minor_units) VALUES
    ('AED', 2), ('AFN', 2), ('ALL', 2), ('AMD', 2), ('ANG', 2), ('AOA', 2), ('ARS', 2), ('AUD', 2), ('AWG', 2),
    ('AZN', 2), ('BAM', 2), ('BBD', 2), ('BDT', 2), ('BGN', 2), ('BHD', 3), ('BIF', 0), ('BMD', 2), ('BND', 2),
    ('BOB', 2), ('BOV', 2), ('BRL', 2), ('BSD', 2), ('BTN', 2), ('BWP', 2), ('BYN', 2), ('BZD', 2), ('CAD', 2),
    ('CDF', 2), ('CHE', 2), ('CHF', 2), ('CHW', 2), ('CLF', 4), ('CLP', 0), ('CNY', 2), ('COP', 2), ('COU', 2),
    ('CRC', 2), ('CUP', 2), ('CVE', 2), ('CZK', 2), ('DJF', 0), ('DKK', 2), ('DOP', 2), ('DZD', 2), ('EGP', 2),
    ('ERN', 2), ('ETB', 2), ('EUR', 2), ('FJD', 2), ('FKP', 2), ('GBP', 2), ('GEL', 2), ('GHS', 2), ('GIP', 2),
    ('GMD', 2), ('GNF', 0), ('GTQ', 2), ('GYD', 2), ('HKD', 2), ('HNL', 2), ('HTG', 2), ('HUF', 2), ('IDR', 2),
    ('ILS', 2), ('INR', 2), ('IQD', 3), ('IRR', 2), ('ISK', 0), ('JMD', 2), ('JOD', 3), ('JPY', 0), ('KES', 2),
    ('KGS', 2), ('KHR', 2), ('KMF', 0), ('KPW', 2), ('KRW', 0), ('KWD', 3), ('KYD', 2), ('KZT', 2), ('LAK', 2),
    ('LBP', 2), ('LKR', 2), ('LRD', 2), ('LSL', 2), ('LYD', 3), ('MAD', 2), ('MDL', 2), ('MGA', 2), ('MKD', 2),
    ('MMK', 2), ('MNT', 2), ('MOP', 2), ('MRU', 2), ('MUR', 2), ('MVR', 2), ('MWK', 2), ('MXN', 2), ('MXV', 2),
    ('MYR', 2), ('MZN', 2), ('NAD', 2), ('NGN', 2), ('NIO', 2), ('NOK', 2), ('NPR', 2), ('NZD', 2), ('OMR', 3),
    ('PAB', 2), ('PEN', 2), ('PGK', 2), ('PHP', 2), ('PKR', 2), ('PLN', 2), ('PYG', 0), ('QAR', 2), ('RON', 2),
    ('RSD', 2), ('RUB', 2), ('RWF', 0), ('SAR', 2), ('SBD', 2), ('SCR', 2), ('SDG', 2), ('SEK', 2), ('SGD', 2),
    ('SHP', 2), ('SLE', 2), ('SOS', 2), ('SRD', 2), ('SSP', 2), ('STN', 2), ('SVC', 2), ('SYP', 2), ('SZL', 2),
    ('THB', 2), ('TJS', 2), ('TMT', 2), ('TND', 3), ('TOP', 2), ('TRY', 2), ('TTD', 2), ('TWD', 2), ('TZS', 2),
    ('UAH', 2), ('UGX', 0), ('USD', 2), ('USN', 2), ('UYI', 0), ('UYU', 2), ('UYW', 4), ('UZS', 2), ('VED', 2),
    ('VES', 2), ('VND', 0), ('VUV', 0), ('WST', 2), ('XAD', 2), ('XAF', 0), ('XCD', 2), ('XCG', 2), ('XOF', 0), ('XPF', 0), ('YER', 2),
    ('ZAR', 2), ('ZMW', 2), ('ZWG', 2);
UPDATE lastseat.currencies SET withdrawn = '2025-03-31' WHERE code = 'ANG';
UPDATE lastseat.currencies SET withdrawn = '2026-01-01' WHERE code = 'BGN';
-- What is shipped is not noted: worker audit knows it.
CREATE TRIGGER noted AFTER INSERT OR UPDATE ON lastseat.currencies
    FOR EACH ROW EXECUTE FUNCTION lastseat.note_definition('code', 'minor_units', 'withdrawn');
