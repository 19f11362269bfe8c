// Package rib holds the routes of all VRFs: which paths lead to a key, which
// VRFs have them, and which of them are used.
//
//	control: attachments --Put--> VRF (its own paths) --targets--> VRFs that import them
//	bgp: peers' routes --SetExternal--------------------targets------^    |
//	                                                                     best paths
//	                                          static, chains <--Flush----|
//	                                          feed per VRF   <-----------|
//	                                            +--cursor--> agents' sessions
//
// A path belongs to one origin, a VRF or another router, and is there once.
// Paths with the same route targets are in one list, which knows the VRFs that
// import any of the targets. So a new path goes straight to where it is
// wanted; what nobody imports costs its own memory and nothing else. An
// importing VRF refers to the path, it has no copy. Attributes that many paths
// have alike are kept once.
//
// Put, SetExternal and SetVRF only note what is different. Flush chooses the
// paths of the routes that changed, each once, however often they did, and
// wakes the readers of the VRFs' feeds.
//
// Layer 2 stays where it is: MAC and multicast routes of a VRF are not
// imported by other VRFs of ours, whatever targets they share, because joining
// two networks must not make them one broadcast domain.
//
// Static routes, aggregates and service chains make paths out of other routes;
// see derivation. They are reached through a route that really leads somewhere,
// never through each other. The paths of chains are for their VRF alone.
//
// # Which path is best
//
// The first difference decides:
//
//	usable          the port is up and healthy, the next hop is known
//	bound           the store binds the address to an interface; in the VRF's own
//	                network before an imported one; then all others
//	chains          fewer
//	fresh           among those that the store does not bind: not stale
//	local preference  higher
//	sequence        later: where the address has moved to
//	fresh           not stale
//	AS path         shorter
//	origin          IGP, EGP, unknown
//	MED             lower, whatever the neighbour
//	peer            in another autonomous system before in our own
//
// Paths that are equal so far share the traffic, if each says that it may be
// shared. Else the lower router id wins, then the lower next hop, label and
// name, so that all controllers choose alike.
//
// A RIB has no lock of its own: its owner's protects it, with its feeds.
package rib
