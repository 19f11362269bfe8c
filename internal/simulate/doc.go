// Package simulate plays the vRouter agents of many nodes against a real
// controller, to measure what a control node can carry.
//
//	populate: join nodes, attach containers --> configuration API
//	sessions: one or more streams for each agent <-- control nodes
//	measure:  first convergence, one change to all agents, churn
//	clean:    remove the nodes, which releases all that was attached
//
// An agent here has a certificate of its own node and says of each port that it
// is up, as a real one does; in place of a data plane it keeps a set of what it
// was told for each VRF. What it should have been told follows from what was
// attached, so that every measurement also checks that the sets are right.
//
// The nodes and networks are made for the purpose and have names of their own:
// nothing of a running cluster is changed, but its controllers do carry the load.
package simulate
