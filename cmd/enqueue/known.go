package main

import (
	"errors"
	"slices"

	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

var errSince = errors.New("it is a duration like 90s, 15m, 1h or 7d, a time like 2026-11-23T12:00:00Z, or a " +
	"date like 2026-11-23")

// builtInKinds are the names of the kinds that can be asked for.
func builtInKinds() (names []string) {
	for _, kind := range jobs.Kinds() {
		names = append(names, kind.Name)
	}
	return names
}

// knownKinds are those, and what the worker records by itself.
func knownKinds() []string {
	return append(builtInKinds(), "payment.expire", "reservation.expire", "reservation.grant")
}

// knownCodes are the codes of all outcomes of the built-in kinds and of the mechanism.
func knownCodes() []string {
	codes := []string{outbox.CodeInvalidArgs, outbox.CodeRetriesExhausted, outbox.CodeJobCancelled, jobs.CodeExpired}
	for _, kind := range jobs.Kinds() {
		codes = append(append(codes, kind.Applied...), kind.Rejected...)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}
