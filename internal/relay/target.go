package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Target is where a relay delivers. The URL and the options hold secrets: only Name is for people and logs.
type Target struct {
	Name    string
	URL     *url.URL // without the fragment
	Options url.Values
}

// options are those that each scheme knows, besides name and from.
var options = map[string][]string{
	"https":     {"secret", "allow", "timeout", "give_up", "redirects"},
	"http":      {"secret", "allow", "timeout", "give_up", "redirects"},
	"nats":      {"stream", "subject", "replicas", "server", "creds", "monitor"},
	"tls":       {"stream", "subject", "replicas", "server", "creds", "monitor"},
	"kafka":     {"server", "sasl", "spread"},
	"kafka+tls": {"server", "sasl", "spread"},
}

// longestName is what the table accepts.
const longestName = 200

// ParseTargets reads LASTSEAT_RELAY: URLs with commas between them. What is behind the # of a URL are our options,
// since no client sends it to a server: name=billing&secret=whsec_... An error repeats nothing of a URL but its place.
func ParseTargets(text string) (targets []Target, err error) {
	number := 0
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		number++
		target, parseErr := parseTarget(part)
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("URL %d: %w", number, parseErr))
			continue
		}
		if slices.ContainsFunc(targets, func(other Target) bool { return other.Name == target.Name }) {
			err = errors.Join(err, fmt.Errorf("URL %d: another one has the name %q: give it one of its own with #name=",
				number, target.Name))
		}
		targets = append(targets, target)
	}
	return targets, err
}

func parseTarget(text string) (Target, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" {
		return Target{}, errors.New("can't be read: SCHEME://HOST/PATH#OPTION=VALUE, special characters as %40, a comma " +
			"as %2C")
	}
	known, ok := options[parsed.Scheme]
	if !ok {
		return Target{}, fmt.Errorf("the scheme %q is not one of %s", parsed.Scheme,
			strings.Join(slices.Sorted(maps.Keys(options)), ", "))
	}
	given, err := url.ParseQuery(parsed.EscapedFragment())
	if err != nil {
		return Target{}, errors.New("the options behind # can't be read: OPTION=VALUE&OPTION=VALUE")
	}
	for option := range given {
		if option != "name" && option != "from" && !slices.Contains(known, option) {
			return Target{}, fmt.Errorf("%s has no option %q: name, from, %s", parsed.Scheme, option,
				strings.Join(known, ", "))
		}
	}
	target := Target{URL: parsed, Options: given}
	target.URL.Fragment, target.URL.RawFragment = "", ""
	if target.Name = given.Get("name"); target.Name == "" {
		target.Name = defaultName(parsed)
	}
	if !utf8.ValidString(target.Name) || utf8.RuneCountInString(target.Name) > longestName {
		return Target{}, fmt.Errorf("its name is longer than %d characters: #name= gives it another", longestName)
	}
	if from := given.Get("from"); from != "" && from != "now" && from != "beginning" {
		return Target{}, errors.New(`from is "beginning" or "now"`)
	}
	return target, nil
}

// defaultName is what of a URL is no secret. The path of a webhook often is one; its hash keeps two of them apart.
func defaultName(of *url.URL) string {
	name := of.Scheme + "://" + of.Host
	path := strings.TrimPrefix(of.EscapedPath(), "/")
	switch {
	case path == "":
	case of.Scheme == "https" || of.Scheme == "http":
		sum := sha256.Sum256([]byte(path))
		name += "/" + hex.EncodeToString(sum[:3])
	default:
		name += "/" + path
	}
	return name
}

// FromNow tells whether a relay that is new begins with what is settled from now on, and not at the beginning.
func (t Target) FromNow() bool { return t.Options.Get("from") == "now" }

// Duration is the option of this name, if it is there and no shorter than least.
func (t Target) Duration(option string, fallback, least time.Duration) (time.Duration, error) {
	text := t.Options.Get(option)
	if text == "" {
		return fallback, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least {
		return 0, fmt.Errorf("%s is a duration of %v or longer: %s=%v", option, least, option, fallback)
	}
	return d, nil
}

// Number is the option of this name, if it is there and from 1 to most; 0 if it is not there.
func (t Target) Number(option string, most int) (int, error) {
	text := t.Options.Get(option)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%s is a number from 1 to %d", option, most)
	}
	return n, nil
}

// Servers are the addresses of the URL and of its server options.
func (t Target) Servers(port string) []string {
	var servers []string
	for _, address := range append([]string{t.URL.Host}, t.Options["server"]...) {
		if (&url.URL{Host: address}).Port() == "" {
			address += ":" + port
		}
		servers = append(servers, address)
	}
	return servers
}
