package configapi

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// naive is a configuration API as one would write it in an afternoon: objects
// in a map, every question answered by looking at all of them. It says what
// the real one must do.
type naive struct {
	objects map[string]*naiveObject
}

type naiveObject struct {
	kind, uuid string
	name       []string
	// parent is empty for objects at the top.
	parent  string
	display string
	// refs are by the target's uuid.
	refs map[string]naiveRef
	// address of an instance-ip or a floating-ip.
	address netip.Addr
}

type naiveRef struct {
	kind string
	// relaxed references do not keep their target.
	relaxed bool
	// subnets of a network's reference to its IPAM.
	subnets []netip.Prefix
}

// naiveKind is what the naive API knows of a type.
type naiveKind struct {
	kind, parent string
	// refs are the kinds of targets that random objects get.
	refs []string
}

var naiveKinds = []naiveKind{
	{kind: "project", parent: "domain"},
	{kind: "network-ipam", parent: "project"},
	{kind: "virtual-network", parent: "project", refs: []string{"network-ipam"}},
	{kind: "virtual-machine"},
	{kind: "security-group", parent: "project"},
	{kind: "virtual-machine-interface", parent: "project", refs: []string{"virtual-network", "virtual-machine", "security-group"}},
	{kind: "instance-ip", refs: []string{"virtual-network", "virtual-machine-interface"}},
	{kind: "floating-ip-pool", parent: "virtual-network"},
	{kind: "floating-ip", parent: "floating-ip-pool"},
}

