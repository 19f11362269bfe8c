package compile

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A policy set is what the data plane asks whether a packet may pass: rules in
// order, of which the first that matches decides; what none matches is
// refused. It has numbers only, no names, and is never changed. Its id follows
// from its rules, so that all ports and nodes for which the same rules were
// computed have one and the same set, and a rule that changes makes another.
//
// Sets are made of blocks: what one policy, security group or policy set says.
// Each is compiled once, whoever has it, so that a set costs no more than a
// list of its blocks.
//
// A rule is not expanded: each side is one Selector, however many networks,
// prefixes and groups it names, so that a set is as long as what the user
// wrote and not as the product of its parts.

// Rule ids of what no user wrote, as classic clients know them.
const (
	ImplicitAllow = "00000000-0000-0000-0000-100000000001"
	ImplicitDeny  = "00000000-0000-0000-0000-100000000002"
)

const (
	// maxRules bounds a set, and maxTerms all that its selectors and ports
	// name: a port whose rules come to more refuses everything.
	maxRules = 1 << 16
	maxTerms = 1 << 18
)

// Set is a policy set. Nothing of it may be changed.
type Set struct {
	ID SetID `json:"id"`
	// Blocks are asked one after the other.
	Blocks []*Block `json:"blocks"`
}

// Rules yields the rules in their order.
func (s *Set) Rules() iter.Seq[*Rule] {
	return func(yield func(*Rule) bool) {
		for _, b := range s.Blocks {
			for i := range b.Rules {
				if !yield(&b.Rules[i]) {
					return
				}
			}
		}
	}
}

// Block is a part of sets: rules that come from one place.
type Block struct {
	ID    SetID  `json:"id"`
	Rules []Rule `json:"rules"`
	// terms are how many things they name.
	terms int
}

// SetID is the same for sets of the same blocks, and for blocks of the same
// rules.
type SetID [16]byte

