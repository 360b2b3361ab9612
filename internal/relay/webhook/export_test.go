package webhook

// RefusePrivate is the check of each address that is dialed.
var RefusePrivate = refusePrivate
