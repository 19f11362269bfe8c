package dbcheck

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Finding is one key that does not fit to the others.
type Finding struct {
	Key     store.Key `json:"key"`
	Problem string    `json:"problem"`
	// Repair is what mends it; nil where that is for people to decide.
	Repair *Fix `json:"repair,omitempty"`
}

// Fix is one change that mends a finding.
type Fix struct {
	// Action is delete, put, or rest: delete, and let it rest as after a release.
	Action Action    `json:"action"`
	Key    store.Key `json:"key"`
	Value  string    `json:"value,omitempty"`

	guards []store.Guard
}

// Action of a Fix.
type Action string

// Actions.
const (
	Delete Action = "delete"
	Put    Action = "put"
	Rest   Action = "rest"
)

// String tells a fix in a few words.
func (f *Fix) String() string {
	switch f.Action {
	case Put:
		return fmt.Sprintf("put %s = %.60q", f.Key, f.Value)
	case Rest:
		return fmt.Sprintf("delete %s and let it rest", f.Key)
	}
	return fmt.Sprintf("%s %s", f.Action, f.Key)
}

// Read returns every key of a store as of one moment, and the revision.
func Read(ctx context.Context, s *store.Store) ([]store.Entry, int64, error) {
	revision, err := s.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	var all []store.Entry
	err = s.Scan(ctx, revision, func(entries []store.Entry) error {
		all = append(all, entries...)
		return nil
	})
	return all, revision, err
}

// object is what the checks need of an object.
type object struct {
	model.Entity
	model.Object
	entry store.Entry
}

// checker looks at a whole store.
type checker struct {
	keys     map[store.Key]store.Entry
	objects  map[string]*object // by UUID
	names    map[store.Key][]*object
	refs     map[string][]model.Entity // targets, by the UUID of their object
	had      map[string][]store.Key    // addresses, by the UUID of their owner
	findings []Finding
}

// Check compares the keys of a whole store with each other.
func Check(entries []store.Entry) []Finding {
	c := &checker{
		keys: make(map[store.Key]store.Entry, len(entries)), objects: map[string]*object{},
		names: map[store.Key][]*object{}, refs: map[string][]model.Entity{}, had: map[string][]store.Key{}, findings: []Finding{},
	}
	for _, e := range entries {
		c.keys[e.Key] = e
		switch e.Key.Space() {
		case store.SpaceRef:
			if s, err := e.Key.Split(4); err == nil {
				c.refs[s[3]] = append(c.refs[s[3]], model.Entity{Kind: model.Kind(s[0]), UUID: s[1]})
			}
		case store.SpaceAddress:
			c.had[string(e.Value)] = append(c.had[string(e.Value)], e.Key)
		}
	}
	for _, e := range entries {
		if e.Key.Space() == store.SpaceObject {
			c.readObject(e)
		}
	}
	for _, e := range entries {
		if err := c.check(e); err != nil {
			c.add(e.Key, nil, "cannot be read: %v", err)
		}
	}
	slices.SortFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Problem, b.Problem))
	})
	return c.findings
}

func (c *checker) add(k store.Key, fix *Fix, format string, args ...any) {
	c.findings = append(c.findings, Finding{k, fmt.Sprintf(format, args...), fix})
}

// unchanged demands that a key is still as it was read, present or absent.
func (c *checker) unchanged(k store.Key) store.Guard {
	if e, ok := c.keys[k]; ok {
		return store.Guard{Condition: store.Unchanged, Key: k, Revision: e.Modified}
	}
	return store.Guard{Condition: store.Absent, Key: k}
}

// fix changes a key while it and others are as they were read.
func (c *checker) fix(a Action, k store.Key, value string, because ...store.Key) *Fix {
	f := &Fix{Action: a, Key: k, Value: value, guards: []store.Guard{c.unchanged(k)}}
	for _, other := range because {
		if other != k {
			f.guards = append(f.guards, c.unchanged(other))
		}
	}
	if a == Rest {
		f.guards = append(f.guards, c.unchanged(store.RestKey(k)))
	}
	return f
}

func (c *checker) readObject(e store.Entry) {
	s, err := e.Key.Split(2)
	if err != nil {
		c.add(e.Key, nil, "is no key of an object: %v", err)
		return
	}
	entity := model.Entity{Kind: model.Kind(s[0]), UUID: s[1]}
	o := &object{Entity: entity, entry: e}
	if other, ok := c.objects[entity.UUID]; ok {
		c.add(e.Key, nil, "has the same UUID as %s", other.Entity)
	}
	c.objects[entity.UUID] = o
	t, ok := model.TypeOf(s[0])
	if !ok {
		c.add(e.Key, nil, "is of the unknown type %q", s[0])
		return
	}
	if o.Object, err = t.DecodeStored(e.Value); err != nil {
		o.Object = nil
		c.add(e.Key, nil, "cannot be read: %v", err)
		return
	}
	m := o.GetMeta()
	if m.UUID != entity.UUID {
		c.add(e.Key, nil, "says that its UUID is %q", m.UUID)
		o.Object = nil
		return
	}
	name := store.NameKey(entity.Kind, m.FQName)
	c.names[name] = append(c.names[name], o)
}

