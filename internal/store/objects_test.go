package store

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A graph that follows shows what transactions wrote, references, nodes and
// bindings included, and loses what they deleted.
func TestGraphFollows(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/graph/")
	g := model.NewGraph()
	follow(t, st, Into(quiet(), g))
	loaded(t, g)
	project := &model.Project{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p"}}}
	vn := &model.VirtualNetwork{
		Meta:     model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p", "n"}, ParentType: "project", ParentUUID: project.UUID},
		IsShared: new(true),
	}
	ref := model.Reference{From: model.EntityOf(vn), To: model.EntityOf(project), Attr: json.RawMessage(`{"a":1}`), Relaxed: true}
	x := st.Txn()
	x.CreateObject(project)
	x.CreateObject(vn)
	x.PutReference(ref)
	x.PutNode(model.Node{UUID: "node", Name: "n1", Address: "172.31.0.11", FabricMTU: 1500})
	x.PutBinding(model.Binding{Interface: "vmi", Machine: "vm", Node: "node", Label: 16})
	made := uint64(commit(t, x))
	if err := g.WaitFor(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	g.View(func(v *model.View) {
		o, ok := v.ByName(model.KindVirtualNetwork, []string{"d", "p", "n"})
		if !ok || !*o.(*model.VirtualNetwork).IsShared || len(v.Children(project.UUID, "")) != 1 {
			t.Errorf("network %v", o)
		}
		if r, ok := v.Reference(vn.UUID, project.UUID); !ok || string(r.Attr) != `{"a":1}` || !r.Relaxed || r.To != ref.To {
			t.Errorf("reference %+v", r)
		}
		if n, ok := v.NodeByName("n1"); !ok || n.Revision != made {
			t.Errorf("node %+v", n)
		}
		if b, ok := v.Binding("vmi"); !ok || b.Label != 16 || b.Revision != made {
			t.Errorf("binding %+v", b)
		}
	})

	// The name is taken, whatever the uuid.
	twin := *vn
	twin.UUID = model.NewUUID()
	x = st.Txn()
	x.CreateObject(&twin)
	var conflict *Conflict
	if _, err := x.Commit(t.Context()); !errors.As(err, &conflict) || conflict.Guard.Key != NameKey(vn.Kind(), vn.FQName) {
		t.Errorf("twin: %v", err)
	}
	// Whoever writes must have seen the last write.
	x = st.Txn()
	x.UpdateObject(vn, made-1)
	if _, err := x.Commit(t.Context()); !errors.As(err, &conflict) || conflict.Guard.Condition != NotSince {
		t.Errorf("update of an old state: %v", err)
	}
	// The project cannot go while a child was added after the writer looked.
	x = st.Txn()
	x.DeleteObject(project, made-1)
	if _, err := x.Commit(t.Context()); !errors.As(err, &conflict) {
		t.Errorf("delete of an old state: %v", err)
	}

	x = st.Txn()
	x.DeleteObject(vn, made)
	x.DeleteObject(project, made)
	x.Delete(RefKey(ref.Edge()))
	x.Delete(NodeKey("node"))
	x.Delete(BindingKey("vmi"))
	if err := g.WaitFor(t.Context(), uint64(commit(t, x))); err != nil {
		t.Fatal(err)
	}
	g.View(func(v *model.View) {
		if v.Count(model.KindVirtualNetwork)+v.Count(model.KindProject)+v.CountBindings()+len(v.Nodes())+v.CountBackReferences(project.UUID, "") != 0 {
			t.Error("something is left in the graph")
		}
	})
	if left, err := st.Dump(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("keys left: %v (%v)", left, err)
	}
}

// What this version cannot read does not stop it from reading the rest.
func TestGraphLeavesOutWhatItCannotRead(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/odd/")
	x := st.Txn()
	x.Put("obj/of-the-future/1", []byte(`{}`))
	x.Put("obj/virtual-network/2", []byte(`not JSON`))
	x.Put("node/3", []byte(`[]`))
	x.CreateObject(&model.Project{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"d", "p"}}})
	rev := uint64(commit(t, x))
	g := model.NewGraph()
	follow(t, st, Into(silent(), g))
	loaded(t, g)
	if err := g.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	g.View(func(v *model.View) {
		if v.Count(model.KindProject) != 1 || v.Count(model.KindVirtualNetwork) != 0 || len(v.Nodes()) != 0 {
			t.Error("the graph has not what could be read")
		}
	})
}

// loaded waits for the first load: before it the graph has no epoch, and the
// first one ends all waits.
func loaded(t *testing.T, g *model.Graph) {
	t.Helper()
	if err := g.WaitFor(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
}
