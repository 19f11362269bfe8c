// Package isolator gives containers their networks, as the `network/cni`
// isolator of Mesos does, so that a CNI plugin cannot tell the two apart.
//
//	Attach: network namespace, bound on ROOT/CID/ns
//	        -> ROOT/CID/NETWORK/network.conf  (operator's file + args)
//	        -> the plugins' ADD, all networks at a time, eth0, eth1, ...
//	        -> ROOT/CID/NETWORK/ethN/network.info  (what ADD printed)
//	        -> ROOT/CID/{hosts,hostname,resolv.conf}
//	Detach: DEL for each network.conf, then all of ROOT/CID goes
//
// The files are the state: after a restart of the agent, Attachment reads it
// back, and Detach needs nothing else. A failed DEL leaves everything in place;
// Recover calls it again when the agent starts.
//
// Unlike Mesos, the namespace exists, and every ADD has ended, before the
// first process of the container starts, and a plugin that hangs is killed.
package isolator
