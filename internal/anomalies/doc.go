// Package anomalies has no code, but tests: every anomaly of concurrent transactions, in two halves. First naive code
// shows it on a real Postgres, by isolation level and by the mechanisms that are known against it, or is stopped; then
// the same business case goes through Lastseat at each level, and does not have it. Barriers make every interleaving
// certain.
//
// What each has to come to is the table in table_test.go, and docs/concurrency.md shows the same table; a test
// compares them.
package anomalies
