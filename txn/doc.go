// Package txn runs a service's transactions: the business write that asks for a payment or a reservation, and all
// others.
//
//	err := txn.Run(ctx, pool, txn.Options{Isolation: pgx.Serializable}, func(ctx context.Context, tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, `INSERT INTO orders ...`); err != nil {
//			return err
//		}
//		_, err := outbox.Enqueue(ctx, tx, "order-1042", transfer)
//		return err
//	})
//
// [Run] begins, commits and repeats; [Nested] is a part of a transaction that may fail alone; [ExpectOne] is an
// optimistic update by version; [Lock] locks rows in an order that does not deadlock.
//
// What is promised: fn's work is committed whole or not at all, and at most once. If Run returns nil, it is
// committed. If Run returns an error, it is not, with one exception: after [outbox.ErrCommitUnknown] only the
// database knows, and the same keys can be asked for again. Run repeats fn after a conflict (40001, 40P01), a
// bounded number of times, and never inside a transaction that somebody else began. Isolation, access mode,
// deadline and retries belong to the outermost transaction: asking for them in a part of one does not compile.
//
// What is not promised: anything that fn does outside of its transaction. A retry repeats that and a rollback does
// not undo it; such work is a request ([outbox.Enqueue]) or comes after Run. Nor is fn kept from sending COMMIT as
// SQL of its own. A deadline ends the waiting; the server may need a moment longer to notice and free the locks.
//
// docs/concurrency-mapping.md in the repository has the words of Spring, JPA, Rails, Django and SQLAlchemy,
// propagation and lock modes above all, and what each is called here.
package txn
