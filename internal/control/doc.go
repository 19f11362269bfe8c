// Package control is the control node: it builds every network's routes from
// the graph and from what the nodes' agents report of their ports, and streams
// to each agent exactly what the ports bound to its node need.
//
//	graph --Subscription--> facts (attachments, instances, nodes)
//	                          |
//	agents' PortStatus ------>+--> ports of each node --> rib: routes of each VRF
//	other control nodes' -----'       |                     |
//	                                  +-------feeds---------+  (each change encoded once)
//	                                            +--cursor--> session --stream--> agent
//	                                            +--cursor--> session --stream--> agent
//
// A session has one cursor for each feed it reads: a number; see package feed.
// The policy sets that a node's ports need are rows of the same feed as these
// ports, and what sets have in common is told once.
// A slow agent costs nothing and holds up nobody.
//
// Where the graph has a bgp-router with the control node's name, it speaks BGP
// with that one's peers; see border. What these tell it the other control nodes
// hear from it, so that all have the same paths; see learned.
//
// A port has a path to each of its addresses and to the prefixes behind it in its
// network, to its floating and alias addresses in theirs, and where the network bridges to its MAC, alone
// and with each address. A node has a path to the broadcasts of each network
// that bridges and in which it has a port that is up. Which path traffic takes,
// and which other networks get it, is told in package rib.
//
// A path is used when the graph binds the address to a node, and that node's
// agent has not said that the port is down, here or to another control node. A
// port that was bound while the agent has a session waits for the agent's word
// that it is up. When the last session has ended and the agent does not come
// back soon, what it had not said counts as up, and the paths to all its ports
// are stale: they stay, and give way only to equals that are not. Silence
// withdraws nothing.
//
// An address with the mode active-active is shared by all interfaces that have
// it; else it is where it was bound last by the store's revision, after the
// local preference of the interfaces.
//
// Inspect: `contrail control`, or GET /agents, /controllers, /peers, /instances,
// /imports, /routes?network=N, /explain?prefix=P, /health and /metrics on the control
// node's unix socket.
package control
