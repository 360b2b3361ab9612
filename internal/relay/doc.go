// Package relay hands outcomes to the outside, in the order in which they were settled: to a broker or a webhook.
//
// A relay has a row in lastseat.relays with a cursor of lastseat.outcomes_since. It reads a batch behind the cursor,
// delivers it, and moves the cursor when the target has acknowledged. No transaction is open while it speaks to the
// target, and the lane knows nothing of it: a target that is slow or gone costs the lane nothing.
//
// What is promised: no outcome is passed over, and none comes before one that was settled before it. An outcome may
// be delivered more than once: a relay that was killed between the acknowledgement and the cursor does so. It has
// the same id each time, lastseat:DATABASE:CURSOR, so whoever looks at ids takes each once.
//
// One relay at a time serves a target. The row fences it: whoever takes the row raises its epoch, and the cursor
// moves only in the epoch of whoever moves it. That the holder is alive is seen from its session and its lease; a
// holder that is wrongly taken for dead delivers some outcomes a second time, and no more.
package relay
