package model

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// View reads one consistent state of a Graph. It is valid only inside the
// function that got it.
type View struct {
	data *data
}

// Position is that of the state.
func (v *View) Position() Position { return v.data.position }

// Object returns the object of this kind and UUID.
func (v *View) Object(kind Kind, uuid string) (Object, bool) {
	if e, ok := v.Entity(uuid); !ok || e.Kind != kind {
		return nil, false
	}
	return v.Find(uuid)
}

// Get returns the object with the UUID if it is of the type T, a pointer to
// one of the generated types: model.Get[*model.VirtualNetwork](v, uuid).
func Get[T Object](v *View, uuid string) (T, bool) {
	o, _ := v.Find(uuid)
	t, ok := o.(T)
	return t, ok
}

// Find returns the object with the UUID, of whatever kind.
func (v *View) Find(uuid string) (Object, bool) {
	x, ok := v.data.vertices[uuid]
	if !ok || !x.exists() {
		return nil, false
	}
	o := v.data.cache.object(x, true)
	return o, o != nil
}

// Entity returns the kind of the object with the UUID, without decoding it.
func (v *View) Entity(uuid string) (Entity, bool) {
	x, ok := v.data.vertices[uuid]
	if !ok || !x.exists() {
		return Entity{}, false
	}
	return x.entity, true
}

// Stored returns the stored form of the object with the UUID.
func (v *View) Stored(uuid string) (Stored, bool) {
	x, ok := v.data.vertices[uuid]
	if !ok || !x.exists() {
		return Stored{}, false
	}
	return x.stored(), true
}

// ByName returns the object with the fully qualified name.
func (v *View) ByName(kind Kind, fq []string) (Object, bool) {
	x, ok := v.named(kind, FQString(fq))
	if !ok {
		return nil, false
	}
	o := v.data.cache.object(x, true)
	return o, o != nil
}

// EntityByName returns the object with the fully qualified name, joined with
// colons, without decoding it.
func (v *View) EntityByName(kind Kind, fq string) (Entity, bool) {
	x, ok := v.named(kind, fq)
	if !ok {
		return Entity{}, false
	}
	return x.entity, true
}

func (v *View) named(kind Kind, fq string) (*vertex, bool) {
	of, ok := v.data.kinds[kind]
	if !ok {
		return nil, false
	}
	x, ok := of.names[fq]
	return x, ok
}

// Count is the number of objects of the kind.
func (v *View) Count(kind Kind) int { return len(v.ofKind(kind)) }

func (v *View) ofKind(kind Kind) []*vertex {
	if of := v.data.kinds[kind]; of != nil {
		return of.vertices
	}
	return nil
}

// manyObjects is how many objects somebody may walk through as if they were
// asked for one by one. A longer walk does not displace what is kept decoded.
const manyObjects = 2000

// objects yields the objects of vertices.
func (v *View) objects(list []*vertex, yield func(Object) bool) bool {
	keep := len(list) <= manyObjects
	for _, x := range list {
		if o := v.data.cache.object(x, keep); o != nil && !yield(o) {
			return false
		}
	}
	return true
}

// All yields the objects of the kind in no particular order.
func (v *View) All(kind Kind) iter.Seq[Object] {
	return func(yield func(Object) bool) { v.objects(v.ofKind(kind), yield) }
}

// AllStored yields the stored forms of the objects of the kind in no
// particular order.
func (v *View) AllStored(kind Kind) iter.Seq[Stored] {
	return func(yield func(Stored) bool) {
		for _, x := range v.ofKind(kind) {
			if !yield(x.stored()) {
				return
			}
		}
	}
}

// Children returns the children of the kind, or of all kinds when it is
// empty, sorted by kind and UUID. The parent may be a view that is not stored.
func (v *View) Children(uuid string, kind Kind) []Object {
	list := slices.Collect(v.ChildSeq(uuid, kind))
	slices.SortFunc(list, func(a, b Object) int { return compareEntities(EntityOf(a), EntityOf(b)) })
	return list
}

// ChildSeq yields what Children returns, in no particular order.
func (v *View) ChildSeq(uuid string, kind Kind) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for f := range v.families(uuid, kind) {
			if !v.objects(f.vertices, yield) {
				return
			}
		}
	}
}

// StoredChildren yields the stored forms of what Children returns, in no
// particular order.
func (v *View) StoredChildren(uuid string, kind Kind) iter.Seq[Stored] {
	return func(yield func(Stored) bool) {
		for f := range v.families(uuid, kind) {
			for _, x := range f.vertices {
				if !yield(x.stored()) {
					return
				}
			}
		}
	}
}

// families yields the children by kind, of one kind or of all.
func (v *View) families(uuid string, kind Kind) iter.Seq[family] {
	return func(yield func(family) bool) {
		x, ok := v.data.vertices[uuid]
		if !ok {
			return
		}
		for _, f := range x.children {
			if (kind == "" || f.kind == kind) && !yield(f) {
				return
			}
		}
	}
}

// CountChildren is the number of children of the kind, or of all kinds.
func (v *View) CountChildren(uuid string, kind Kind) int {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return 0
	}
	n := 0
	for _, f := range x.children {
		if kind == "" || f.kind == kind {
			n += len(f.vertices)
		}
	}
	return n
}

// Reference returns the reference from one object to another.
func (v *View) Reference(from, to string) (Reference, bool) {
	e, ok := v.data.edge(from, to)
	if !ok {
		return Reference{}, false
	}
	return e.reference(), true
}

// References returns the object's references to the kind, or to all kinds
// when it is empty, sorted by the target's kind and UUID.
func (v *View) References(uuid string, to Kind) []Reference {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return nil
	}
	list := collect(x.out, to)
	slices.SortFunc(list, func(a, b Reference) int { return compareEntities(a.To, b.To) })
	return list
}

