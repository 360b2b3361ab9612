// Package txn runs the transactions of a service: the business write that asks for a payment or a reservation, and
// whatever else the service does beside it.
//
//	err := txn.Run(ctx, pool, txn.Options{Isolation: pgx.Serializable}, func(ctx context.Context, tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, `INSERT INTO orders ...`); err != nil {
//			return err
//		}
//		_, err := outbox.Enqueue(ctx, tx, "order-1042", transfer)
//		return err
//	})
//
// [Run] begins, commits and repeats; [Nested] is a part of a transaction that may fail alone; [ExpectOne] is an optimistic
// update by version; [Lock] locks rows in an order that does not deadlock.
//
// What is promised: fn's work is committed whole or not at all, and at most once; if Run returns nil it is committed,
// and if it returns an error it is not, with the one exception that the error says so: [outbox.ErrCommitUnknown], after
// which the same keys can be asked for again. Conflicts (40001, 40P01) are repeated from the beginning, a bounded number
// of times, and never inside a transaction that somebody else began. What a transaction can't have when it is joined or
// nested (isolation, access mode, deadline, retries) can't be asked for there: it compiles only for the outermost.
//
// What is not promised: anything that fn does outside of its transaction, which a retry repeats and a rollback does not
// take back; such work is a request ([outbox.Enqueue]) or comes after Run. Nor is fn kept from sending COMMIT as
// SQL of its own. A deadline ends the waiting; the server may need a moment longer to notice and free the locks.
//
// Where a word of Spring, JPA, Rails, Django or SQLAlchemy is looked for, propagation and lock modes above all,
// docs/concurrency-mapping.md in the repository has it beside what it is here.
package txn