func (w *naive) of(kind string) []string {
	var ids []string
	for id, o := range w.objects {
		if o.kind == kind {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *naive) named(kind string, name []string) *naiveObject {
	for _, o := range w.objects {
		if o.kind == kind && slices.Equal(o.name, name) {
			return o
		}
	}
	return nil
}

// children are the uuids of an object's children, by kind.
func (w *naive) children(id string) map[string][]string {
	out := map[string][]string{}
	for _, o := range w.objects {
		if o.parent == id {
			out[o.kind] = append(out[o.kind], o.uuid)
		}
	}
	return sortedLists(out)
}

// references are the uuids of an object's targets, by kind.
func (o *naiveObject) references() map[string][]string {
	out := map[string][]string{}
	for id, r := range o.refs {
		out[r.kind] = append(out[r.kind], id)
	}
	return sortedLists(out)
}

// referrers are the uuids of those that refer to an object, by kind.
func (w *naive) referrers(id string) map[string][]string {
	out := map[string][]string{}
	for _, o := range w.objects {
		if _, ok := o.refs[id]; ok {
			out[o.kind] = append(out[o.kind], o.uuid)
		}
	}
	return sortedLists(out)
}

func sortedLists(m map[string][]string) map[string][]string {
	for _, list := range m {
		slices.Sort(list)
	}
	return m
}

// only is the first target of a kind.
func (o *naiveObject) only(kind string) string {
	ids := o.references()[kind]
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

// network whose addresses an instance-ip or a floating-ip has.
func (w *naive) network(o *naiveObject) *naiveObject {
	if o.kind == "instance-ip" {
		return w.objects[o.only("virtual-network")]
	}
	if pool := w.objects[o.parent]; pool != nil {
		return w.objects[pool.parent]
	}
	return nil
}

func (o *naiveObject) subnets() []netip.Prefix {
	var all []netip.Prefix
	for _, id := range slices.Sorted(maps.Keys(o.refs)) {
		all = append(all, o.refs[id].subnets...)
	}
	return all
}

// used are the addresses of a network that somebody has.
func (w *naive) used(network string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, o := range w.objects {
		if o.address.IsValid() && w.network(o) != nil && w.network(o).uuid == network {
			out[o.address] = o.uuid
		}
	}
	return out
}

// allocatable tells whether an address may be given out: not the network's,
// the gateway's, the name server's or the broadcast address.
func allocatable(p netip.Prefix, a netip.Addr) bool {
	first := p.Addr()
	last := first
	for next := last.Next(); p.Contains(next); next = next.Next() {
		last = next
	}
	return p.Contains(a) && a != first && a != first.Next() && a != first.Next().Next() && a != last
}

// mayHave tells whether an object may have an address of its network: that of
// the gateway is only for interfaces without a machine.
func (w *naive) mayHave(o *naiveObject, a netip.Addr) bool {
	gateway := len(o.references()["virtual-machine-interface"]) > 0
	for _, id := range o.references()["virtual-machine-interface"] {
		vmi := w.objects[id]
		gateway = gateway && vmi != nil && vmi.only("virtual-machine") == ""
	}
	return slices.ContainsFunc(w.network(o).subnets(), func(p netip.Prefix) bool {
		return allocatable(p, a) || gateway && a == p.Addr().Next()
	})
}

// free tells whether an address could be given out by itself.
func (w *naive) free(n *naiveObject) bool {
	used := w.used(n.uuid)
	for _, p := range n.subnets() {
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if _, taken := used[a]; !taken && allocatable(p, a) {
				return true
			}
		}
	}
	return false
}

// mayCreate returns the statuses with which a create may be refused; none when
// it must succeed. want is the address that is asked for, if one is.
func (w *naive) mayCreate(o *naiveObject, parentMissing bool, want netip.Addr) []int {
	var refused []int
	if parentMissing {
		return []int{400}
	}
	if w.named(o.kind, o.name) != nil || w.objects[o.uuid] != nil {
		refused = append(refused, 409)
	}
	for id := range o.refs {
		if w.objects[id] == nil {
			refused = append(refused, 400, 404)
		}
	}
	if o.kind == "instance-ip" || o.kind == "floating-ip" {
		refused = append(refused, w.mayAddress(o, want)...)
	}
	return refused
}

func (w *naive) mayAddress(o *naiveObject, want netip.Addr) []int {
	n := w.network(o)
	switch {
	case n == nil:
		return []int{400, 404}
	case !want.IsValid():
		if !w.free(n) {
			return []int{400}
		}
	case !w.mayHave(o, want):
		return []int{400}
	default:
		if _, taken := w.used(n.uuid)[want]; taken {
			return []int{409}
		}
	}
	return nil
}

// mayDelete is like mayCreate.
func (w *naive) mayDelete(id string) []int {
	if w.objects[id] == nil {
		return []int{404}
	}
	if len(w.children(id)) > 0 {
		return []int{409}
	}
	for _, o := range w.objects {
		if r, ok := o.refs[id]; ok && !r.relaxed {
			return []int{409}
		}
	}
	return nil
}

func (w *naive) delete(id string) {
	delete(w.objects, id)
	for _, o := range w.objects {
		delete(o.refs, id)
	}
}

// maySubnet tells whether a network may have these subnets instead.
func (w *naive) maySubnet(n *naiveObject, after []netip.Prefix) []int {
	for a := range w.used(n.uuid) {
		if !slices.ContainsFunc(after, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return []int{409}
		}
	}
	return nil
}

// subnetsAttr is the attribute of a network's reference to an IPAM.
func subnetsAttr(list []netip.Prefix) map[string]any {
	subnets := []any{}
	for _, p := range list {
		subnets = append(subnets, map[string]any{
			"subnet": map[string]any{"ip_prefix": p.Addr().String(), "ip_prefix_len": p.Bits()}, "addr_from_start": true,
		})
	}
	return map[string]any{"ipam_subnets": subnets}
}

// list is the value of a list of references of one kind.
func (o *naiveObject) list(kind string) []any {
	list := []any{}
	for _, id := range o.references()[kind] {
		ref := map[string]any{"uuid": id}
		if kind == "network-ipam" {
			ref["attr"] = subnetsAttr(o.refs[id].subnets)
		}
		list = append(list, ref)
	}
	return list
}

// field is the name of a list of references, children or back references.
func field(kind, suffix string) string { return strings.ReplaceAll(kind, "-", "_") + suffix }

func (o *naiveObject) String() string { return fmt.Sprintf("%s %v", o.kind, o.name) }
