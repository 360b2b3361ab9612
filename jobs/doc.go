// Package jobs is what Lastseat does for its users: the kinds of request, their arguments and the rules by which they
// are applied. [Register] makes a worker settle them.
//
// A request is a struct that goes to [outbox.Enqueue] in the transaction of the business write:
//
//	receipt, err := outbox.Enqueue(ctx, tx, "order-1042", jobs.Transfer{
//		From: "customer:7", To: "shop", Amount: 1250, Currency: "EUR", // 12.50 EUR
//	})
//
// There are three families: payments ([Transfer], [Reverse]; [Authorize], [Capture], [Void], [Refund]), reservations ([Hold],
// [Confirm], [Cancel], [Extend]), and [Book], which is both or neither. [OpenAccount] and the like set up what they work on.
//
// Amounts are integers of the currency's minor unit. Ids are the caller's own text, 1 to 200 characters.
//
// All kinds here share one settler: a batch's rows are locked and read with one statement for each table, the requests
// are applied to them in memory, one after the other, and what came of it is written back with one statement for each
// table. Applying is a pure function of the rows and the request.
package jobs
