// Package schema is Lastseat's contract in SQL: the tables, functions and roles of the Postgres schema "lastseat", as
// numbered migrations (tables, types, triggers) and as a set of functions that are embedded in the binary, River's own
// tables included.
//
// [Up] brings a database to the version that this binary knows, [Check] tells whether it is there. Everything
// belongs to the role lastseat_owner. What the other roles may do stands beside each table in migrations/ and beside
// each function in functions/.
package schema