// String is the id in hexadecimal digits.
func (id SetID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String.
func (id SetID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Rule says what becomes of packets that match all its parts.
type Rule struct {
	// UUID of the rule that a user wrote, or one of the implicit ones.
	UUID string `json:"uuid"`
	// Owner is the object that the rule is written in, or follows from: its type
	// and name; empty for what no object says. Place is the rule's there, from 1,
	// and 0 for one that follows and where the object is the rule.
	Owner string    `json:"owner,omitempty"`
	Place int       `json:"place,omitempty"`
	Src   *Selector `json:"src"`
	Dst   *Selector `json:"dst"`
	Service
	// SameTags are types of tags of which both sides must have the same one.
	SameTags []uint16 `json:"same_tags,omitempty"`
	Action   *Action  `json:"action"`
}

// Action is what a rule does with packets.
type Action struct {
	Deny     bool                    `json:"deny,omitempty"`
	Log      bool                    `json:"log,omitempty"`
	Alert    bool                    `json:"alert,omitempty"`
	MirrorTo *model.MirrorActionType `json:"mirror_to,omitempty"`
	// Instance is the routing instance that packets are looked up in instead.
	Instance string `json:"assign_routing_instance,omitempty"`
	QoS      string `json:"qos_action,omitempty"`
}

var (
	pass = &Action{}
	deny = &Action{Deny: true}
)

// actionOf reads an action; absent means pass.
func actionOf(a *model.ActionListType) *Action {
	if a == nil {
		return pass
	}
	return &Action{
		Deny: a.SimpleAction == "deny",
		Log:  model.ValueOr(a.Log, false), Alert: model.ValueOr(a.Alert, false),
		MirrorTo: a.MirrorTo, Instance: a.AssignRoutingInstance, QoS: a.QoSAction,
	}
}

// Selector chooses one side of packets: those for which one of its parts
// holds. The zero Selector chooses none.
type Selector struct {
	Any bool `json:"any,omitempty"`
	// Own is the network of the port whose set it is, OwnOf the same where it
	// is one of these: so all networks that have a policy share its rules.
	Own      bool           `json:"own,omitempty"`
	OwnOf    []uint32       `json:"own_of,omitempty"`
	Networks []uint32       `json:"networks,omitempty"`
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	Groups   []uint32       `json:"groups,omitempty"`
	// Tags must all be there.
	Tags []uint32 `json:"tags,omitempty"`

	digest [sha256.Size]byte
}

var (
	anyone = (&Selector{Any: true}).seal()
	own    = (&Selector{Own: true}).seal()
)

// seal brings a selector that is ready into its canonical form.
func (s *Selector) seal() *Selector {
	if s.Any {
		*s = Selector{Any: true}
	}
	lists := []*[]uint32{&s.OwnOf, &s.Networks, &s.Groups, &s.Tags}
	for _, list := range lists {
		*list = distinct(*list, cmp.Compare)
	}
	s.Prefixes = distinct(s.Prefixes, netip.Prefix.Compare)
	b := []byte{flag(s.Any)<<1 | flag(s.Own)}
	for _, list := range lists {
		b = binary.BigEndian.AppendUint32(b, uint32(len(*list)))
		for _, n := range *list {
			b = binary.BigEndian.AppendUint32(b, n)
		}
	}
	for _, p := range s.Prefixes {
		b = append(append(b, p.Addr().AsSlice()...), uint8(p.Bits()), uint8(p.Addr().BitLen()))
	}
	s.digest = sha256.Sum256(b)
	return s
}

// distinct is the sorted list without duplicates, nil when it is empty.
func distinct[T comparable](list []T, compare func(a, b T) int) []T {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, compare)
	return slices.Clip(slices.Compact(list))
}

func flag(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// terms is how many things the selector names.
func (s *Selector) terms() int {
	return len(s.OwnOf) + len(s.Networks) + len(s.Prefixes) + len(s.Groups) + len(s.Tags)
}

// isEmpty tells whether it can choose nobody.
func (s *Selector) isEmpty() bool { return !s.Any && !s.Own && s.terms() == 0 }

// newBlock makes the block of rules, without those that can match nothing or
// that an equal one before them makes useless; nil when none is left.
func newBlock(rules []Rule) *Block {
	var (
		key  []byte
		b    = &Block{Rules: make([]Rule, 0, len(rules))}
		seen = make(map[[sha256.Size]byte]struct{}, len(rules))
		sum  = sha256.New()
	)
	for i := range rules {
		r := &rules[i]
		if r.Src.isEmpty() || r.Dst.isEmpty() {
			continue
		}
		key = r.appendMatch(key[:0])
		match := sha256.Sum256(key)
		if _, double := seen[match]; double {
			continue
		}
		seen[match] = struct{}{}
		key = r.appendVerdict(key[:0])
		sum.Write(match[:])
		sum.Write(key)
		b.Rules = append(b.Rules, *r)
		b.terms += r.Src.terms() + r.Dst.terms() + len(r.Service.Src) + len(r.Service.Dst) + len(r.SameTags)
	}
	if len(b.Rules) == 0 {
		return nil
	}
	b.Rules = slices.Clip(b.Rules)
	b.ID = SetID(sum.Sum(nil))
	return b
}

// newSet makes the set of blocks, of which some may be nil. Those that come to
// more than a set may have make one that refuses everything, and an error.
func newSet(blocks ...*Block) (*Set, error) {
	var rules, terms int
	s := &Set{}
	sum := sha256.New()
	for _, b := range blocks {
		if b == nil {
			continue
		}
		rules, terms = rules+len(b.Rules), terms+b.terms
		sum.Write(b.ID[:])
		s.Blocks = append(s.Blocks, b)
	}
	if rules > maxRules || terms > maxTerms {
		return closed, fmt.Errorf("the rules come to %d, and name %d networks, prefixes, groups, tags and ports; as long as there are more than %d or %d, everything is refused", rules, terms, maxRules, maxTerms)
	}
	s.ID = SetID(sum.Sum(nil))
	return s, nil
}

// closed is the set that refuses everything.
var closed = &Set{ID: SetID(sha256.New().Sum(nil))}

// appendMatch writes what the rule matches, the same way for the same.
func (r *Rule) appendMatch(b []byte) []byte {
	b = append(append(b, r.Src.digest[:]...), r.Dst.digest[:]...)
	b = append(b, byte(r.Family))
	b = binary.BigEndian.AppendUint16(b, uint16(r.Protocol))
	for _, list := range [][]Ports{r.Service.Src, r.Service.Dst} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		for _, p := range list {
			b = binary.BigEndian.AppendUint32(b, uint32(p.First)<<16|uint32(p.Last))
		}
	}
	for _, typ := range r.SameTags {
		b = binary.BigEndian.AppendUint16(b, typ)
	}
	return b
}

// appendVerdict writes what the rule says of what it matches.
func (r *Rule) appendVerdict(b []byte) []byte {
	a := r.Action
	b = append(b, flag(a.Deny)<<2|flag(a.Log)<<1|flag(a.Alert))
	b = binary.BigEndian.AppendUint32(b, uint32(r.Place))
	for _, s := range []string{r.UUID, r.Owner, a.Instance, a.QoS} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	if a.MirrorTo != nil {
		mirror, _ := json.Marshal(a.MirrorTo) // strings, numbers and booleans
		b = append(b, mirror...)
	}
	// The length tells where it ends.
	return binary.BigEndian.AppendUint32(b, uint32(len(b)))
}

// union makes one set of blocks that only allow, which does not depend on their
// order.
func union(blocks []*Block) (*Set, error) {
	blocks = slices.DeleteFunc(slices.Clone(blocks), func(b *Block) bool { return b == nil })
	slices.SortFunc(blocks, func(a, b *Block) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return newSet(slices.CompactFunc(blocks, func(a, b *Block) bool { return a.ID == b.ID })...)
}

func sameBlock(a, b *Block) bool { return a == b || a != nil && b != nil && a.ID == b.ID }

func sameSet(a, b *Set) bool { return a == b || a != nil && b != nil && a.ID == b.ID }
