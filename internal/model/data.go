package model

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
)

// data is the state of a graph. Every change costs as much as what changes:
// entries know their places in the lists they are in, and a list is kept
// short by moving its last entry into a gap.
//
// There may be a million objects: an object is its JSON and one vertex, a
// reference one edge, and what they have in common is there once.
type data struct {
	position Position
	vertices map[string]*vertex // by uuid
	kinds    map[Kind]*members
	edges    map[ends]*edge
	nodes    map[string]*Node
	nodeName map[string]*Node
	nodeAddr map[string]*Node
	// nodeMTUs counts the nodes by the MTU of their fabric.
	nodeMTUs map[uint32]int
	bindings map[string]*binding
	bound    map[string][]*binding // by node
	cache    *cache
}

// members are the objects of one kind.
type members struct {
	vertices []*vertex
	names    map[string]*vertex // by the joined fq name
}

// ends are the two ends of an edge.
type ends struct {
	from, to *vertex
}

// vertex is an object, or only the place of one that is not stored: a derived
// view may have children and be referred to.
type vertex struct {
	entity Entity
	// json is the object as it is stored, nil for a mere place.
	json []byte
	name span // of the fully qualified name, in json
	// object is set when Go code put the object; then there is no json.
	object   Object
	decoded  atomic.Pointer[decoded]
	fq       string
	parent   *vertex
	inKind   int32 // index in members.vertices
	inParent int32 // index in the parent's list of this kind
	children []family
	out, in  []bundle
}

// family is the children of one kind.
type family struct {
	kind     Kind
	vertices []*vertex
}

// bundle is the edges to or from one kind.
type bundle struct {
	kind  Kind
	edges []*edge
}

type edge struct {
	from, to *vertex
	// fromKind and toKind are the bundles that the edge is in.
	fromKind, toKind Kind
	attr             json.RawMessage
	inFrom, inTo     int32
	number           uint32
	relaxed          bool
}

type binding struct {
	Binding
	inNode int
}

func newData(unreadable func(Entity, error)) *data {
	return &data{
		vertices: map[string]*vertex{},
		kinds:    map[Kind]*members{},
		edges:    map[ends]*edge{},
		nodes:    map[string]*Node{},
		nodeName: map[string]*Node{},
		nodeAddr: map[string]*Node{},
		nodeMTUs: map[uint32]int{},
		bindings: map[string]*binding{},
		bound:    map[string][]*binding{},
		cache:    &cache{limit: cacheLimit, unreadable: unreadable},
	}
}

func (d *data) apply(b *Batch) {
	for _, e := range b.DeleteReferences {
		d.removeEdge(e)
	}
	for _, e := range b.DeleteObjects {
		d.removeObject(e)
	}
	for _, vmi := range b.DeleteBindings {
		d.unbind(vmi)
	}
	for _, id := range b.DeleteNodes {
		d.removeNode(id)
	}
	for _, o := range b.Objects {
		d.putObject(o)
	}
	for i := range b.Stored {
		d.putStored(&b.Stored[i])
	}
	for _, r := range b.References {
		d.putEdge(r)
	}
	for _, n := range b.Nodes {
		d.putNode(n)
	}
	for _, n := range b.Bindings {
		d.bind(n)
	}
	d.position = b.Position
}

// place returns the vertex of e, making a mere place if there is none.
func (d *data) place(e Entity) *vertex {
	v, ok := d.vertices[e.UUID]
	if !ok {
		// The caller's string may be a part of a longer one.
		id := strings.Clone(e.UUID)
		v = &vertex{entity: Entity{known(e.Kind), id}, inKind: -1}
		d.vertices[id] = v
	}
	return v
}

// exists tells an object from a mere place.
func (v *vertex) exists() bool { return v.json != nil || v.object != nil }

// tidy forgets a mere place that nothing is connected with any more.
func (d *data) tidy(v *vertex) {
	if !v.exists() && len(v.children) == 0 && len(v.out) == 0 && len(v.in) == 0 {
		delete(d.vertices, v.entity.UUID)
	}
}

