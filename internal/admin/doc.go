// Package admin is the worker's own server: whether it lives, whether it is ready, what it counts, and what an operator
// wants to see. It never shares a connection with a lane, and strangers can neither fill it nor slow a lane down.
//
// /livez answers everybody and touches no database. /readyz says yes or no to everybody, and why to viewers. All else
// takes a token, unless the server listens on this machine only and no token is set: then whoever is on the machine may
// look. What changes something takes the operator's token, and is logged with the name that came with it.
package admin
