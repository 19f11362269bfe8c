package rib

import (
	"fmt"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
)

func (t Target) String() string {
	if target, ok := compile.TargetOfCommunity(uint64(t)); ok {
		return string(target)
	}
	return fmt.Sprintf("community:%016x", uint64(t))
}

// MarshalText writes the target as people do.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// ShownRoute is a route of a VRF as people look at it.
type ShownRoute struct {
	Key   string      `json:"key"`
	Kind  string      `json:"kind"`
	Paths []ShownPath `json:"paths"`
}

// ShownPath is a path as people look at it.
type ShownPath struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	// Used: traffic takes it. Why tells what decided.
	Used bool   `json:"used"`
	Why  string `json:"why"`
	// Policies are the terms of routing policies that changed the path, in the
	// order in which they did.
	Policies []string `json:"routing_policies,omitempty"`
	// ImportedFrom is the VRF, or the route distinguisher, that the path is from.
	ImportedFrom    string     `json:"imported_from,omitempty"`
	NextHop         netip.Addr `json:"next_hop"`
	Label           uint32     `json:"label,omitempty"`
	VNI             uint32     `json:"vni,omitempty"`
	MAC             string     `json:"mac,omitempty"`
	Encapsulations  []string   `json:"encapsulations,omitempty"`
	Targets         []Target   `json:"route_targets,omitempty"`
	OriginNetwork   uint32     `json:"origin_network,omitempty"`
	Networks        []uint32   `json:"networks,omitempty"`
	SecurityGroups  []uint32   `json:"security_groups,omitempty"`
	Tags            []uint32   `json:"tags,omitempty"`
	Communities     []string   `json:"communities,omitempty"`
	LocalPreference uint32     `json:"local_preference"`
	Sequence        uint64     `json:"sequence,omitempty"`
	ASPath          []uint32   `json:"as_path,omitempty"`
	MED             uint32     `json:"med,omitempty"`
	State           []string   `json:"state,omitempty"`
}

