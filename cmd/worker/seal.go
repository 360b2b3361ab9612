package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/lastseat/lastseat/internal/audit"
	"github.com/lastseat/lastseat/internal/cli"
	"github.com/lastseat/lastseat/internal/config"
)

// printSeal prints the seal on standard output, and on standard error what it is worth.
func (p *program) printSeal(loaded config.Config, seal *audit.Seal) error {
	note := "The seal is not signed: whoever can change the copy that you keep can forge it. LASTSEAT_SEAL_KEY signs it."
	if loaded.SealKey != "" {
		key, err := audit.ParseSealKey(loaded.SealKey)
		if err != nil {
			return err
		}
		seal.Sign(key)
		public, _ := key.Public().(ed25519.PublicKey)
		note = "The seal is signed. LASTSEAT_SEAL_PUBLIC_KEY=" + hex.EncodeToString(public) + " proves it."
	}
	encoded, err := json.Marshal(seal)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(p.streams.Err, note)
	_, err = fmt.Fprintln(p.streams.Out, string(encoded))
	return err
}

// readSeal reads the seal in a file, and proves its signature if there is a key. No file, no seal.
func (p *program) readSeal(loaded config.Config, file string) (*audit.Seal, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.BadData("there is no file %q: check the name", file)
	}
	if err != nil {
		return nil, cli.BadData("%w", err)
	}
	seal, err := audit.ParseSeal(text)
	if err != nil {
		return nil, cli.BadData("%q: %w: give a file that worker audit --seal has written", file, err)
	}
	var public ed25519.PublicKey
	switch {
	case loaded.SealPublicKey != "":
		public, err = audit.ParseSealPublicKey(loaded.SealPublicKey)
	case loaded.SealKey != "":
		var key ed25519.PrivateKey
		if key, err = audit.ParseSealKey(loaded.SealKey); err == nil {
			public, _ = key.Public().(ed25519.PublicKey)
		}
	default:
		_, _ = fmt.Fprintln(p.streams.Err, "The seal's signature is not proved: LASTSEAT_SEAL_PUBLIC_KEY is not set.")
		return seal, nil
	}
	if err != nil {
		return nil, err
	}
	if !seal.Verify(public) {
		refused := fmt.Errorf("%s was not signed with this key, or was changed since", file)
		return nil, &cli.Error{Code: cli.ExitViolation, Err: refused}
	}
	return seal, nil
}
