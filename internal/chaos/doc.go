// Package chaos is the fault bench: it breaks a running system in every way that it knows, repairs it, and proves that
// nothing that was promised is broken.
//
// A run has a Postgres of its own, real `worker` and `enqueue` programs as processes, and clients that write a
// business row in the transaction that asks for a request. The clients note every call with its time and its end: ok,
// refused, or unknown. A nemesis carries out a [Plan], which a seed makes: kills, freezes, restarts, cut networks,
// locks, bad jobs. Then everything is healed and drained, and the checks compare the clients' notes with the database:
//
//	plan.go, faults*.go    what is done to the system, and when
//	bench.go, server.go, processes.go, network.go   the system
//	clock.go, disk_linux.go                         a clock that can be set, disks that can be filled
//	client.go, domain.go   what is asked of it
//	history.go             what the clients saw
//	follow.go, sample.go   a reader of all outcomes, and a clock of the progress
//	state.go               what the database says in the end
//	check*.go, linear.go   pure functions of these: each returns what is broken
//	reduce.go              the shortest plan that still breaks something
//	report.go              docs/reliability.md, from results.json
//
// `make chaos` runs it for long. [Sabotages] break the system on purpose; a test demands that a check sees each.
package chaos
