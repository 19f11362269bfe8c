package model

import "slices"

// data is the state of a graph. Every change costs as much as what changes:
// entries know their places in the lists they are in, and a list is kept
// short by moving its last entry into a gap.
type data struct {
	position Position
	vertices map[string]*vertex // by uuid
	names    map[name]*vertex
	kinds    map[Kind][]*vertex
	edges    map[ends]*edge
	nodes    map[string]*Node
	nodeName map[string]*Node
	bindings map[string]*binding
	bound    map[string][]*binding // by node
}

// name is a fully qualified name of one kind.
type name struct {
	kind Kind
	fq   string
}

// ends are the UUIDs of an edge.
type ends struct {
	from, to string
}

// vertex is an object, or only the place of one that is not stored: a derived
// view may have children and be referred to.
type vertex struct {
	entity   Entity
	object   Object // nil for a mere place
	inKind   int    // index in data.kinds
	parent   *vertex
	inParent int // index in the parent's list of this kind
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
	Reference
	from, to     *vertex
	inFrom, inTo int
}

type binding struct {
	Binding
	inNode int
}

func newData() *data {
	return &data{
		vertices: map[string]*vertex{},
		names:    map[name]*vertex{},
		kinds:    map[Kind][]*vertex{},
		edges:    map[ends]*edge{},
		nodes:    map[string]*Node{},
		nodeName: map[string]*Node{},
		bindings: map[string]*binding{},
		bound:    map[string][]*binding{},
	}
}

func (d *data) apply(b *Batch) {
	for _, e := range b.DeleteReferences {
		d.removeEdge(ends{e.From.UUID, e.To.UUID})
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
		v = &vertex{entity: e, inKind: -1}
		d.vertices[e.UUID] = v
	}
	return v
}

// tidy forgets a mere place that nothing is connected with any more.
func (d *data) tidy(v *vertex) {
	if v.object == nil && len(v.children) == 0 && len(v.out) == 0 && len(v.in) == 0 {
		delete(d.vertices, v.entity.UUID)
	}
}

func (d *data) putObject(o Object) {
	e := EntityOf(o)
	v := d.place(e)
	d.forget(v)
	// A mere place only guessed its kind from what pointed at it.
	v.entity = e
	v.object = o
	d.names[name{e.Kind, FQString(o.GetMeta().FQName)}] = v
	v.inKind = len(d.kinds[e.Kind])
	d.kinds[e.Kind] = append(d.kinds[e.Kind], v)
	if m := o.GetMeta(); m.ParentUUID != "" {
		d.adopt(d.place(Entity{Kind: Kind(m.ParentType), UUID: m.ParentUUID}), v)
	}
}

func (d *data) removeObject(e Entity) {
	v, ok := d.vertices[e.UUID]
	if !ok || v.object == nil {
		return
	}
	d.forget(v)
	d.tidy(v)
}

// forget takes the object of v out of all indices.
func (d *data) forget(v *vertex) {
	if v.object == nil {
		return
	}
	n := name{v.entity.Kind, FQString(v.object.GetMeta().FQName)}
	// The name may have passed to another object in the same batch.
	if d.names[n] == v {
		delete(d.names, n)
	}
	list := d.kinds[v.entity.Kind]
	last := len(list) - 1
	list[v.inKind] = list[last]
	list[v.inKind].inKind = v.inKind
	list[last] = nil
	d.kinds[v.entity.Kind] = list[:last]
	v.inKind = -1
	if parent := v.parent; parent != nil {
		parent.disown(v)
		d.tidy(parent)
	}
	v.object = nil
}

func (d *data) adopt(parent, child *vertex) {
	i := slices.IndexFunc(parent.children, func(f family) bool { return f.kind == child.entity.Kind })
	if i < 0 {
		i = len(parent.children)
		parent.children = append(parent.children, family{kind: child.entity.Kind})
	}
	f := &parent.children[i]
	child.parent = parent
	child.inParent = len(f.vertices)
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
	key := ends{r.From.UUID, r.To.UUID}
	if old, ok := d.edges[key]; ok {
		if old.Edge() == r.Edge() {
			old.Reference = r
			return
		}
		// The lists are by kind: one that changes moves the edge.
		d.removeEdge(key)
	}
	e := &edge{Reference: r, from: d.place(r.From), to: d.place(r.To)}
	d.edges[key] = e
	out := bundleOf(&e.from.out, r.To.Kind)
	e.inFrom = len(out.edges)
	out.edges = append(out.edges, e)
	in := bundleOf(&e.to.in, r.From.Kind)
	e.inTo = len(in.edges)
	in.edges = append(in.edges, e)
}

func (d *data) removeEdge(key ends) {
	e, ok := d.edges[key]
	if !ok {
		return
	}
	delete(d.edges, key)
	out := bundleOf(&e.from.out, e.To.Kind)
	last := len(out.edges) - 1
	out.edges[e.inFrom] = out.edges[last]
	out.edges[e.inFrom].inFrom = e.inFrom
	out.edges[last] = nil
	out.edges = out.edges[:last]
	dropEmpty(&e.from.out, e.To.Kind)
	in := bundleOf(&e.to.in, e.From.Kind)
	last = len(in.edges) - 1
	in.edges[e.inTo] = in.edges[last]
	in.edges[e.inTo].inTo = e.inTo
	in.edges[last] = nil
	in.edges = in.edges[:last]
	dropEmpty(&e.to.in, e.From.Kind)
	d.tidy(e.from)
	d.tidy(e.to)
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
