// Package backup dumps a store to a file, and restores it from one.
//
//	store, at one revision -- pages --> Writer -- gzip --> file (0600)
//	file -- Verify, whole --> Restore -- bounded transactions --> store
//
// A dump is online: it reads one revision, whatever is written meanwhile. So
// is a restore: processes stay connected. The first transaction of a restore
// gives the store its new epoch and closes it (store.PhaseRestoring): whoever
// decided something in the old epoch meets a conflict, and followers keep the
// state that they have until the store is whole again, so nothing that runs is
// cut. A restore that is killed leaves the store closed; it is run again.
//
// What was given out and what rested before the restore rests on: an address
// that the dump does not know may have connections in the network.
//
// # Format
//
// A dump is gzip of JSON lines: one header, one line for each key, one
// trailer. The trailer has the counts and the SHA-256 of all lines before it,
// so a dump that is cut off or altered is noticed before anything is changed.
//
// To look inside: zcat FILE | head -1, zcat FILE | tail -1.
package backup
