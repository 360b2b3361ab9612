// Package faultpoint lets the fault bench (internal/chaos) end or freeze a worker at a named point, and take away one
// guarantee at a time to see that the bench notices. Only programs built with the tag chaos can do either. In every
// other build [Reached] does nothing and [Sabotaged] is false, so that the compiler leaves both out.
package faultpoint

// A Point is a place in the code of a worker.
type Point string

// The points, in the order in which a batch reaches them.
const (
	BeforeClaim  Point = "before-claim"  // the lane is about to begin a transaction
	AfterClaim   Point = "after-claim"   // jobs are locked
	AfterApply   Point = "after-apply"   // the settlers have decided; nothing is sent yet
	BeforeCommit Point = "before-commit" // all is written
	AfterCommit  Point = "after-commit"  // Postgres has answered COMMIT
	InSweep      Point = "in-sweep"      // what has run out is written and not committed
	InGrant      Point = "in-grant"      // somebody in a waiting line gets a place
)

// Points are all of them.
func Points() []Point {
	return []Point{BeforeClaim, AfterClaim, AfterApply, BeforeCommit, AfterCommit, InSweep, InGrant}
}

// A Sabotage takes a guarantee away.
type Sabotage string

// The sabotages that need the program's help. internal/chaos has others, which it does to the database.
const (
	NoLane          Sabotage = "no-lane"          // every worker settles, fence and lock notwithstanding
	Unordered       Sabotage = "unordered"        // the claim takes any jobs, not the first
	NoDuplicates    Sabotage = "no-duplicates"    // a second job of a key has its effect again
	CompletionFirst Sabotage = "completion-first" // outcome and end of the job are committed before the effect
	SweepByClock    Sabotage = "sweep-by-clock"   // what has run out is swept by now, not by how far the lane is
	Blameless       Sabotage = "blameless"        // no job is charged with what it did
	LostIsRefused   Sabotage = "lost-is-refused"  // a lost reply to COMMIT counts as: it did not happen
	NoCapacity      Sabotage = "no-capacity"      // nobody counts the places that are left
)
