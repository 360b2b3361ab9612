// Package outbox makes work happen exactly once and in order, on Postgres alone.
//
// A service asks for a request in the transaction of its own business write ([Enqueue]); a [Worker] settles it. The
// flow:
//
//  1. enqueue: a row in requests (pending; its key is used once and for ever) and a row in River's river_job, in the
//     caller's transaction;
//  2. claim: the worker that holds the lane takes the next batch of jobs in order, FOR UPDATE SKIP LOCKED;
//  3. apply: the kinds' settlers work out and write the effects, inside the same SERIALIZABLE transaction;
//  4. record: each request gets its outcome, applied or rejected;
//  5. finish: the jobs are deleted or completed, and one COMMIT makes all of it true, or none.
//
// What is promised: a request takes effect at most once, however often it is asked for and whatever crashes; if the
// transaction that asked for A had committed before B was asked for, A takes effect before B; and every request
// gets an outcome, or stays pending with a job that will be tried again.
//
// What is not promised: order among requests that are scheduled for later, have different priorities, or wait for
// another attempt after a technical error; nor anything about work outside this database.
//
// The package knows River and pgx, but no payment and no seat: kinds register with it ([Kinds]). To add a kind,
// write a handler ([Register]), which is called for one request after the other, or a [Settler], which gets a
// batch. A [Sweeper] takes care of what runs out by itself. A service that follows what is settled reads
// [OutcomesSince].
package outbox
