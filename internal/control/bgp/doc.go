// Package bgp is a BGP speaker: sessions with routers and reflectors, the
// routes they announce and those announced to them. It knows nothing of
// virtual networks; what is imported into them and exported from them its
// owner decides.
//
//	SetPeers ---> peer ---> conn ---> session
//	                                  | reader: messages -> rib
//	Put, Withdraw, SetImports ------->|           |  tables by family: rows with
//	                                  |           |  paths, in the order of change
//	                                  | writer <- group: cursors, batches encoded
//	                                  |           once for all peers alike
//	Subscribe <------------------------- cursor: received routes as they now are
//
// A table keeps its rows in the order of their last change, and a reader is a
// place in that order. What changes twice before a reader comes is told once,
// as it then is; nothing is queued, and a slow peer costs the others nothing.
// Sets of attributes are interned: a block of bytes that comes again is not
// decoded again, and many routes share one set.
//
// A peer's states are those of RFC 4271 §8.2.2:
//
//	Idle --> Connect <--> Active --> OpenSent --> OpenConfirm --> Established
//	  ^ disabled, or too many prefixes                                 |
//	  +----------------------------------------------------------------+
//
// What is safe by default: a peer is taken only from its address, an eBGP peer
// only as a neighbour (TTL 1; TTLSecurity makes sure); its AS has to be the
// first of its paths; routes through the own AS, reflected from here or with
// the speaker as next hop do not count; of its routes at most 1,000,000 are
// taken; communities that say who a workload is (security group, tag, origin
// network, mobility) are stripped unless it is trusted; to another AS go no
// routes marked no-export. Import by route target, and what is announced at
// all, is the owner's.
//
// Malformed updates are treated as RFC 7606 wants: their routes as withdrawn,
// or an attribute left out; a session ends only where the routes in a message
// cannot be found.
//
// Standards: RFC 4271, 4360, 4364, 4456, 4659, 4684, 4724, 4760, 5082, 6286,
// 6793, 7313, 7432, 7606, 7607, 7911 (receive), 8538, 9003, 9136, 9494, 9687.
//
// Inspect: Peers has each session's state, counters and last error.
package bgp