func (f Flags) names() []string {
	var names []string
	for i, name := range []string{"waiting", "down", "stale", "multipath", "foreign", "service", "unhealthy"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (rt *route) shown() ShownRoute {
	shown := ShownRoute{Key: rt.key.String(), Kind: rt.key.kind.String(), Paths: make([]ShownPath, 0, len(rt.paths))}
	chosen := len(rt.chosen())
	for i, p := range rt.paths {
		s := p.shown()
		s.Used, s.Why = i < chosen, rt.why(i, chosen)
		s.Policies = rt.vrf.changes(p)
		switch {
		case p.origin == nil:
			s.ImportedFrom = fmt.Sprintf("route distinguisher %s", p.rd)
		case p.origin != rt.vrf:
			s.ImportedFrom = fmt.Sprintf("vrf %d", p.origin.Number)
		}
		shown.Paths = append(shown.Paths, s)
	}
	return shown
}

// String writes a route distinguisher as RFC 4364 section 4.2 does.
func (rd RD) String() string {
	switch rd >> 48 {
	case Fabric >> 48:
		return "none"
	case 1:
		return fmt.Sprintf("%s:%d", netip.AddrFrom4([4]byte{byte(rd >> 40), byte(rd >> 32), byte(rd >> 24), byte(rd >> 16)}), uint16(rd))
	case 2:
		return fmt.Sprintf("%d:%d", uint32(rd>>16), uint16(rd))
	}
	return fmt.Sprintf("%d:%d", uint16(rd>>32), uint32(rd))
}

func (p *Path) shown() ShownPath {
	name := p.Name
	if p.Via != "" {
		name += ", told to " + p.Via
	}
	s := ShownPath{
		Source: p.Kind.String(), Name: name, NextHop: p.NextHop, Label: p.Label, VNI: p.VNI,
		Encapsulations: p.Encapsulations.Names(), Targets: p.targets(), OriginNetwork: p.OriginNetwork, Networks: p.Networks,
		SecurityGroups: p.SecurityGroups, Tags: p.Tags, LocalPreference: p.LocalPreference, Sequence: p.Sequence,
		ASPath: p.ASPath, MED: p.MED, State: p.Flags.names(),
	}
	for _, c := range p.Communities {
		s.Communities = append(s.Communities, compile.CommunityText(c))
	}
	if p.MAC != [6]byte{} {
		s.MAC = net.HardwareAddr(p.MAC[:]).String()
	}
	return s
}

// why tells what decided about the i-th path.
func (rt *route) why(i, chosen int) string {
	p := rt.paths[i]
	switch {
	case p.Flags&Down != 0:
		return "its node says that the port is down"
	case p.Flags&Unhealthy != 0:
		return "a health check of the port has failed"
	case p.Flags&Waiting != 0:
		return "its node has not said yet that the port is up"
	case !p.NextHop.IsValid():
		return "its node has no address"
	case len(rt.paths) == 1:
		return "the only path"
	case i == 0 && chosen > 1:
		return fmt.Sprintf("equal to %d others", chosen-1)
	case i > 0 && i < chosen:
		return "equal to the first"
	case i == 0:
		_, at := rt.vrf.compare(p, rt.paths[1])
		return "better than the next by " + steps[min(at, len(steps)-1)].name
	}
	_, at := rt.vrf.compare(rt.paths[0], p)
	if at < equalSteps && steps[at].name != "multipath" {
		return "worse than the first by " + steps[at].name
	}
	return "equal to the first, but not to be shared"
}

// Keys are those of a VRF, in no particular order; false when there is no such
// VRF.
func (r *RIB) Keys(number uint32) ([]Key, bool) {
	v, ok := r.vrfs[number]
	if !ok || !v.configured {
		return nil, false
	}
	return slices.Collect(maps.Keys(v.routes)), true
}

// Route shows one route of a VRF; false when there is none.
func (r *RIB) Route(number uint32, key Key) (ShownRoute, bool) {
	v, ok := r.vrfs[number]
	if !ok || v.routes[key] == nil || len(v.routes[key].paths) == 0 {
		return ShownRoute{}, false
	}
	return v.routes[key].shown(), true
}

// Explanation tells how a prefix is reached in a VRF, or why it is not.
type Explanation struct {
	VRF uint32 `json:"vrf"`
	// Route is the one that traffic takes: that of the prefix, or the longest
	// that covers it.
	Route *ShownRoute `json:"route,omitempty"`
	// Missing are paths to the prefix that the VRF does not have, with the
	// reason.
	Missing []MissingPath `json:"missing,omitempty"`
}

// MissingPath is one that a VRF does not import, or that routing policies
// rejected.
type MissingPath struct {
	From     string    `json:"from"`
	Rejected bool      `json:"rejected,omitempty"`
	Path     ShownPath `json:"path"`
}

// Explain tells of each VRF, or of the one with the number, how a prefix is
// reached and why not.
func (r *RIB) Explain(prefix netip.Prefix, number uint32) []Explanation {
	key := UnicastKey(prefix)
	elsewhere := slices.Collect(r.pathsTo(key))
	explained := []Explanation{}
	for _, n := range slices.Sorted(maps.Keys(r.vrfs)) {
		v := r.vrfs[n]
		if !v.configured || number != 0 && n != number {
			continue
		}
		e := Explanation{VRF: n}
		if rt := v.covering(prefix); rt != nil {
			e.Route = new(rt.shown())
		}
		for _, p := range elsewhere {
			if reason, rejected := v.whyNot(p); reason != "" {
				e.Missing = append(e.Missing, missing(p, reason, rejected))
			}
		}
		e.Missing = append(e.Missing, v.rejectedChains(key)...)
		if e.Route != nil || number != 0 || len(e.Missing) > 0 {
			explained = append(explained, e)
		}
	}
	return explained
}

// covering is the longest route that a prefix is in.
func (v *vrf) covering(prefix netip.Prefix) *route {
	for bits := prefix.Bits(); bits >= 0; bits-- {
		if rt := v.routes[UnicastKey(netip.PrefixFrom(prefix.Addr(), bits))]; rt != nil && len(rt.paths) > 0 {
			return rt
		}
	}
	return nil
}

func missing(p *Path, reason string, rejected bool) MissingPath {
	from, shown := fmt.Sprintf("route distinguisher %s", p.rd), p.shown()
	if p.origin != nil {
		from = fmt.Sprintf("vrf %d", p.origin.Number)
	}
	shown.Why = reason
	return MissingPath{from, rejected, shown}
}

// pathsTo are all paths whose key is this one in VRFs, as their sources said them.
func (r *RIB) pathsTo(key Key) iter.Seq[*Path] {
	return func(yield func(*Path) bool) {
		for _, v := range r.vrfs {
			for _, x := range v.came(key) {
				if x.from.origin == v && !yield(x.from) {
					return
				}
			}
		}
		for at, p := range r.external {
			if at.key.inVRF() != key {
				continue
			}
			for ; p != nil; p = p.sibling {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// whyNot tells why a VRF does not have a path that a source said, and whether
// policies rejected it; "" when the VRF has it.
func (v *vrf) whyNot(p *Path) (reason string, rejected bool) {
	said, wanted, of := p, v.Import, "imports"
	if p.origin == nil {
		wanted, of = v.External, "imports from other routers"
	} else if p = p.origin.became(said); p == nil && said.origin == v {
		return v.rejection(said), true
	}
	targets := said.targets()
	if p != nil {
		targets = p.targets()
	}
	switch {
	case said.origin == v:
		return "", false
	case !slices.ContainsFunc(targets, func(t Target) bool { return slices.Contains(wanted, t) }):
		return fmt.Sprintf("the vrf %s %s; the path has %s", of, listed(wanted), listed(targets)), false
	case p == nil:
		return fmt.Sprintf("in vrf %d it is %s", said.origin.Number, said.origin.rejection(said)), true
	case v.became(p) == nil:
		return v.rejection(p), true
	}
	return "", false
}

func listed(targets []Target) string {
	if len(targets) == 0 {
		return "no route target"
	}
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}

// Stats are the sizes of a RIB.
type Stats struct {
	VRFs int // with a configuration
	// Routes counts those of all VRFs, Paths each path once.
	Routes, Paths, Attributes int
	// External are the paths of other routers, by route and distinguisher.
	External int
}

// Stats returns the sizes.
func (r *RIB) Stats() Stats {
	s := Stats{Routes: r.routes, Paths: r.paths, Attributes: len(r.attributes), External: len(r.external)}
	for _, v := range r.vrfs {
		if v.configured {
			s.VRFs++
		}
	}
	return s
}

// Len is the number of routes of a VRF that readers see.
func (r *RIB) Len(number uint32) int {
	if v := r.vrfs[number]; v != nil {
		return v.unicast.Len() + v.layer2.Len()
	}
	return 0
}
