package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// RoutingPolicy decides about the routes that come to an instance: each goes
// through the terms in order until one accepts or rejects it.
type RoutingPolicy struct {
	From  Origin `json:"from"`
	Terms []Term `json:"terms"`
	// Problems are of terms that were left out.
	Problems []Problem `json:"-"`

	project string
	// matchers are of the terms, in their order, and parts is what else it takes to
	// ask all of them.
	matchers []matcher
	parts    int
}

// RouteAction is what a term does with a route that it matches.
type RouteAction string

// What terms do.
const (
	Next   RouteAction = "next"
	Accept RouteAction = "accept"
	Reject RouteAction = "reject"
)

// Term changes and decides about the routes that match all its conditions; a
// condition that is empty matches all.
type Term struct {
	Prefixes []PrefixMatch `json:"prefixes,omitempty"`
	// Sources are where a route may be from, sorted.
	Sources        []string         `json:"sources,omitempty"`
	Communities    CommunityMatch   `json:"communities,omitzero"`
	ExtCommunities CommunityMatch   `json:"extcommunities,omitzero"`
	Update         AttributesUpdate `json:"update,omitzero"`
	Action         RouteAction      `json:"action"`
}

// PrefixMatch matches prefixes inside Prefix of lengths from First to Last.
type PrefixMatch struct {
	Prefix netip.Prefix `json:"prefix"`
	First  int          `json:"first"`
	Last   int          `json:"last"`
}

// Matches tells whether a prefix is meant.
func (m PrefixMatch) Matches(p netip.Prefix) bool {
	return m.First <= p.Bits() && p.Bits() <= m.Last && m.Prefix.Contains(p.Addr())
}

// CommunityMatch matches routes with one of the communities, or with all of
// them. Values are sorted; patterns are for communities as they are written.
type CommunityMatch struct {
	All      bool     `json:"all,omitempty"`
	Values   []uint64 `json:"values,omitempty"`
	Patterns []string `json:"patterns,omitempty"`
}

// AttributesUpdate changes the attributes of a route.
type AttributesUpdate struct {
	LocalPreference *uint32         `json:"local_preference,omitempty"`
	MED             *uint32         `json:"med,omitempty"`
	ASPath          []uint32        `json:"as_path,omitempty"` // to prepend
	Communities     CommunityUpdate `json:"communities,omitzero"`
	ExtCommunities  CommunityUpdate `json:"extcommunities,omitzero"`
}

// CommunityUpdate sets, then removes, then adds communities.
type CommunityUpdate struct {
	Set    []uint64 `json:"set,omitempty"`
	Remove []uint64 `json:"remove,omitempty"`
	Add    []uint64 `json:"add,omitempty"`
	// Replace: Set is all that remain.
	Replace bool `json:"replace,omitempty"`
}

// communities are those with names.
var communities = map[string]uint64{
	"accept-own": 0xffff0001, "llgr-stale": 0xffff0006, "no-llgr": 0xffff0007, "accept-own-nexthop": 0xffff0008,
	"no-export": 0xffffff01, "no-advertise": 0xffffff02, "no-export-subconfed": 0xffffff03, "no-reoriginate": 0xfffff000,
}

// parseCommunity reads a community (RFC 1997), which has 32 bits: two numbers
// or a name.
func parseCommunity(text string) (uint64, bool) {
	if c, ok := communities[text]; ok {
		return c, true
	}
	as, number, ok := strings.Cut(text, ":")
	a, err1 := strconv.ParseUint(as, 10, 16)
	n, err2 := strconv.ParseUint(number, 10, 16)
	return a<<16 | n, ok && err1 == nil && err2 == nil
}

// parseExtCommunity reads an extended community: a route target, or all its
// bytes as a number.
func parseExtCommunity(text string) (uint64, bool) {
	if c, ok := Target(text).Community(); ok {
		return c, true
	}
	n, err := strconv.ParseUint(text, 0, 64)
	return n, err == nil && strings.HasPrefix(text, "0x")
}

var routingPolicies = &unit[RoutingPolicy]{name: "routing-policy", layer: 1, compute: func(g *graph, id string) *RoutingPolicy {
	o, ok := get[*model.RoutingPolicy](g, model.KindRoutingPolicy, id)
	if !ok {
		return nil
	}
	var written []model.PolicyTermType
	if o.RoutingPolicyEntries != nil {
		written = o.RoutingPolicyEntries.Term
	}
	var terms []Term
	var problems []Problem
	for i := range written {
		t, err := readTerm(&written[i])
		if err == nil {
			err = t.Update.ExtCommunities.allowed(systemUnit.get(g, "").asn)
		}
		if err != nil {
			// What it would have let pass is not known: nothing passes.
			problems = append(problems, Problem{About: originOf(o), Text: fmt.Sprintf("term %d: %v; until it is right, the policy rejects what comes to it", i+1, err)})
			t = Term{Action: Reject}
		}
		terms = append(terms, t)
	}
	p := NewRoutingPolicy(originOf(o), terms...)
	p.project, p.Problems = o.ParentUUID, problems
	return p
}}

