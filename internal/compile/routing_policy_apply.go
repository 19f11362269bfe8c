package compile

import (
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// PolicyRoute is what routing policies look at in a route, and what they change.
type PolicyRoute struct {
	Prefix netip.Prefix
	// Sources are the names under which policies know where it is from.
	Sources []string
	// ExtCommunities are route targets and what else is no matter of the control
	// nodes. Both lists are sorted, and replaced when they change.
	Communities    []uint32
	ExtCommunities []uint64
	ASPath         []uint32
	// LocalPreference and MED are those of BGP (RFC 4271 sections 5.1.5 and 5.1.4).
	LocalPreference, MED uint32
}

// ApplyPolicies has a route go through policies, and tells whether it is
// accepted. The first term that accepts or rejects it decides; where none does,
// it is accepted. A term sees what those before it have changed. matched, which may
// be nil, is told of each term that matches.
func ApplyPolicies(policies []*RoutingPolicy, r *PolicyRoute, matched func(p *RoutingPolicy, term int)) bool {
	for _, p := range policies {
		for i := range p.Terms {
			t := &p.Terms[i]
			if !t.matches(&p.matchers[i], r) {
				continue
			}
			if matched != nil {
				matched(p, i)
			}
			if t.Action == Reject {
				return false
			}
			t.Update.apply(r)
			if t.Action == Accept {
				return true
			}
		}
	}
	return true
}

// GivesTargets tells whether the policy may give routes a route target.
func (p *RoutingPolicy) GivesTargets() bool {
	return slices.ContainsFunc(p.Terms, func(t Term) bool { return len(t.Update.ExtCommunities.targets()) > 0 })
}

// GivenTargets are the route targets that a policy may give routes, sorted. Terms
// that cannot be read give none: they reject.
func GivenTargets(o *model.RoutingPolicy) []Target {
	if o.RoutingPolicyEntries == nil {
		return nil
	}
	var list []Target
	for i := range o.RoutingPolicyEntries.Term {
		if t, err := readTerm(&o.RoutingPolicyEntries.Term[i]); err == nil {
			list = append(list, t.Update.ExtCommunities.targets()...)
		}
	}
	return sorted(list)
}

// targets are the route targets among what routes are given.
func (u *CommunityUpdate) targets() []Target {
	var list []Target
	for _, c := range slices.Concat(u.Set, u.Add) {
		if t, ok := TargetOfCommunity(c); ok {
			list = append(list, t)
		}
	}
	return list
}

// matcher is what of a term is looked up faster than by looking at all of it.
type matcher struct {
	prefixes prefixSet
	// communities and extCommunities are the patterns.
	communities, extCommunities []*regexp.Regexp
}

func patterns(list []string) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, text := range list {
		p := regexp.MustCompile(text)
		p.Longest() // so that a match of the whole is found if there is one
		all = append(all, p)
	}
	return all
}

// parts are the communities, AS numbers and steps of patterns in a term.
func (t *Term) parts() int {
	n := len(t.Update.ASPath)
	for _, m := range []*CommunityMatch{&t.Communities, &t.ExtCommunities} {
		n += len(m.Values)
		for _, text := range m.Patterns {
			n += stepsOf(text)
		}
	}
	for _, u := range []*CommunityUpdate{&t.Update.Communities, &t.Update.ExtCommunities} {
		n += len(u.Set) + len(u.Remove) + len(u.Add)
	}
	return n
}

// stepsOf is how many steps a pattern takes for each character, at most. A short
// one may have many, as it may repeat what it repeats.
func stepsOf(pattern string) int {
	if tree, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		if program, err := syntax.Compile(tree.Simplify()); err == nil {
			return len(program.Inst)
		}
	}
	return len(pattern) // it is none
}

// matchesWhole tells whether a pattern is of a whole text.
func matchesWhole(p *regexp.Regexp, text string) bool {
	at := p.FindStringIndex(text)
	return at != nil && at[0] == 0 && at[1] == len(text)
}

func (t *Term) matches(m *matcher, r *PolicyRoute) bool {
	return (len(t.Prefixes) == 0 || m.prefixes.has(r.Prefix)) &&
		(len(t.Sources) == 0 || slices.ContainsFunc(r.Sources, func(s string) bool { _, ok := slices.BinarySearch(t.Sources, s); return ok })) &&
		matchCommunities(&t.Communities, m.communities, r.Communities, communityTexts) &&
		matchCommunities(&t.ExtCommunities, m.extCommunities, r.ExtCommunities, extCommunityTexts)
}

func matchCommunities[C uint32 | uint64](m *CommunityMatch, patterns []*regexp.Regexp, has []C, texts func(C) []string) bool {
	if len(m.Values)+len(patterns) == 0 {
		return true
	}
	value := func(v uint64) bool { return slices.Contains(has, C(v)) }
	pattern := func(p *regexp.Regexp) bool {
		return slices.ContainsFunc(has, func(c C) bool {
			return slices.ContainsFunc(texts(c), func(text string) bool { return matchesWhole(p, text) })
		})
	}
	if !m.All {
		return slices.ContainsFunc(m.Values, value) || slices.ContainsFunc(patterns, pattern)
	}
	return !slices.ContainsFunc(m.Values, func(v uint64) bool { return !value(v) }) &&
		!slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return !pattern(p) })
}

