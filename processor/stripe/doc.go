// Package stripe is Stripe as a [processor.Gateway], by its API v1 and stripe-go.
//
// An Authorize or a Charge makes a PaymentIntent and confirms it in one request, for a card's token (pm_...); a charge
// that needs the customer to prove who they are is declined (authentication_required). Every request that may change
// something carries the operation's key, and is sent once: the library's own retries are off, since each attempt
// belongs to the caller.
//
// What an answer means is a table, judge.go. Our payment's id and the operation's key are metadata of what is made:
// lastseat_payment and lastseat_key, and lastseat_capture_key after a Capture.
package stripe
