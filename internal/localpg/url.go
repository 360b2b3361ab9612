package localpg

import (
	"net/url"
	"strings"
)

// WithDatabase points a connection string, of either form that pgx takes, to another database.
func WithDatabase(conn, name string) string {
	if !strings.HasPrefix(conn, "postgres://") && !strings.HasPrefix(conn, "postgresql://") {
		return conn + " dbname=" + name // of two, the last counts
	}
	u, err := url.Parse(conn)
	if err != nil {
		return conn // whoever connects will say what is wrong with it
	}
	u.Path = "/" + name
	q := u.Query()
	q.Del("dbname")
	q.Del("database")
	u.RawQuery = q.Encode()
	return u.String()
}