// NewRoutingPolicy makes a policy of terms, whose patterns have to be regular
// expressions.
func NewRoutingPolicy(from Origin, terms ...Term) *RoutingPolicy {
	p := &RoutingPolicy{From: from, Terms: terms, matchers: make([]matcher, len(terms))}
	for i := range terms {
		t := &terms[i]
		p.matchers[i] = matcher{newPrefixSet(t.Prefixes), patterns(t.Communities.Patterns), patterns(t.ExtCommunities.Patterns)}
		p.parts += t.parts()
	}
	return p
}

// allowed tells why extended communities may not be given to routes. Route
// targets that networks get for their own would bring the routes into networks of
// strangers, and what says who is behind a route, or how to get there, is written
// by the control nodes alone.
func (u *CommunityUpdate) allowed(asn int64) error {
	for _, c := range slices.Concat(u.Set, u.Add) {
		target, isTarget := TargetOfCommunity(c)
		switch {
		case isTarget && target.IsAutomatic(asn):
			return fmt.Errorf("route target %s is one that networks get for their own; use another autonomous system, or a lower number", target)
		case !isTarget && byte(c>>56) > fourOctets:
			return fmt.Errorf("extended community 0x%016x is of a type that only control nodes write; use one of an autonomous system or address, which begins with 0x00, 0x01 or 0x02", c)
		}
	}
	return nil
}

func readTerm(written *model.PolicyTermType) (Term, error) {
	var t Term
	if m := written.TermMatchCondition; m != nil {
		if err := t.readMatch(m); err != nil {
			return t, err
		}
	}
	t.Action = Next
	if a := written.TermActionList; a != nil {
		t.Action = RouteAction(cmp.Or(a.Action, string(Next)))
		if a.Update != nil {
			return t, t.Update.read(a.Update)
		}
	}
	return t, nil
}

func (t *Term) readMatch(m *model.TermMatchConditionType) error {
	for _, p := range m.Prefix {
		prefix, err := netip.ParsePrefix(p.Prefix)
		if err != nil {
			return fmt.Errorf("%q is no prefix; write one such as 192.0.2.0/24", p.Prefix)
		}
		match := PrefixMatch{Prefix: prefix.Masked(), First: prefix.Bits(), Last: prefix.Bits()}
		switch p.PrefixType {
		case "longer":
			match.First, match.Last = prefix.Bits()+1, prefix.Addr().BitLen()
		case "orlonger":
			match.Last = prefix.Addr().BitLen()
		}
		t.Prefixes = append(t.Prefixes, match)
	}
	t.Sources = slices.Sorted(slices.Values(m.Protocol))
	list := m.CommunityList
	if m.Community != "" {
		list = append(slices.Clone(list), m.Community)
	}
	if err := t.Communities.read(list, m.CommunityMatchAll, parseCommunity); err != nil {
		return err
	}
	return t.ExtCommunities.read(m.ExtcommunityList, m.ExtcommunityMatchAll, parseExtCommunity)
}

func (m *CommunityMatch) read(list []string, all *bool, parse func(string) (uint64, bool)) error {
	m.All = model.ValueOr(all, false)
	for _, text := range list {
		if n, ok := parse(text); ok {
			m.Values = append(m.Values, n)
			continue
		}
		if _, err := regexp.Compile(text); err != nil {
			return fmt.Errorf("%q is neither a community nor a regular expression: %w", text, err)
		}
		m.Patterns = append(m.Patterns, text)
	}
	m.Values = sorted(m.Values)
	return nil
}

func (u *AttributesUpdate) read(written *model.ActionUpdateType) error {
	number := func(n *int64) *uint32 {
		if n == nil {
			return nil
		}
		return new(uint32(*n))
	}
	u.LocalPreference, u.MED = number(written.LocalPref), number(written.MED)
	if p := written.AsPath; p != nil && p.Expand != nil {
		for _, as := range p.Expand.ASNList {
			u.ASPath = append(u.ASPath, uint32(as))
		}
	}
	if c := written.Community; c != nil {
		of := func(l *model.CommunityListType) *[]string {
			if l == nil {
				return nil
			}
			return &l.Community
		}
		if err := u.Communities.read(of(c.Set), of(c.Remove), of(c.Add), parseCommunity); err != nil {
			return err
		}
	}
	if c := written.Extcommunity; c != nil {
		of := func(l *model.ExtCommunityListType) *[]string {
			if l == nil {
				return nil
			}
			return &l.Community
		}
		return u.ExtCommunities.read(of(c.Set), of(c.Remove), of(c.Add), parseExtCommunity)
	}
	return nil
}

func (u *CommunityUpdate) read(set, remove, add *[]string, parse func(string) (uint64, bool)) error {
	u.Replace = set != nil
	for _, part := range []struct {
		from *[]string
		to   *[]uint64
	}{{set, &u.Set}, {remove, &u.Remove}, {add, &u.Add}} {
		if part.from == nil {
			continue
		}
		for _, text := range *part.from {
			n, ok := parse(text)
			if !ok {
				return fmt.Errorf("%q is no community; write one such as 64512:100 or target:64512:100", text)
			}
			*part.to = append(*part.to, n)
		}
		*part.to = sorted(*part.to)
	}
	return nil
}