// targets are the objects of a kind that an object refers to, as far as they
// can be read.
func (c *checker) targets(o *object, kind model.Kind) []*object {
	var list []*object
	for _, e := range c.refs[o.Entity.UUID] {
		if to, ok := c.objects[e.UUID]; ok && to.Entity == e && e.Kind == kind && to.Object != nil {
			list = append(list, to)
		}
	}
	return list
}

// exists tells whether there is an object, or a network that it follows from.
func (c *checker) exists(e model.Entity) bool {
	if o, ok := c.objects[e.UUID]; ok {
		return o.Entity.Kind == e.Kind
	}
	return c.mayBeView(e)
}

// mayBeView tells whether something that is not stored may follow from what is:
// the routing instance of a network; a route target, which its UUID tells.
func (c *checker) mayBeView(e model.Entity) bool {
	switch e.Kind {
	case model.KindRoutingInstance:
		vn, ok := c.objects[compile.NetworkOfInstance(e.UUID)]
		return ok && vn.Entity.Kind == model.KindVirtualNetwork
	case model.KindRouteTarget:
		_, ok := compile.TargetOfUUID(e.UUID)
		return ok
	}
	return false
}

// absence are the keys that make exists false.
func (c *checker) absence(e model.Entity) []store.Key {
	keys := []store.Key{store.ObjectKey(e)}
	if e.Kind == model.KindRoutingInstance {
		keys = append(keys, store.ObjectKey(model.Entity{Kind: model.KindVirtualNetwork, UUID: compile.NetworkOfInstance(e.UUID)}))
	}
	return keys
}

func (c *checker) check(e store.Entry) error {
	switch e.Key.Space() {
	case store.SpaceObject:
		c.checkObject(e)
	case store.SpaceName:
		return c.checkName(e)
	case store.SpaceChild:
		return c.checkChild(e)
	case store.SpaceRef:
		return c.checkReference(e)
	case store.SpaceBinding:
		return c.checkBinding(e)
	case store.SpaceNode:
		return c.checkNode(e)
	case store.SpaceFabric:
		return c.checkFabric(e)
	case store.SpaceOwned, store.SpacePosition:
		return c.checkMark(e)
	case store.SpaceRest, store.SpaceTomb:
		c.checkLeased(e)
	case store.SpaceAddress:
		return c.checkAddress(e)
	case store.SpaceAllocated:
		return c.checkAllocated(e)
	case store.SpacePrefix:
		c.checkOwner(e, model.KindVirtualNetwork)
	case store.SpaceNumber:
		return c.checkNumber(e)
	case store.SpaceLabel:
		return c.checkLabel(e)
	case store.SpaceMAC:
		return c.checkMAC(e)
	}
	return nil
}

// checkObject looks for what an object has to have beside itself.
func (c *checker) checkObject(e store.Entry) {
	s, err := e.Key.Split(2)
	if err != nil {
		return // told by readObject
	}
	o := c.objects[s[1]]
	if o == nil || o.Object == nil || o.Entity.Kind != model.Kind(s[0]) {
		return
	}
	m := o.GetMeta()
	name := store.NameKey(o.Entity.Kind, m.FQName)
	switch holder, ok := c.keys[name]; {
	case len(c.names[name]) > 1:
		c.add(e.Key, nil, "shares the name %s with another %s", model.FQString(m.FQName), o.Entity.Kind)
	case !ok:
		c.add(e.Key, c.fix(Put, name, m.UUID, e.Key), "has no key for its name %s", model.FQString(m.FQName))
	case string(holder.Value) != m.UUID:
		c.add(e.Key, c.fix(Put, name, m.UUID, e.Key), "its name %s is taken by %s, which does not have it", model.FQString(m.FQName), holder.Value)
	}
	if m.ParentUUID != "" {
		parent := model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID}
		child := store.ChildKey(m.ParentUUID, o.Entity)
		if !c.exists(parent) {
			c.add(e.Key, nil, "its parent %s does not exist", parent)
		} else if _, ok := c.keys[child]; !ok {
			c.add(e.Key, c.fix(Put, child, "", e.Key), "its parent %s does not have it as a child", parent)
		}
	}
	c.checkValues(o)
}

func (c *checker) checkName(e store.Entry) error {
	s, err := e.Key.Split(2)
	if err != nil {
		return err
	}
	holder := model.Entity{Kind: model.Kind(s[0]), UUID: string(e.Value)}
	o, ok := c.objects[holder.UUID]
	switch {
	case !ok || o.Entity.Kind != holder.Kind:
		if len(c.names[e.Key]) == 0 { // else the object that has it gets it
			c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(holder)), "names %s, which does not exist", holder)
		}
	case o.Object != nil && store.NameKey(o.Entity.Kind, o.GetMeta().FQName) != e.Key && len(c.names[e.Key]) == 0:
		c.add(e.Key, c.fix(Delete, e.Key, "", o.entry.Key), "names %s, which is called %s", holder, model.FQString(o.GetMeta().FQName))
	}
	return nil
}