// ReferenceSeq yields what References returns, in no particular order.
func (v *View) ReferenceSeq(uuid string, to Kind) iter.Seq[Reference] {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return edgeSeq(nil, to)
	}
	return edgeSeq(x.out, to)
}

// BackReferences returns the references of objects of the kind, or of all
// kinds when it is empty, to this one, sorted by the referrer's kind and UUID.
func (v *View) BackReferences(uuid string, from Kind) []Reference {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return nil
	}
	list := collect(x.in, from)
	slices.SortFunc(list, func(a, b Reference) int { return compareEntities(a.From, b.From) })
	return list
}

// BackReferenceSeq yields what BackReferences returns, in no particular order.
func (v *View) BackReferenceSeq(uuid string, from Kind) iter.Seq[Reference] {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return edgeSeq(nil, from)
	}
	return edgeSeq(x.in, from)
}

// CountBackReferences is the number of references to the object from the
// kind, or from all kinds.
func (v *View) CountBackReferences(uuid string, from Kind) int {
	x, ok := v.data.vertices[uuid]
	if !ok {
		return 0
	}
	n := 0
	for _, b := range x.in {
		if from == "" || b.kind == from {
			n += len(b.edges)
		}
	}
	return n
}

// CountReferences is the number of all references.
func (v *View) CountReferences() int { return len(v.data.edges) }

// ReferencesWith yields what References returns for an object of this view,
// each with the stored form of its target; that of a target that is not stored
// is empty.
func (v *View) ReferencesWith(of Stored) iter.Seq2[Reference, Stored] {
	return func(yield func(Reference, Stored) bool) {
		x := of.vertex
		if x == nil { // a view, to which clients may have added references
			if x = v.data.vertices[of.UUID]; x == nil {
				return
			}
		}
		// Most objects have few references, often in order already.
		var few [8]*edge
		edges := few[:0]
		for _, b := range x.out {
			edges = append(edges, b.edges...)
		}
		if len(edges) > 1 {
			slices.SortFunc(edges, func(a, b *edge) int {
				return cmp.Or(strings.Compare(string(a.toKind), string(b.toKind)), strings.Compare(a.to.entity.UUID, b.to.entity.UUID))
			})
		}
		for _, e := range edges {
			var to Stored
			if e.to.exists() {
				to = e.to.stored()
			}
			if !yield(e.reference(), to) {
				return
			}
		}
	}
}

// collect returns the references of one kind, or of all.
func collect(bundles []bundle, kind Kind) []Reference {
	n := 0
	for _, b := range bundles {
		if kind == "" || b.kind == kind {
			n += len(b.edges)
		}
	}
	if n == 0 {
		return nil
	}
	return slices.AppendSeq(make([]Reference, 0, n), edgeSeq(bundles, kind))
}

func edgeSeq(bundles []bundle, kind Kind) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		for _, b := range bundles {
			if kind != "" && b.kind != kind {
				continue
			}
			for _, e := range b.edges {
				if !yield(e.reference()) {
					return
				}
			}
		}
	}
}

func compareEntities(a, b Entity) int {
	return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.UUID, b.UUID))
}

// Node returns the node with the UUID.
func (v *View) Node(uuid string) (Node, bool) { return valueOf(v.data.nodes[uuid]) }

// NodeByName returns the node with the name.
func (v *View) NodeByName(name string) (Node, bool) { return valueOf(v.data.nodeName[name]) }

// NodeByAddress returns the node with the address on the fabric.
func (v *View) NodeByAddress(address string) (Node, bool) { return valueOf(v.data.nodeAddr[address]) }

// CountNodes is the number of nodes.
func (v *View) CountNodes() int { return len(v.data.nodes) }

// SmallestFabricMTU is that of all nodes but one, which need not exist; 0 when
// there is none.
func (v *View) SmallestFabricMTU(but string) uint32 {
	smallest := uint32(0)
	without := v.data.nodes[but]
	for mtu, count := range v.data.nodeMTUs {
		if without != nil && without.FabricMTU == mtu {
			count--
		}
		if count > 0 && (smallest == 0 || mtu < smallest) {
			smallest = mtu
		}
	}
	return smallest
}

func valueOf(n *Node) (Node, bool) {
	if n == nil {
		return Node{}, false
	}
	return *n, true
}

// Nodes returns all nodes, sorted by UUID.
func (v *View) Nodes() []Node {
	list := make([]Node, 0, len(v.data.nodes))
	for _, id := range slices.Sorted(maps.Keys(v.data.nodes)) {
		list = append(list, *v.data.nodes[id])
	}
	return list
}

// Binding returns the binding of a virtual-machine-interface.
func (v *View) Binding(vmi string) (Binding, bool) {
	b, ok := v.data.bindings[vmi]
	if !ok {
		return Binding{}, false
	}
	return b.Binding, true
}

// BindingsOfNode returns what is bound to the node, sorted by interface.
func (v *View) BindingsOfNode(node string) []Binding {
	list := make([]Binding, 0, len(v.data.bound[node]))
	for _, b := range v.data.bound[node] {
		list = append(list, b.Binding)
	}
	slices.SortFunc(list, func(a, b Binding) int { return strings.Compare(a.Interface, b.Interface) })
	return list
}

// Bindings yields all bindings in no particular order.
func (v *View) Bindings() iter.Seq[Binding] {
	return func(yield func(Binding) bool) {
		for _, b := range v.data.bindings {
			if !yield(b.Binding) {
				return
			}
		}
	}
}

// CountBindings is the number of bindings.
func (v *View) CountBindings() int { return len(v.data.bindings) }
