package model

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive is a graph without indices: everything is found by looking at everything.
type naive struct {
	position   Position
	objects    map[string]Object
	references map[Edge]Reference
	nodes      map[string]Node
	bindings   map[string]Binding
}

func newNaive() *naive {
	return &naive{objects: map[string]Object{}, references: map[Edge]Reference{}, nodes: map[string]Node{}, bindings: map[string]Binding{}}
}

func (n *naive) apply(b Batch) {
	for _, e := range b.DeleteObjects {
		delete(n.objects, e.UUID)
	}
	for _, e := range b.DeleteReferences {
		delete(n.references, e)
	}
	for _, id := range b.DeleteNodes {
		delete(n.nodes, id)
	}
	for _, id := range b.DeleteBindings {
		delete(n.bindings, id)
	}
	for _, o := range b.Objects {
		n.objects[o.GetMeta().UUID] = o
	}
	for _, r := range b.References {
		n.references[r.Edge()] = r
	}
	for _, x := range b.Nodes {
		n.nodes[x.UUID] = x
	}
	for _, x := range b.Bindings {
		n.bindings[x.Interface] = x
	}
	n.position = b.Position
}

func (n *naive) sorted(keep func(Object) bool) []Object {
	var list []Object
	for _, o := range n.objects {
		if keep(o) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Object) int { return compareEntities(EntityOf(a), EntityOf(b)) })
	return list
}

func (n *naive) links(keep func(Reference) bool) []Reference {
	var list []Reference
	for _, r := range n.references {
		if keep(r) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Reference) int {
		return cmp.Or(compareEntities(a.From, b.From), compareEntities(a.To, b.To))
	})
	return list
}

// world is a small set of things that batches are made of: each place has one
// kind, and its name, parent, targets and numbers vary.
var (
	worldKinds = []Kind{KindProject, KindVirtualNetwork, KindVirtualMachineInterface, KindInstanceIP}
	worldNodes = []string{"n1", "n2", "n3"}
)

const worldSize = 12

func worldEntity(i int) Entity {
	return Entity{Kind: worldKinds[i%len(worldKinds)], UUID: fmt.Sprintf("u%02d", i)}
}

func randomEntity(t *rapid.T, label string) Entity {
	return worldEntity(rapid.IntRange(0, worldSize-1).Draw(t, label))
}

func randomBatch(t *rapid.T, n *naive) Batch {
	b := Batch{Position: Position{Epoch: n.position.Epoch, Revision: n.position.Revision + 1}}
	touched := map[string]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "objects") {
		e := randomEntity(t, "object")
		if touched[e.UUID] {
			continue
		}
		touched[e.UUID] = true
		if rapid.IntRange(0, 2).Draw(t, "delete object") == 0 {
			b.DeleteObjects = append(b.DeleteObjects, e)
			continue
		}
		o, err := New(e.Kind)
		if err != nil {
			t.Fatal(err)
		}
		m := o.GetMeta()
		m.UUID = e.UUID
		// Names are unique in the store; they may pass from one object to another.
		m.FQName = []string{rapid.SampledFrom([]string{e.UUID, "shared"}).Draw(t, "name")}
		if m.FQName[0] == "shared" && nameIsTaken(n, &b, e, "shared") {
			m.FQName[0] = e.UUID
		}
		if rapid.Bool().Draw(t, "has parent") {
			parent := randomEntity(t, "parent")
			m.ParentType, m.ParentUUID = string(parent.Kind), parent.UUID
		}
		b.Objects = append(b.Objects, o)
	}
	edges := map[Edge]bool{}
	for range rapid.IntRange(0, 4).Draw(t, "references") {
		e := Edge{From: randomEntity(t, "from"), To: randomEntity(t, "to")}
		if edges[e] {
			continue
		}
		edges[e] = true
		if rapid.IntRange(0, 2).Draw(t, "delete reference") == 0 {
			b.DeleteReferences = append(b.DeleteReferences, e)
			continue
		}
		b.References = append(b.References, Reference{From: e.From, To: e.To, Relaxed: rapid.Bool().Draw(t, "relaxed")})
	}
	randomRecords(t, &b)
	return b
}

// asStored turns some of the objects of a batch into their stored form.
func asStored(t *rapid.T, b Batch) Batch {
	objects := b.Objects
	b.Objects = nil
	for _, o := range objects {
		if rapid.IntRange(0, 3).Draw(t, "as an object") == 0 {
			b.Objects = append(b.Objects, o)
			continue
		}
		data, err := Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseStored(EntityOf(o), data)
		if err != nil {
			t.Fatal(err)
		}
		b.Stored = append(b.Stored, s)
	}
	return b
}