// stored is the stored form of an object.
func (v *vertex) stored() Stored {
	s := Stored{Entity: v.entity, JSON: v.json, name: v.name}
	if v.object != nil {
		s, _ = StoredOf(v.object) // it could be encoded when it was made
	}
	s.vertex = v
	if v.parent != nil {
		s.Parent = v.parent.entity
	}
	return s
}

func (d *data) putObject(o Object) {
	m := o.GetMeta()
	v := d.enter(EntityOf(o), FQString(m.FQName), Entity{Kind: Kind(m.ParentType), UUID: m.ParentUUID})
	v.object = o
}

func (d *data) putStored(s *Stored) {
	v := d.enter(s.Entity, s.FQString(), s.Parent)
	v.json, v.name = s.JSON, s.name
}

// enter makes the place of an object and puts it into all indices.
func (d *data) enter(e Entity, fq string, parent Entity) *vertex {
	v := d.place(e)
	d.forget(v)
	// A mere place only guessed its kind from what pointed at it.
	v.entity.Kind = known(e.Kind)
	v.fq = fq
	of := d.kinds[e.Kind]
	if of == nil {
		of = &members{names: map[string]*vertex{}}
		d.kinds[v.entity.Kind] = of
	}
	of.names[fq] = v
	v.inKind = int32(len(of.vertices))
	of.vertices = append(of.vertices, v)
	if parent.UUID != "" {
		d.adopt(d.place(parent), v)
	}
	return v
}

func (d *data) removeObject(e Entity) {
	v, ok := d.vertices[e.UUID]
	if !ok || !v.exists() {
		return
	}
	d.forget(v)
	d.tidy(v)
}

// forget takes the object of v out of all indices.
func (d *data) forget(v *vertex) {
	if !v.exists() {
		return
	}
	of := d.kinds[v.entity.Kind]
	// The name may have passed to another object in the same batch.
	if of.names[v.fq] == v {
		delete(of.names, v.fq)
	}
	last := len(of.vertices) - 1
	of.vertices[v.inKind] = of.vertices[last]
	of.vertices[v.inKind].inKind = v.inKind
	of.vertices[last] = nil
	of.vertices = of.vertices[:last]
	v.inKind = -1
	if parent := v.parent; parent != nil {
		parent.disown(v)
		d.tidy(parent)
	}
	v.json, v.name, v.object, v.fq = nil, span{}, nil, ""
	v.decoded.Store(nil)
}

func (d *data) adopt(parent, child *vertex) {
	i := slices.IndexFunc(parent.children, func(f family) bool { return f.kind == child.entity.Kind })
	if i < 0 {
		i = len(parent.children)
		parent.children = append(parent.children, family{kind: child.entity.Kind})
	}
	f := &parent.children[i]
	child.parent = parent
	child.inParent = int32(len(f.vertices))
	f.vertices = append(f.vertices, child)
}

func (v *vertex) disown(child *vertex) {
	i := slices.IndexFunc(v.children, func(f family) bool { return f.kind == child.entity.Kind })
	f := &v.children[i]
	last := len(f.vertices) - 1
	f.vertices[child.inParent] = f.vertices[last]
	f.vertices[child.inParent].inParent = child.inParent
	f.vertices[last] = nil
	f.vertices = f.vertices[:last]
	child.parent = nil
	if last == 0 {
		v.children = slices.Delete(v.children, i, i+1)
	}
}

func (d *data) putEdge(r Reference) {
	from, to := d.place(r.From), d.place(r.To)
	key := ends{from, to}
	if old, ok := d.edges[key]; ok {
		if old.fromKind == r.From.Kind && old.toKind == r.To.Kind {
			old.attr, old.relaxed, old.number = r.Attr, r.Relaxed, r.Number
			return
		}
		// The lists are by kind: one that changes moves the edge.
		d.cut(old)
	}
	e := &edge{from: from, to: to, fromKind: known(r.From.Kind), toKind: known(r.To.Kind), attr: r.Attr, relaxed: r.Relaxed, number: r.Number}
	d.edges[key] = e
	out := bundleOf(&from.out, e.toKind)
	e.inFrom = int32(len(out.edges))
	out.edges = append(out.edges, e)
	in := bundleOf(&to.in, e.fromKind)
	e.inTo = int32(len(in.edges))
	in.edges = append(in.edges, e)
}

