package jobs

// The codes of outcomes, as they stand in requests.code.
const (
	// applied
	CodeTransferred = "transferred"

	// rejected
	CodeInsufficientFunds = "insufficient_funds"
	CodeCurrencyMismatch  = "currency_mismatch"
	CodeOutOfRange        = "out_of_range" // a sum that a bigint can't hold
	CodeAccountNotFound   = "account_not_found"
)
