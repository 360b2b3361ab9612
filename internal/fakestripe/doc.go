// Package fakestripe is a card processor that exists only in memory: a server that speaks the part of Stripe's API v1
// that the adapter in processor/stripe uses. No money moves. What it gets right on purpose is how requests go wrong:
//
//   - a key's first answer is stored and repeated, an internal error included (Idempotent-Replayed), and a key with
//     other parameters is refused; a key that is being worked on is a conflict; keys are forgotten after a window;
//   - what validation refuses, and what is turned away (too many requests), is not stored;
//   - a search lags behind what was made, a list does not;
//   - webhooks are signed as Stripe signs them, and come twice and out of order if told to.
//
// [Fault] breaks a request where it hurts, before or after its effect; POST /_fake/faults does the same from outside.
// [Server.Charges] and [Server.Counts] say what the processor really did.
//
// Sources: https://docs.stripe.com/api/idempotent_requests, https://docs.stripe.com/error-low-level,
// https://docs.stripe.com/search (Data freshness), https://docs.stripe.com/webhooks, read in November 2026.
package fakestripe