func nameIsTaken(n *naive, b *Batch, e Entity, name string) bool {
	after := newNaive()
	maps.Copy(after.objects, n.objects)
	after.apply(*b)
	for id, o := range after.objects {
		if id != e.UUID && o.Kind() == e.Kind && o.GetMeta().FQName[0] == name {
			return true
		}
	}
	return false
}

func (n *naive) smallestFabricMTU(but string) (smallest uint32) {
	for id, node := range n.nodes {
		if id != but && (smallest == 0 || node.FabricMTU < smallest) {
			smallest = node.FabricMTU
		}
	}
	return smallest
}

func randomRecords(t *rapid.T, b *Batch) {
	if rapid.IntRange(0, 3).Draw(t, "node") == 0 {
		id := rapid.SampledFrom(worldNodes).Draw(t, "node id")
		if rapid.Bool().Draw(t, "delete node") {
			b.DeleteNodes = append(b.DeleteNodes, id)
		} else {
			b.Nodes = append(b.Nodes, Node{
				UUID: id, Name: "name of " + id, Address: rapid.SampledFrom([]string{"first of ", "second of "}).Draw(t, "address") + id,
				FabricMTU: rapid.Uint32Range(1400, 1402).Draw(t, "mtu"), Revision: b.Position.Revision,
			})
		}
	}
	bound := map[string]bool{}
	for range rapid.IntRange(0, 3).Draw(t, "bindings") {
		vmi := randomEntity(t, "interface").UUID
		if bound[vmi] {
			continue
		}
		bound[vmi] = true
		if rapid.IntRange(0, 2).Draw(t, "unbind") == 0 {
			b.DeleteBindings = append(b.DeleteBindings, vmi)
			continue
		}
		b.Bindings = append(b.Bindings, Binding{Interface: vmi, Node: rapid.SampledFrom(worldNodes).Draw(t, "bound to"), Label: rapid.Uint32().Draw(t, "label")})
	}
}

func equal(t *rapid.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s (-want +got):\n%s", what, gocmp.Diff(want, got))
	}
}

// checkView compares everything that a view can say with the naive graph.
func checkView(t *rapid.T, v *View, n *naive) {
	equal(t, "position", v.Position(), n.position)
	for _, kind := range worldKinds {
		want := n.sorted(func(o Object) bool { return o.Kind() == kind })
		got := slices.SortedFunc(v.All(kind), func(a, b Object) int { return compareEntities(EntityOf(a), EntityOf(b)) })
		equal(t, "all "+string(kind), got, want)
		equal(t, "count "+string(kind), v.Count(kind), len(want))
		equal(t, "all stored "+string(kind), decodeAll(t, v.AllStored(kind)), want)
	}
	for i := range worldSize {
		checkPlace(t, v, n, worldEntity(i))
	}
	for _, id := range worldNodes {
		node, ok := v.Node(id)
		want, there := n.nodes[id]
		equal(t, "node "+id, []any{node, ok}, []any{want, there})
		node, ok = v.NodeByName("name of " + id)
		equal(t, "node by name "+id, []any{node, ok}, []any{want, there})
		for _, address := range []string{"first of ", "second of "} {
			node, ok = v.NodeByAddress(address + id)
			equal(t, "node by address "+address+id, ok, there && want.Address == address+id)
			equal(t, "node by address "+address+id, !ok || node == want, true)
		}
		equal(t, "smallest fabric MTU of others than "+id, v.SmallestFabricMTU(id), n.smallestFabricMTU(id))
		var bound []Binding
		for _, vmi := range slices.Sorted(maps.Keys(n.bindings)) {
			if n.bindings[vmi].Node == id {
				bound = append(bound, n.bindings[vmi])
			}
		}
		equal(t, "bindings of "+id, append([]Binding(nil), v.BindingsOfNode(id)...), bound)
	}
	equal(t, "nodes", len(v.Nodes()), len(n.nodes))
	equal(t, "number of nodes", v.CountNodes(), len(n.nodes))
	equal(t, "smallest fabric MTU", v.SmallestFabricMTU(""), n.smallestFabricMTU(""))
	equal(t, "number of bindings", v.CountBindings(), len(n.bindings))
	all := slices.SortedFunc(v.Bindings(), func(a, b Binding) int { return strings.Compare(a.Interface, b.Interface) })
	for _, b := range all {
		equal(t, "binding", b, n.bindings[b.Interface])
	}
}

