// Package schema is Lastseat's contract in SQL: the tables, functions and roles of the Postgres schema "lastseat", as
// numbered migrations that are embedded in the binary, River's own tables included.
//
// [Up] brings a database to the version that this binary knows, [Check] tells whether it is there. Everything belongs to
// the role lastseat_owner; what the others may do is in migrations/0004_rights.sql.
package schema
