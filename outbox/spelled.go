package outbox

import (
	"bytes"
	"crypto/sha256"
)

// asAsked tells whether the job's arguments are still those that its request was made with. A river_job is a table that
// others can write to, too: River's clients in other languages, a colleague's script. What they change is not settled.
//
// The request's fingerprint is of the arguments in one canonical form; where they were spelled otherwise,
// requests.spelled is that of the spelling. So one hash of the bytes at hand is enough.
func (c *claimed) asAsked() bool {
	sum := spelling(c.Kind, c.Args)
	return bytes.Equal(sum[:], c.request.spelled)
}

// spelling is the SHA-256 of a kind and of arguments without the key, as Postgres prints them:
// sha256(convert_to(kind || ' ' || (args - 'key')::text, 'UTF8')).
func spelling(kind string, args []byte) (sum [sha256.Size]byte) {
	const usual = 512 // bytes
	var room [usual]byte
	text := append(append(room[:0], kind...), ' ')
	if from, to := keyMember(args); to > 0 {
		text = append(append(text, args[:from]...), args[to:]...)
	} else {
		text = append(text, args...)
	}
	return sha256.Sum256(text)
}

// keyMember finds the member "key" of a JSON object as Postgres prints a jsonb, {"a": 1, "key": "k"}, with the comma
// that goes with it; 0, 0: there is none.
func keyMember(args []byte) (from, to int) {
	if len(args) < 2 || args[0] != '{' {
		return 0, 0
	}
	for at := 1; at < len(args)-1; {
		colon := skipValue(args, at) // the name
		end := skipValue(args, min(colon+2, len(args)))
		if string(args[at:colon]) != `"key"` {
			at = end + len(", ")
			continue
		}
		switch {
		case at > 1: // with the comma before it
			return at - len(", "), end
		case args[end] == ',':
			return at, end + len(", ")
		}
		return at, end
	}
	return 0, 0
}

// skipValue returns where the value that begins at a place ends.
func skipValue(json []byte, at int) int {
	depth := 0
	for ; at < len(json); at++ {
		switch json[at] {
		case '"':
			for at++; at < len(json) && json[at] != '"'; at++ {
				if json[at] == '\\' {
					at++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at
			}
			depth--
		case ',', ':':
			if depth == 0 {
				return at
			}
		}
	}
	return at
}