func checkPlace(t *rapid.T, v *View, n *naive, e Entity) {
	want, there := n.objects[e.UUID]
	got, ok := v.Find(e.UUID)
	equal(t, "find "+e.UUID, []any{got, ok}, []any{want, there})
	got, ok = v.Object(e.Kind, e.UUID)
	equal(t, "object "+e.UUID, []any{got, ok}, []any{want, there})
	checkStored(t, v, want, e)
	if _, ok := v.Object(KindDomain, e.UUID); ok {
		t.Fatalf("%s is found as a domain", e.UUID)
	}
	for _, name := range []string{e.UUID, "shared"} {
		var named Object
		for _, o := range n.objects {
			if o.Kind() == e.Kind && o.GetMeta().FQName[0] == name {
				named = o
			}
		}
		got, ok := v.ByName(e.Kind, []string{name})
		equal(t, "by name "+name, []any{got, ok}, []any{named, named != nil})
		entity, ok := v.EntityByName(e.Kind, name)
		if ok != (named != nil) || ok && entity != EntityOf(named) {
			t.Fatalf("entity by name %s is %v (%v), want %v", name, entity, ok, named)
		}
	}
	for _, kind := range append([]Kind{""}, worldKinds...) {
		children := n.sorted(func(o Object) bool {
			return o.GetMeta().ParentUUID == e.UUID && (kind == "" || o.Kind() == kind)
		})
		equal(t, "children of "+e.UUID, v.Children(e.UUID, kind), children)
		equal(t, "stored children of "+e.UUID, decodeAll(t, v.StoredChildren(e.UUID, kind)), children)
		equal(t, "number of children of "+e.UUID, v.CountChildren(e.UUID, kind), len(children))
		out := n.links(func(r Reference) bool { return r.From == e && (kind == "" || r.To.Kind == kind) })
		equal(t, "references of "+e.UUID, v.References(e.UUID, kind), out)
		if kind == "" {
			checkReferencesWith(t, v, n, e, out)
		}
		in := n.links(func(r Reference) bool { return r.To == e && (kind == "" || r.From.Kind == kind) })
		equal(t, "back references of "+e.UUID, v.BackReferences(e.UUID, kind), in)
		equal(t, "number of back references of "+e.UUID, v.CountBackReferences(e.UUID, kind), len(in))
	}
	for i := range worldSize {
		edge := Edge{From: e, To: worldEntity(i)}
		want, there := n.references[edge]
		got, ok := v.Reference(e.UUID, edge.To.UUID)
		equal(t, "reference", []any{got, ok}, []any{want, there})
	}
	b, ok := v.Binding(e.UUID)
	wantBinding, bound := n.bindings[e.UUID]
	equal(t, "binding of "+e.UUID, []any{b, ok}, []any{wantBinding, bound})
}

// decodeAll decodes stored objects and sorts them as Children does.
func decodeAll(t *rapid.T, stored iter.Seq[Stored]) []Object {
	var list []Object
	for s := range stored {
		o, err := s.Object()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Object) int { return compareEntities(EntityOf(a), EntityOf(b)) })
	return list
}

// checkReferencesWith compares references and the targets that come with them.
func checkReferencesWith(t *rapid.T, v *View, n *naive, e Entity, want []Reference) {
	i := 0
	of, ok := v.Stored(e.UUID)
	if !ok {
		of.Entity = e
	}
	for r, to := range v.ReferencesWith(of) {
		if i >= len(want) {
			t.Fatalf("%s has more than %d references", e, len(want))
		}
		_, stored := n.objects[r.To.UUID]
		if stored != (to.UUID == r.To.UUID) {
			t.Fatalf("target %s comes as %s, stored is %v", r.To, to.Entity, stored)
		}
		equal(t, "reference with target", r, want[i])
		i++
	}
	equal(t, "number of references with targets", i, len(want))
}

