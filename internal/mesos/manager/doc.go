// Package manager is the Mesos manager: it turns what a Mesos node asks for a
// container into attachments of the configuration API, and takes them back.
//
//	contrail-cni -> node's vRouter agent --Manager RPC, node certificate--+
//	                                                                      v
//	foreign plugin --POST /add_cni_info, node certificate or token--> [Manager]
//	                                                                      |
//	                        Attachments.Attach/Detach/List, Nodes.Join/List
//	                                                                      v
//	                                                          configuration API
//
// The manager keeps nothing: every answer is made from the request, the
// caller's credentials and the configuration API, so that it may be restarted,
// or run several times, at any moment. Order and uniqueness are the store's:
// ADD is one transaction, DEL leaves a tombstone that a late ADD respects.
//
// An attachment is released only on positive evidence: DEL, or the report of
// the node it lives on (see Manager.Report). Silence releases nothing.
//
// Inspect: GET /get_cni_info and GET /metrics on the manager's unix socket.
package manager
