// Package master is the Mesos master of Mesos in a box: the v1 scheduler and
// operator APIs outwards, contrail.mesos.v1.Cluster towards our agents.
//
//	scheduler --POST /api/v1/scheduler--> call --+
//	operator  --POST /api/v1, GET /state --------+--> state (one lock)
//	agent     --Cluster.Agent stream-------------+        |
//	                                                       v
//	event streams of schedulers, operators and agents <- queues
//
// All state is in memory under one lock, which is never held while a client is
// waited for: what is to be sent goes to queues, and each stream's own goroutine
// writes them. Only the registry of agents (who was admitted, became
// unreachable or was marked gone) is on disk, written before it takes effect.
// After a restart agents and frameworks register again and bring the rest.
//
// A framework: subscribed -> disconnected (its offers go back) -> subscribed, or
// removed at its failover timeout. An agent: recovered (from the registry) or
// new -> registered -> disconnected (its offers are rescinded) -> registered, or
// unreachable at the ping timeout -> registered; gone is for ever.
//
// Differences from Apache Mesos are listed in differences of the replay test.
// Those that matter to users: all resources are unreserved, reservations,
// volumes, quotas, weights and maintenance are answered with 501, and there is
// one master.
package master
