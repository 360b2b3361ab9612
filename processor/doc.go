// Package processor is the seam between Lastseat and whoever moves money outside the database: a card processor. A
// [Gateway] is one processor; processor/stripe is the first.
//
// A call to a processor ends in one of three ways, and only two of them are known:
//
//   - done: the money has moved, or is reserved, or was let go;
//   - declined: it has not, and the processor says why. That is an outcome, not an error;
//   - unknown: the request was sent and its answer is missing or means nothing. It may have moved money.
//
// An error of a Gateway's method is none of these. It says that this attempt has had no effect ([ErrNotSent]) or that
// such an operation can't be sent at all ([ErrInvalid]).
//
// After an unknown answer the same [Operation] is sent again, with the same key and the same content: the processor
// then carries it out once, however often it is asked. That ends in two cases. A processor may keep its answer under
// the key, an internal error included ([Answer.Stored]), and it forgets keys after a while ([Gateway.KeyWindow]). Then
// nothing is sent again: [Gateway.LookUp] fetches what is there, and [Record.Answer] says whether the operation was
// carried out.
//
// No method may be called while a transaction is open.
package processor
