// Package control is the control node: it builds every network's routes from
// the graph and from what the nodes' agents report of their ports, and streams
// to each agent exactly what the ports bound to its node need.
//
//	graph --Subscription--> facts (attachments, VRFs, nodes)
//	                          |
//	agents' PortStatus ------>+--> tables: ports per node, routes per VRF
//	                                  |  (each change encoded once)
//	                                  +--cursor--> session --stream--> agent
//	                                  +--cursor--> session --stream--> agent
//
// A table keeps its rows in the order of their last change. A session has one
// cursor for each table it reads: a number. What changed twice while an agent
// was slow is sent once, as it stands then; nothing is ever lost and nothing is
// queued, so a slow agent costs nothing and holds up nobody.
//
// When a route is announced: the graph binds the address to a node, and that
// node's agent has not said that the port is down. A port that was bound while
// the agent's session lasts waits for the agent's word that it is up. Without a
// session the agent's ports are stale, and count as up: silence withdraws
// nothing.
//
// Where the same prefix could lead to several ports, a network's own port wins
// over imported ones, then the binding with the higher revision of the store.
//
// Inspect: GET /sessions, /vrfs, /routes?vrf=N and /metrics on the control
// node's unix socket.
package control