// edge finds the edge between two UUIDs.
func (d *data) edge(from, to string) (*edge, bool) {
	a, ok := d.vertices[from]
	if !ok {
		return nil, false
	}
	b, ok := d.vertices[to]
	if !ok {
		return nil, false
	}
	e, ok := d.edges[ends{a, b}]
	return e, ok
}

func (d *data) removeEdge(named Edge) {
	e, ok := d.edge(named.From.UUID, named.To.UUID)
	if !ok {
		return
	}
	d.cut(e)
	d.tidy(e.from)
	d.tidy(e.to)
}

// cut takes an edge out of all lists.
func (d *data) cut(e *edge) {
	delete(d.edges, ends{e.from, e.to})
	out := bundleOf(&e.from.out, e.toKind)
	last := len(out.edges) - 1
	out.edges[e.inFrom] = out.edges[last]
	out.edges[e.inFrom].inFrom = e.inFrom
	out.edges[last] = nil
	out.edges = out.edges[:last]
	dropEmpty(&e.from.out, e.toKind)
	in := bundleOf(&e.to.in, e.fromKind)
	last = len(in.edges) - 1
	in.edges[e.inTo] = in.edges[last]
	in.edges[e.inTo].inTo = e.inTo
	in.edges[last] = nil
	in.edges = in.edges[:last]
	dropEmpty(&e.to.in, e.fromKind)
}

// reference is the edge as readers see it.
func (e *edge) reference() Reference {
	return Reference{
		From: Entity{e.fromKind, e.from.entity.UUID}, To: Entity{e.toKind, e.to.entity.UUID},
		Attr: e.attr, Relaxed: e.relaxed, Number: e.number,
	}
}

func bundleOf(list *[]bundle, kind Kind) *bundle {
	for i := range *list {
		if (*list)[i].kind == kind {
			return &(*list)[i]
		}
	}
	*list = append(*list, bundle{kind: kind})
	return &(*list)[len(*list)-1]
}

func dropEmpty(list *[]bundle, kind Kind) {
	*list = slices.DeleteFunc(*list, func(b bundle) bool { return b.kind == kind && len(b.edges) == 0 })
}

func (d *data) putNode(n Node) {
	d.removeNode(n.UUID)
	d.nodes[n.UUID] = &n
	d.nodeName[n.Name] = &n
	d.nodeAddr[n.Address] = &n
	d.nodeMTUs[n.FabricMTU]++
}

func (d *data) removeNode(id string) {
	n, ok := d.nodes[id]
	if !ok {
		return
	}
	delete(d.nodes, id)
	if d.nodeName[n.Name] == n {
		delete(d.nodeName, n.Name)
	}
	if d.nodeAddr[n.Address] == n {
		delete(d.nodeAddr, n.Address)
	}
	if d.nodeMTUs[n.FabricMTU]--; d.nodeMTUs[n.FabricMTU] == 0 {
		delete(d.nodeMTUs, n.FabricMTU)
	}
}

func (d *data) bind(b Binding) {
	d.unbind(b.Interface)
	e := &binding{Binding: b, inNode: len(d.bound[b.Node])}
	d.bindings[b.Interface] = e
	d.bound[b.Node] = append(d.bound[b.Node], e)
}

func (d *data) unbind(vmi string) {
	b, ok := d.bindings[vmi]
	if !ok {
		return
	}
	delete(d.bindings, vmi)
	list := d.bound[b.Node]
	last := len(list) - 1
	list[b.inNode] = list[last]
	list[b.inNode].inNode = b.inNode
	list[last] = nil
	d.bound[b.Node] = list[:last]
	if last == 0 {
		delete(d.bound, b.Node)
	}
}
