// Package jobs is what Lastseat does for its users: the kinds of request, their arguments and the rules by which they
// are applied. [Register] makes a worker settle them, and [Kinds] lists them.
//
// A request is a struct that goes to [outbox.Enqueue] in the transaction of the business write:
//
//	receipt, err := outbox.Enqueue(ctx, tx, "order-1042", jobs.Transfer{
//		From: "customer:7", To: "shop", Amount: 1250, Currency: "EUR", // 12.50 EUR
//	})
//
// There are three families: payments ([Transfer], [Reverse]; [Authorize], [Capture], [Void], [Refund]), reservations
// ([Hold], [Confirm], [Cancel], [Extend]), and [Book], which does both or neither. [OpenAccount], [DefineResource] and
// [DefineLimit] set up what they work on, at once and without a worker.
//
// Amounts are integers of the currency's minor unit. Ids are the caller's own text, 1 to 200 characters.
//
// All kinds here share one settler. It locks and reads a batch's rows with one statement for each table, applies the
// requests to them in memory, one after the other, and writes the changes back with one statement for each table.
// Applying is a pure function of the rows and the request.
//
// Inside, a batch's state has two parts that know nothing of each other. money has the ledger (it posts entries,
// reserves and releases funds) and the payments (it authorizes them); places has resources and reservations (it holds,
// confirms and ends them), the customers' limits and the waiting lines. A request works on one of them, a booking on
// both. Each table has a file NAME_rows.go: its row, and the statements that read and write it.
package jobs
