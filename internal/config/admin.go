package config

import (
	"net"
	"net/url"
	"os"
)

// adminMistakes checks the variables of the worker's own server. What a stranger could reach has to be behind a token
// and TLS.
func (c *Config) adminMistakes(check func(name string, ok bool, format string, args ...any)) {
	const shortest = 16 // characters of a token
	for name, token := range map[string]string{
		"LASTSEAT_ADMIN_VIEWER_TOKEN": c.AdminViewerToken, "LASTSEAT_ADMIN_OPERATOR_TOKEN": c.AdminOperatorToken,
	} {
		check(name, token == "" || len(token) >= shortest, "is shorter than %d characters: openssl rand -hex 32 makes one",
			shortest)
	}
	if c.AdminViewerToken != "" {
		check("LASTSEAT_ADMIN_OPERATOR_TOKEN", c.AdminOperatorToken != c.AdminViewerToken,
			"is the viewer's: an operator's token has to be another one")
	}
	for name, file := range map[string]string{
		"LASTSEAT_ADMIN_TLS_CERT": c.AdminTLSCert, "LASTSEAT_ADMIN_TLS_KEY": c.AdminTLSKey,
	} {
		_, err := os.Stat(file)
		check(name, file == "" || err == nil, "is %q: there is no such file, or it can't be read", file)
	}
	check("LASTSEAT_ADMIN_TLS_CERT", c.AdminTLSCert == "" || c.AdminTLSKey != "",
		"is set, and LASTSEAT_ADMIN_TLS_KEY is not")
	check("LASTSEAT_ADMIN_TLS_KEY", c.AdminTLSKey == "" || c.AdminTLSCert != "",
		"is set, and LASTSEAT_ADMIN_TLS_CERT is not")
	proxy, err := url.Parse(c.AdminProxyURL)
	check("LASTSEAT_ADMIN_PROXY_URL", c.AdminProxyURL == "" || err == nil && proxy.Host != "" && proxy.User == nil &&
		(proxy.Scheme == "https" || proxy.Scheme == "http" && Loopback(proxy.Hostname())) && proxy.RawQuery == "",
		"is not an address at which browsers reach a proxy: https://ops.example.com/lastseat")
	c.adminAddressMistakes(check)
}

func (c *Config) adminAddressMistakes(check func(name string, ok bool, format string, args ...any)) {
	const name = "LASTSEAT_ADMIN_ADDR"
	if c.AdminAddr == "" {
		return
	}
	token, safe := c.AdminViewerToken+c.AdminOperatorToken != "", c.AdminTLSCert+c.AdminProxyURL != ""
	host, _, err := net.SplitHostPort(c.AdminAddr)
	switch {
	case err != nil:
		check(name, false, "is %q: an address and a port, 127.0.0.1:9187", c.AdminAddr)
	case c.AdminProxyURL != "" && !token:
		check(name, false, "is behind a proxy, which lets strangers in: set LASTSEAT_ADMIN_VIEWER_TOKEN or "+
			"LASTSEAT_ADMIN_OPERATOR_TOKEN")
	case !Loopback(host) && !token:
		check(name, false, "is %q, which other machines reach: set LASTSEAT_ADMIN_VIEWER_TOKEN or "+
			"LASTSEAT_ADMIN_OPERATOR_TOKEN, or listen on 127.0.0.1", c.AdminAddr)
	case !Loopback(host) && !safe:
		check(name, false, "is %q, which other machines reach, and tokens would cross the network readable: set "+
			"LASTSEAT_ADMIN_TLS_CERT and LASTSEAT_ADMIN_TLS_KEY, or LASTSEAT_ADMIN_PROXY_URL if a proxy has TLS, or listen "+
			"on 127.0.0.1", c.AdminAddr)
	}
}

// Loopback tells whether a host is this machine, and nobody can make it another.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
