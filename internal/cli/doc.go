// Package cli is what the commands get, describe, create, apply, diff, edit,
// delete, explain and ipam of contrail do. It speaks to the REST interface of
// the configuration API and to nothing else, so that it works from any machine
// that reaches the API.
//
// A command reads what it is given into plain values (manifests, names,
// selectors), resolves names by the API, and writes its answer to one writer.
// Nothing here reads the environment or knows cobra: cmd/contrail does.
//
//	arguments, files ─> manifests ─> plan ─> Client ─> REST
//	                                  │
//	              model (types, validation before anything is sent)
//
// To see what a command asks the API, look at /debug/requests of the API or
// at its log with --slow-request 1ns.
package cli
