// Package records tells a collector of the node's sessions: what talks to what, how
// much, and what policy refused.
//
//	flow table ---- read each second: what is new, each ten: what goes on --.
//	entries that are removed, with their last counts ----------------------+--> queue --> collector
//	ring of the programs: refused, or ended by policy --> sums of a second -'    ^           |
//	                                                                             `-- acknowledged, or again
//
// # What a record says
//
// A record has the totals of both directions of a conversation, each under an id that
// follows from the entry of the flow table alone. So records may come twice, and one
// that is lost is made good by the next: neither an agent that starts again, nor a
// collector that goes away before it acknowledges, has anything counted twice. What
// nothing would make good, ends and refusals, is kept while no collector answers.
//
// # Invariants
//
//   - Without a collector that acknowledges, the flow table is not read. With the
//     first acknowledgement of a stream it is told whole.
//   - The table is read no faster than readRate, and only as fast as the collector
//     takes records.
//   - No more than queueLimit records wait, and window batches are on their way. When
//     there is no room the oldest refusal is dropped, then the oldest end, and counted.
//   - No more memory than that: an entry that does not change costs nothing.
//
// # Inspecting
//
// GET /records of the agent's tables, and contrail_vrouter_session_* of its metrics.
package records