// CommunityText is a community as it is written, by its name if it has one.
func CommunityText(c uint32) string {
	texts := communityTexts(c)
	return texts[len(texts)-1]
}

// communityTexts are the ways in which a community is written.
func communityTexts(c uint32) []string {
	texts := []string{fmt.Sprintf("%d:%d", c>>16, c&0xffff)}
	for name, value := range communities {
		if value == uint64(c) {
			texts = append(texts, name)
		}
	}
	return texts
}

func extCommunityTexts(c uint64) []string {
	texts := []string{fmt.Sprintf("0x%016x", c)}
	if t, ok := TargetOfCommunity(c); ok {
		texts = append(texts, string(t))
	}
	return texts
}

func (u *AttributesUpdate) apply(r *PolicyRoute) {
	if u.LocalPreference != nil {
		r.LocalPreference = *u.LocalPreference
	}
	if u.MED != nil {
		r.MED = *u.MED
	}
	if len(u.ASPath) > 0 {
		r.ASPath = slices.Concat(u.ASPath, r.ASPath)
	}
	r.Communities = updateCommunities(&u.Communities, r.Communities)
	r.ExtCommunities = updateCommunities(&u.ExtCommunities, r.ExtCommunities)
}

func updateCommunities[C uint32 | uint64](u *CommunityUpdate, has []C) []C {
	if u.empty() {
		return has
	}
	var list []C
	if !u.Replace {
		list = slices.Clone(has)
	}
	add := func(values []uint64) {
		for _, v := range values {
			list = append(list, C(v))
		}
	}
	add(u.Set)
	list = slices.DeleteFunc(list, func(c C) bool { return slices.Contains(u.Remove, uint64(c)) })
	add(u.Add)
	return sorted(list)
}

func (u *CommunityUpdate) empty() bool { return !u.Replace && len(u.Remove)+len(u.Add) == 0 }

// String tells what is changed, in the words of the API.
func (u *AttributesUpdate) String() string {
	var words []string
	if u.LocalPreference != nil {
		words = append(words, fmt.Sprintf("local_pref %d", *u.LocalPreference))
	}
	if u.MED != nil {
		words = append(words, fmt.Sprintf("med %d", *u.MED))
	}
	if len(u.ASPath) > 0 {
		words = append(words, "as_path "+strings.Trim(fmt.Sprint(u.ASPath), "[]"))
	}
	community := func(c uint64) string { return CommunityText(uint32(c)) }
	extCommunity := func(c uint64) string {
		texts := extCommunityTexts(c)
		return texts[len(texts)-1]
	}
	words = append(words, u.Communities.words("community", community)...)
	words = append(words, u.ExtCommunities.words("extcommunity", extCommunity)...)
	return strings.Join(words, ", ")
}

func (u *CommunityUpdate) words(of string, text func(uint64) string) []string {
	var words []string
	for _, part := range []struct {
		does   string
		values []uint64
	}{{"set", u.Set}, {"remove", u.Remove}, {"add", u.Add}} {
		if len(part.values) == 0 && (part.does != "set" || !u.Replace) {
			continue
		}
		said := of + " " + part.does
		for _, v := range part.values {
			said += " " + text(v)
		}
		words = append(words, said)
	}
	return words
}

// prefixSet tells fast whether a prefix is one of those that a list means.
type prefixSet struct {
	// lengths are those of the listed prefixes, of IPv4 and IPv6, sorted.
	lengths [2][]int
	spans   map[netip.Prefix][]span
}

// span is a range of lengths.
type span struct{ first, last int }

func newPrefixSet(list []PrefixMatch) prefixSet {
	s := prefixSet{spans: map[netip.Prefix][]span{}}
	for _, m := range list {
		of := &s.lengths[family(m.Prefix)]
		*of = append(*of, m.Prefix.Bits())
		if x := (span{m.First, m.Last}); !slices.Contains(s.spans[m.Prefix], x) {
			s.spans[m.Prefix] = append(s.spans[m.Prefix], x)
		}
	}
	for i := range s.lengths {
		s.lengths[i] = sorted(s.lengths[i])
	}
	return s
}

func family(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return 1
}

func (s *prefixSet) has(p netip.Prefix) bool {
	for _, bits := range s.lengths[family(p)] {
		if bits > p.Bits() {
			return false
		}
		within, _ := p.Addr().Prefix(bits)
		if slices.ContainsFunc(s.spans[within], func(x span) bool { return x.first <= p.Bits() && p.Bits() <= x.last }) {
			return true
		}
	}
	return false
}
