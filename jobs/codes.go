package jobs

// The codes of outcomes, as they stand in requests.code.
const (
	// applied
	CodeTransferred = "transferred"
	CodeAuthorized  = "authorized"
	CodeCaptured    = "captured"
	CodeVoided      = "voided"
	CodeRefunded    = "refunded"
	CodeReturned    = "returned" // what a processor took after the payment was given up
	CodeCharged     = "charged"
	CodeReversed    = "reversed"
	CodeHeld        = "held"
	CodeWaiting     = "waiting"
	CodeConfirmed   = "confirmed"
	CodeCancelled   = "cancelled"
	CodeExtended    = "extended"
	CodeBooked      = "booked"
	CodeExpired     = "expired" // nobody asked for it: the worker's own record of something that ran out

	// rejected
	CodeInsufficientFunds       = "insufficient_funds"
	CodeCurrencyMismatch        = "currency_mismatch"
	CodeOutOfRange              = "out_of_range" // a sum that a bigint can't hold
	CodeDeclined                = "declined"     // by a processor; the detail has its reason
	CodeAccountNotFound         = "account_not_found"
	CodePaymentNotFound         = "payment_not_found"
	CodeAmountExceedsAuthorized = "amount_exceeds_authorized"
	CodeAmountExceedsCaptured   = "amount_exceeds_captured"
	CodeAlreadyCaptured         = "already_captured"
	CodeAlreadyVoided           = "already_voided"
	CodeAlreadyReversed         = "already_reversed"
	CodeAuthorizationExpired    = "authorization_expired"
	CodeNotAuthorized           = "not_authorized"
	CodeNotLate                 = "not_late" // the payment stands: its charge is in the books, or is not decided yet
	CodeSoldOut                 = "sold_out"
	CodeOverlap                 = "overlap"
	CodeResourceNotFound        = "resource_not_found"
	CodeReservationNotFound     = "reservation_not_found"
	CodeNotHeld                 = "not_held"
	CodeHoldExpired             = "hold_expired"
	CodeCustomerLimit           = "customer_limit"
)