func (c *checker) checkChild(e store.Entry) error {
	s, err := e.Key.Split(3)
	if err != nil {
		return err
	}
	child := model.Entity{Kind: model.Kind(s[1]), UUID: s[2]}
	o, ok := c.objects[child.UUID]
	switch {
	case !ok || o.Entity.Kind != child.Kind:
		c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(child)), "is for %s, which does not exist", child)
	case o.Object != nil && o.GetMeta().ParentUUID != s[0]:
		c.add(e.Key, c.fix(Delete, e.Key, "", o.entry.Key), "is for %s, whose parent is %q", child, o.GetMeta().ParentUUID)
	}
	return nil
}

func (c *checker) checkReference(e store.Entry) error {
	s, err := e.Key.Split(4)
	if err != nil {
		return err
	}
	var value struct {
		Attr    json.RawMessage `json:"attr"`
		Relaxed bool            `json:"relaxed"`
		Number  uint32          `json:"number"`
	}
	if err := json.Unmarshal(e.Value, &value); err != nil {
		return err
	}
	for _, end := range []model.Entity{{Kind: model.Kind(s[2]), UUID: s[3]}, {Kind: model.Kind(s[0]), UUID: s[1]}} {
		if !c.exists(end) {
			c.add(e.Key, c.fix(Delete, e.Key, "", c.absence(end)...), "one of its ends, %s, does not exist", end)
			return nil
		}
	}
	if model.Kind(s[2]) == model.KindBGPAsAService {
		c.needsReferenceNumber(e, s[3], value.Number)
	}
	return nil
}

func (c *checker) checkNode(e store.Entry) error {
	s, err := e.Key.Split(1)
	if err != nil {
		return err
	}
	var n model.Node
	if err := json.Unmarshal(e.Value, &n); err != nil {
		return err
	}
	if n.UUID != s[0] {
		c.add(e.Key, nil, "says that its UUID is %q", n.UUID)
	}
	if !c.exists(model.Entity{Kind: model.KindVirtualRouter, UUID: s[0]}) {
		c.add(e.Key, nil, "node %s has no virtual-router; it makes one when its agent reports", n.Name)
	}
	k := store.FabricKey(n.Address)
	switch holder, ok := c.keys[k]; {
	case !ok:
		c.add(e.Key, c.fix(Put, k, s[0], e.Key), "the address %s of node %s is not in use", n.Address, n.Name)
	case string(holder.Value) != s[0]:
		c.add(e.Key, nil, "the address %s of node %s is had by node %s", n.Address, n.Name, holder.Value)
	}
	return nil
}

// checkFabric looks whether the node that has an address on the fabric is there.
func (c *checker) checkFabric(e store.Entry) error {
	s, err := e.Key.Split(1)
	if err != nil {
		return err
	}
	k := store.NodeKey(string(e.Value))
	node, ok := c.keys[k]
	var n model.Node
	switch {
	case !ok:
		c.add(e.Key, c.fix(Delete, e.Key, "", k), "is had by node %s, which does not exist", e.Value)
	case json.Unmarshal(node.Value, &n) == nil && n.Address != s[0]:
		c.add(e.Key, c.fix(Delete, e.Key, "", k), "is had by node %s, which has another", n.Name)
	}
	return nil
}

// checkMark looks at what is kept of an object beside it.
func (c *checker) checkMark(e store.Entry) error {
	s, err := e.Key.Split(1)
	if err != nil {
		return err
	}
	o, ok := c.objects[s[0]]
	switch {
	case !ok && e.Key.Space() == store.SpaceOwned:
		kind := model.Entity{Kind: model.Kind(e.Value), UUID: s[0]}
		c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(kind)), "marks %s, which does not exist", kind)
	case !ok && !c.mayBeView(model.Entity{Kind: model.KindRoutingInstance, UUID: s[0]}):
		c.add(e.Key, nil, "is of %s, which does not exist", s[0])
	case ok && e.Key.Space() == store.SpaceOwned && string(e.Value) != string(o.Entity.Kind):
		c.add(e.Key, c.fix(Put, e.Key, string(o.Entity.Kind), o.entry.Key), "marks a %s, and %s is a %s", e.Value, s[0], o.Entity.Kind)
	}
	return nil
}

// checkLeased looks at what has to end by itself.
func (c *checker) checkLeased(e store.Entry) {
	rested, rests := e.Key.Rested()
	if _, used := c.keys[rested]; rests && used {
		c.add(e.Key, c.fix(Delete, e.Key, "", rested), "is the rest of something that is in use")
		return
	}
	if e.Lease == 0 {
		c.add(e.Key, nil, "has no lease: it would never end")
	}
}

// asAddress reads an address as objects have it.
func asAddress(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

// sameMAC compares two ways of writing a MAC address.
func sameMAC(a, b string) bool {
	x, errX := net.ParseMAC(a)
	y, errY := net.ParseMAC(b)
	return errX == nil && errY == nil && strings.EqualFold(x.String(), y.String())
}
