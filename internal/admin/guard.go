package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/lastseat/lastseat/internal/config"
	"github.com/lastseat/lastseat/internal/httplimit"
)

// role is what somebody may do.
type role int

const (
	stranger role = iota
	viewer        // looks
	operator      // changes things, too
)

// guard decides who gets through. A page of another site that a viewer's browser has open, and a name of its own that
// leads to this machine, get nowhere.
type guard struct {
	viewer, operator [sha256.Size]byte // of the tokens; of "" where there is none
	open             bool              // whoever reaches the server is a viewer
	tls              bool
	names            func(host string) bool // of the certificate
	proxy            *url.URL
	subpath          string // "" or "/lastseat"
}

// digest is of one length for every token, so that comparing tells nothing of a token's.
func digest(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// role tells what a request may do. The token comes as a bearer token, or as the password of any user name.
func (g *guard) role(r *http.Request) role {
	_, token, given := r.BasicAuth()
	if bearer, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); found {
		token, given = strings.TrimSpace(bearer), true
	}
	have := digest(token)
	isOperator := subtle.ConstantTimeCompare(have[:], g.operator[:]) == 1
	isViewer := subtle.ConstantTimeCompare(have[:], g.viewer[:]) == 1
	switch {
	case given && token == "":
		return stranger
	case given && isOperator:
		return operator
	case given && isViewer:
		return viewer
	case given: // a wrong token is a mistake, even where none is needed
		return stranger
	case g.open:
		return viewer
	}
	return stranger
}

// viewers lets those through who may look.
func (g *guard) viewers(next http.Handler) http.Handler { return g.atLeast(viewer, next) }

func (g *guard) atLeast(least role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch have := g.role(r); {
		case have == stranger:
			askForToken(w)
		case have < least:
			http.Error(w, "the operator's token is needed", http.StatusForbidden)
		default:
			httplimit.Keep(r)
			next.ServeHTTP(w, r)
		}
	})
}

func askForToken(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="lastseat", charset="UTF-8"`)
	http.Error(w, "a token is needed: as a bearer token, or as the password of any user name", http.StatusUnauthorized)
}

// all is in front of everything.
func (g *guard) all(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if g.tls || g.proxy.Scheme == "https" {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		}
		switch {
		case !g.knownHost(r.Host):
			http.Error(w, "this server is not reached by that name: use its address, the name of its certificate, or that "+
				"of LASTSEAT_ADMIN_PROXY_URL", http.StatusMisdirectedRequest)
			return
		case !g.sameOrigin(r):
			http.Error(w, "another site's page may not use this server", http.StatusForbidden)
			return
		case !cleanPath(r.URL):
			http.Error(w, "no such page", http.StatusNotFound)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, mostBody)
		if g.subpath != "" { // proxies pass it on, or strip it
			http.StripPrefix(g.subpath, next).ServeHTTP(w, g.withSubpath(r))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headers of every answer. The page has no inline script and no inline style.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; " +
		"img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "same-origin", // with no-referrer, a form's Origin would be null
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-store",
}

func (g *guard) withSubpath(r *http.Request) *http.Request {
	if r.URL.Path == g.subpath || strings.HasPrefix(r.URL.Path, g.subpath+"/") {
		return r
	}
	with := *r
	address := *r.URL
	address.Path, address.RawPath = g.subpath+address.Path, ""
	with.URL = &address
	return &with
}

// knownHost tells whether a Host header names this server. Nobody can have an IP address lead elsewhere, as they can a
// name of theirs.
func (g *guard) knownHost(hostPort string) bool {
	host := (&url.URL{Host: hostPort}).Hostname()
	switch {
	case host == "":
		return false
	case config.Loopback(host) || net.ParseIP(host) != nil || g.names(host):
		return true
	}
	return strings.EqualFold(hostPort, g.proxy.Host)
}

// sameOrigin tells whether a request comes from a page of this server, or from no page at all. Browsers say it in one
// of two headers with whatever changes something. A link that is followed from elsewhere is no reason to refuse a page.
func (g *guard) sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		if r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" ||
			r.Header.Get("Sec-Fetch-Dest") != "document" {
			return false
		}
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	from, err := url.Parse(origins[0])
	if err != nil || len(origins) != 1 {
		return false
	}
	if g.proxy.Host != "" && strings.EqualFold(from.Host, g.proxy.Host) {
		return from.Scheme == g.proxy.Scheme
	}
	scheme := "http"
	if g.tls {
		scheme = "https"
	}
	return from.Scheme == scheme && strings.EqualFold(from.Host, r.Host)
}

// cleanPath tells whether a path says what it means: no "..", no "//", nothing of that in disguise.
func cleanPath(address *url.URL) bool {
	p := address.Path
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return p == clean && strings.HasPrefix(p, "/") && !strings.ContainsAny(p, "\\\x00")
}
