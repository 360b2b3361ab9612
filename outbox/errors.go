package outbox

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"
)

// The errors that a caller of [Enqueue], [Retry] and the SQL functions may branch on. Each wraps the *pgconn.PgError
// that has the message, the DETAIL and the HINT; the caller's transaction can't go on after any of them.
var (
	ErrKeyReused = errors.New("key reused with other arguments") // LS001
	ErrInvalid   = errors.New("invalid argument")                // LS002
	ErrUnknown   = errors.New("unknown object")                  // LS003: account, payment, reservation, resource or request
	ErrTooLarge  = errors.New("payload too large")               // LS004
)

var contractErrors = map[string]error{"LS001": ErrKeyReused, "LS002": ErrInvalid, "LS003": ErrUnknown, "LS004": ErrTooLarge}

// ContractError gives an error of class LS its sentinel and one line of text; others pass through. Postgres's own
// refusals of a NUL byte or a broken character are invalid arguments too.
func ContractError(err error) error {
	pgErr := (*pgconn.PgError)(nil)
	if !errors.As(err, &pgErr) {
		return err
	}
	sentinel := contractErrors[pgErr.Code]
	if slices.Contains([]string{"22021", "22P02", "22P05"}, pgErr.Code) {
		sentinel = ErrInvalid
	}
	if sentinel == nil {
		return err
	}
	return &requestError{sentinel: sentinel, pg: pgErr}
}

type requestError struct {
	sentinel error
	pg       *pgconn.PgError
}

func (e *requestError) Error() string {
	parts := []string{e.pg.Message}
	for _, more := range []string{e.pg.Detail, e.pg.Hint} {
		if more != "" {
			parts = append(parts, strings.TrimSuffix(more, "."))
		}
	}
	return printable(fmt.Sprintf("%s (%s)", strings.Join(parts, ". "), e.pg.Code))
}

// printable keeps an error on one line, and a terminal out of the hands of who chose an id.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (e *requestError) Unwrap() []error { return []error{e.sentinel, e.pg} }

// conflict tells whether err is nobody's fault: the transaction ran into another one and may simply run again. Besides
// serialization failure and deadlock that is a lock that another session holds for longer than lock_timeout.
func conflict(err error) bool {
	code := sqlState(err)
	return code == "40001" || code == "40P01" || code == stateLockTimeout || errors.Is(err, errRaced) ||
		// a migration has changed a table since the statement was prepared; pgx prepares it anew
		code == "0A000" && strings.Contains(err.Error(), "cached plan must not change result type")
}

// unavailable tells whether err is the database's condition and not the doing of a job: a shutdown, a full disk, too many
// connections. No job is blamed for it. A lost connection has no SQLSTATE; the lane sees it on the connection.
func unavailable(err error) bool {
	code := sqlState(err)
	return slices.ContainsFunc([]string{"08", "53", "57P", "58"}, func(class string) bool {
		return strings.HasPrefix(code, class)
	})
}

func sqlState(err error) string {
	pgErr := (*pgconn.PgError)(nil)
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
