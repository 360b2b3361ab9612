package processor

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Key makes an operation's key of texts of ours, whatever characters they have: 64 hexadecimal digits of a SHA-256.
// The parts count, and not only their characters: Key("a", "bc") is not Key("ab", "c").
func Key(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write([]byte(part))
	}
	return hex.EncodeToString(hash.Sum(nil))
}
