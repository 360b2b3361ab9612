// Package httplimit bounds what strangers can take of a worker: the connections, the time and the memory of its own
// servers. A lane needs none of what the limits leave to strangers.
package httplimit

import (
	"log/slog"
	"net/http"
	"time"
)

// MostConnections of one server.
const MostConnections = 128

const (
	mostHeader = 16 << 10 // bytes

	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute // longer than an examination, and than a webhook takes
	idleTimeout   = time.Minute
)

// NewServer makes a server for the connections of a [Limiter].
func NewServer(limiter *Limiter, handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: mostHeader, ConnContext: limiter.connContext,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // strangers don't fill the log
	}
}
