package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

const secretPrefix = "whsec_"

// NewSecret makes a secret.
func NewSecret() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(random[:])
}

// ParseSecret reads a secret. In a URL's options a + of base64 has become a space.
func ParseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(strings.ReplaceAll(text, " ", "+"), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("a secret is whsec_ and the base64 of 24 to 64 bytes: worker relay secret makes one")
	}
	return key, nil
}

// Sign is the value of webhook-signature: a signature for each secret, with spaces between them.
func Sign(secrets [][]byte, id string, at time.Time, body []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}
