package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Seal is the end of every chain of the history at one moment. Whoever keeps it elsewhere sees later that the history
// up to it was not rewritten or cut.
type Seal struct {
	Sealed    string     `json:"sealed"` // "lastseat history 1"
	At        time.Time  `json:"at"`
	Database  string     `json:"database"`
	Heads     []SealHead `json:"heads"`
	Signature HexBytes   `json:"signature,omitempty"` // Ed25519, of the seal without it
}

// SealHead is the last link of a chain.
type SealHead struct {
	Chain  string   `json:"chain"`
	Number int64    `json:"number"`
	Hash   HexBytes `json:"hash"`
}

// HexBytes are hexadecimal in JSON.
type HexBytes []byte

// MarshalText implements encoding.TextMarshaler.
func (b HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *HexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

const (
	sealFormat = "lastseat history 1"

	headsSQL = `
	SELECT DISTINCT ON (chain) chain, number, hash FROM lastseat.history ORDER BY chain, number DESC`
)

// takeSeal reads the ends of all chains.
func takeSeal(ctx context.Context, tx pgx.Tx) (*Seal, error) {
	seal := &Seal{Sealed: sealFormat, Heads: []SealHead{}}
	if err := tx.QueryRow(ctx, `SELECT now(), current_database()`).Scan(&seal.At, &seal.Database); err != nil {
		return nil, err
	}
	seal.At = seal.At.UTC()
	rows, err := tx.Query(ctx, headsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the ends of the history: %w", err)
	}
	var head SealHead
	_, err = pgx.ForEachRow(rows, []any{&head.Chain, &head.Number, (*[]byte)(&head.Hash)}, func() error {
		seal.Heads = append(seal.Heads, SealHead{head.Chain, head.Number, append(HexBytes(nil), head.Hash...)})
		return nil
	})
	return seal, err
}

// ParseSealKey reads the secret that signs seals: 32 bytes, in hexadecimal.
func ParseSealKey(text string) (ed25519.PrivateKey, error) {
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("a key that signs seals is 64 hexadecimal digits; openssl rand -hex 32 makes one")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParseSealPublicKey reads the key that proves a seal's signature: 32 bytes, in hexadecimal.
func ParseSealPublicKey(text string) (ed25519.PublicKey, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("a public key for seals is 64 hexadecimal digits, as worker audit --seal prints them")
	}
	return key, nil
}

// Sign signs the seal.
func (s *Seal) Sign(key ed25519.PrivateKey) { s.Signature = ed25519.Sign(key, s.signed()) }

// Verify tells whether the seal was signed with the key that belongs to a public key.
func (s *Seal) Verify(key ed25519.PublicKey) bool {
	return len(s.Signature) == ed25519.SignatureSize && ed25519.Verify(key, s.signed(), s.Signature)
}

func (s *Seal) signed() []byte {
	unsigned := *s
	unsigned.Signature = nil
	encoded, _ := json.Marshal(unsigned) // texts, numbers and times of this century can't fail
	return encoded
}

// ParseSeal reads what worker audit --seal has printed.
func ParseSeal(text []byte) (*Seal, error) {
	var s Seal
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("this is no seal: %w", err)
	}
	if s.Sealed != sealFormat {
		return nil, fmt.Errorf("this is no seal of this version: %q is not %q", s.Sealed, sealFormat)
	}
	return &s, nil
}
