// Package store keeps the cluster's intent in etcd.
//
//	writer -> Txn (keys, guards, leases) -> one etcd transaction
//	etcd   -> one watch per process -> Follow -> graph and other followers
//
// A write is one transaction: everything or nothing. What must be unique
// (names, addresses, labels, numbers) is a key of its own that is created with
// the guard "absent", so uniqueness never depends on anyone's memory. Readers
// do not read etcd; they read what Follow feeds.
//
// Things that must rest (released addresses, labels, numbers, tombstones) are
// keys with an etcd lease: etcd ends them, so no two clocks are ever compared.
//
// The server is embedded (Serve) and answers on a unix socket only. Everybody,
// the process that embeds it included, uses the socket: the in-process client
// of etcd locks up when many watches are cancelled together.
//
// Invariants: a key's layout is known to keys.go and nowhere else; a follower
// sees each revision whole, in order, once per Reset.
//
// To look inside a running store: Dump, or etcdctl --endpoints unix://PATH.
package store
