package cli

// NewProgressOn is NewProgress on something that is no terminal.
var NewProgressOn = newProgress
