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
	ErrUnknown   = errors.New("unknown object")                  // LS003: account, payment, resource, request ...
	ErrTooLarge  = errors.New("payload too large")               // LS004
)

var contractErrors = map[string]error{
	"LS001": ErrKeyReused, "LS002": ErrInvalid, "LS003": ErrUnknown, "LS004": ErrTooLarge,
}

// ContractError gives an error of class LS its sentinel and one line of text. Postgres's own refusals of a NUL byte
// or a broken character become [ErrInvalid], too. Other errors pass through.
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

// printable keeps an error on one line, and shows characters that can't be seen, or that a terminal obeys.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (e *requestError) Unwrap() []error { return []error{e.sentinel, e.pg} }
