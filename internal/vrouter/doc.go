// Package vrouter is the agent of a node: it gives containers their ports and
// keeps the node's forwarding as the controllers want it.
//
//	CNI plugin -- unix socket --> attach, detach --> Mesos manager (mutual TLS)
//	                                 |        `---> detach queue on disk
//	old clients -- 9091, token -->   v
//	                         registry of ports, on disk ---+
//	                                 ^                      |--> ports, policies tables --> dataplane
//	control node -- session --> view --,                    |
//	                                   +--> leader's view --+--> routes table -> dataplane
//	control node -- session --> view --'
//	health checks of ports ---> words to control nodes (package health)
//	kernel -- link events --> ports whose interface is gone
//	flow table, refusals ---> records of sessions to a collector (package records)
//
// Intent (attachments, routes) comes from the controllers; what only the node
// knows (a port is up, a container is gone) goes to them. Two tables of package
// reconcile are the only ones that change the data plane.
//
// # Invariants
//
//   - A port's file is on disk before its ADD is answered, and a release that
//     the manager has not confirmed is in the detach queue: a crash at any
//     point ends with an attachment that is known, or released.
//   - One operation at a time per (container, interface); a DEL ends an ADD
//     that is in progress. A release is confirmed before the same interface is
//     attached again.
//   - A container's interface is cut off before anything else of it is removed.
//   - One session's view is believed at a time, and never one that is behind
//     what has been believed, see routing.
//   - Silence deletes nothing: routes stay while no control node answers, and
//     go when a complete snapshot lacks them; ports go by CNI DEL, because
//     their interface is gone, or because a snapshot that is newer than their
//     attachment lacks them.
//
// # Inspecting
//
// A look answers one question about the data plane from the maps, with the names
// that the agent has for what is there (package api/vrouterapi): `contrail vrouter`
// asks it on the unix socket. The tables of the reconcilers show of each object
// what is wanted, what is there, and the last error: GET / on the unix socket, or
// on 8085 with the bearer token, lists all. /metrics counts both.
package vrouter
