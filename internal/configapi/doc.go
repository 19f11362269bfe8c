// Package configapi is the configuration API: the classic REST interface, the
// RPC services Attachments and Nodes, and the management of addresses, labels
// and numbers.
//
//	request -> handler -> write: View of the graph -> change -> one transaction
//	                        ^                                      |
//	                        +--- graph <--- watch <--- store <-----+
//	request -> handler -> read:  View of the graph -> JSON
//
// A write decides on a consistent view of the graph and commits one
// transaction whose guards say what it relied on. When a guard does not hold,
// the graph was behind or somebody was faster: the write waits for the graph
// and decides anew. A write answers when the local graph shows it, so whoever
// got an answer can read what he wrote.
//
// Addresses, labels and numbers are chosen from memory (ledger), which is fed
// by the same watch; the memory is a hint, the guard "absent" on their keys is
// what keeps them unique.
//
// Invariants: nothing that needs allocation or a check happens outside of the
// transaction that it belongs to; what one transaction created, one
// transaction removes; a refused request changes nothing.
package configapi