// checkStored compares the stored form of an object with the object.
func checkStored(t *rapid.T, v *View, want Object, e Entity) {
	got, ok := v.Stored(e.UUID)
	if ok != (want != nil) {
		t.Fatalf("stored %s is found: %v, want %v", e, ok, want)
	}
	if !ok {
		return
	}
	m := want.GetMeta()
	parent := Entity{Kind(m.ParentType), m.ParentUUID}
	if last := m.FQName[len(m.FQName)-1]; text(got.NameJSON()) != last {
		t.Fatalf("name of %s is %s, want %q", e, got.NameJSON(), last)
	}
	equal(t, "stored "+e.UUID, []any{got.Entity, got.Parent, got.FQName()}, []any{e, parent, m.FQName})
}

func TestGraphAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, n := NewGraph(), newNaive()
		g.data.cache.limit = 200
		n.position.Epoch = 1
		s := g.Subscribe()
		defer s.Close()
		replica := newNaive()
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
				fresh := newNaive()
				fresh.position = Position{Epoch: n.position.Epoch + 1, Revision: n.position.Revision}
				b := randomBatch(t, fresh)
				n = fresh
				n.apply(b)
				g.Reset(asStored(t, b))
				// So small that objects are displaced all the time.
				g.data.cache.limit = 200
			} else {
				b := randomBatch(t, n)
				n.apply(b)
				g.Apply(asStored(t, b))
			}
			g.View(func(v *View) { checkView(t, v, n) })
			if rapid.Bool().Draw(t, "subscriber looks") {
				follow(t, g, s, replica)
				equalNaive(t, replica, n)
			}
		}
		g.View(func(v *View) { checkNothingIsLeft(t, v.data) })
	})
}

// follow is what every subscriber does: look again at what may have changed.
func follow(t *rapid.T, g *Graph, s *Subscription, r *naive) {
	changes, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.View(func(v *View) {
		if changes.Everything {
			*r = *newNaive()
			for _, kind := range worldKinds {
				for o := range v.All(kind) {
					put(&changes.Objects, EntityOf(o))
				}
			}
			for i := range worldSize {
				for x := range v.ReferenceSeq(worldEntity(i).UUID, "") {
					put(&changes.References, x.Edge())
				}
			}
			for _, x := range v.Nodes() {
				put(&changes.Nodes, x.UUID)
			}
			for b := range v.Bindings() {
				put(&changes.Bindings, b.Interface)
			}
		}
		for e := range changes.Objects {
			replace(r.objects, e.UUID)(v.Find(e.UUID))
		}
		for e := range changes.References {
			replace(r.references, e)(v.Reference(e.From.UUID, e.To.UUID))
		}
		for id := range changes.Nodes {
			replace(r.nodes, id)(v.Node(id))
		}
		for vmi := range changes.Bindings {
			replace(r.bindings, vmi)(v.Binding(vmi))
		}
		r.position = changes.Position
	})
}

func replace[K comparable, V any](m map[K]V, k K) func(V, bool) {
	return func(v V, ok bool) {
		if ok {
			m[k] = v
		} else {
			delete(m, k)
		}
	}
}

func equalNaive(t *rapid.T, got, want *naive) {
	equal(t, "followed position", got.position, want.position)
	equal(t, "followed objects", got.objects, want.objects)
	equal(t, "followed references", got.references, want.references)
	equal(t, "followed nodes", got.nodes, want.nodes)
	equal(t, "followed bindings", got.bindings, want.bindings)
}

// checkNothingIsLeft deletes everything and looks for what stays behind.
func checkNothingIsLeft(t *rapid.T, d *data) {
	b := Batch{}
	for _, x := range d.vertices {
		b.DeleteObjects = append(b.DeleteObjects, x.entity)
	}
	for _, e := range d.edges {
		b.DeleteReferences = append(b.DeleteReferences, e.reference().Edge())
	}
	b.DeleteNodes = slices.Collect(maps.Keys(d.nodes))
	b.DeleteBindings = slices.Collect(maps.Keys(d.bindings))
	d.apply(&b)
	for kind, of := range d.kinds {
		if len(of.vertices)+len(of.names) > 0 {
			t.Fatalf("%d of %s are left, with %d names", len(of.vertices), kind, len(of.names))
		}
	}
	if n := len(d.vertices) + len(d.edges) + len(d.nodes) + len(d.nodeName) + len(d.nodeAddr) + len(d.nodeMTUs) + len(d.bindings) + len(d.bound); n > 0 {
		t.Fatalf("%d entries are left: %+v", n, d)
	}
	if c := d.cache; c.size > c.limit {
		t.Fatalf("%d bytes are kept decoded, of at most %d", c.size, c.limit)
	}
}
