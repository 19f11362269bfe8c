package store

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/contrail-mesos/contrail/internal/model"
)

// reference is the value of a reference's key.
type reference struct {
	Attr    json.RawMessage `json:"attr,omitempty"`
	Relaxed bool            `json:"relaxed,omitempty"`
	Number  uint32          `json:"number,omitempty"`
}

// CreateObject creates an object with its unique name, under its parent.
func (t *Txn) CreateObject(o model.Object) {
	e, m := model.EntityOf(o), o.GetMeta()
	value := t.encode(o)
	t.Create(ObjectKey(e), value)
	t.prove(ObjectKey(e), value)
	t.Create(NameKey(e.Kind, m.FQName), []byte(m.UUID))
	if m.ParentUUID != "" {
		parent := model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID}
		t.Put(ChildKey(parent.UUID, e), nil)
	}
}

// UpdateObject replaces an object that nobody has written since the revision.
func (t *Txn) UpdateObject(o model.Object, since uint64) {
	k := ObjectKey(model.EntityOf(o))
	t.untouched(k, since)
	value := t.encode(o)
	t.Put(k, value)
	t.prove(k, value)
}

// DeleteObject deletes an object as it was at the revision, with its name. Its
// references are deleted by the caller, who knows them. Since the revision
// nobody may have written the object or put a child or a reference on it.
func (t *Txn) DeleteObject(o model.Object, since uint64) {
	e, m := model.EntityOf(o), o.GetMeta()
	k := ObjectKey(e)
	t.untouched(k, since)
	t.Guard(Guard{Condition: RangeUnchanged, Key: ChildPrefix(e.UUID), Revision: int64(since)})
	t.Guard(Guard{Condition: RangeUnchanged, Key: RefPrefix(e), Revision: int64(since)})
	t.shrinks = true
	t.Delete(k)
	t.Delete(NameKey(e.Kind, m.FQName))
	if m.ParentUUID != "" {
		t.Delete(ChildKey(m.ParentUUID, e))
	}
}

func (t *Txn) untouched(k Key, since uint64) {
	t.Guard(Guard{Condition: Present, Key: k})
	t.Guard(Guard{Condition: NotSince, Key: k, Revision: int64(since)})
}

// Need demands that an object exists, without keeping others from changing it.
func (t *Txn) Need(e model.Entity) { t.Guard(Guard{Condition: Present, Key: ObjectKey(e)}) }

// PutReference creates or replaces a reference. Both ends must exist: the
// caller creates them here or asks for them with Need.
func (t *Txn) PutReference(r model.Reference) {
	value, err := json.Marshal(reference{r.Attr, r.Relaxed, r.Number})
	if err != nil {
		t.fail(fmt.Errorf("encode reference %s -> %s: %w", r.From, r.To, err))
	}
	t.Put(RefKey(r.Edge()), value)
}

// PutNode writes a node.
func (t *Txn) PutNode(n model.Node) { t.putJSON(NodeKey(n.UUID), n) }

// PutBinding writes a binding.
func (t *Txn) PutBinding(b model.Binding) { t.putJSON(BindingKey(b.Interface), b) }

func (t *Txn) putJSON(k Key, v any) {
	value, err := json.Marshal(v)
	if err != nil {
		t.fail(fmt.Errorf("encode %s: %w", k, err))
	}
	t.Put(k, value)
}

func (t *Txn) encode(o model.Object) []byte {
	value, err := model.Encode(o)
	if err != nil {
		t.fail(err)
	}
	return value
}

func (t *Txn) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Into returns the follower that keeps a graph, of objects without the named
// properties. What it cannot read, because a newer version wrote it, is logged
// and left out.
func Into(log *slog.Logger, g *model.Graph, without ...string) Follower {
	g.OnUnreadable(func(e model.Entity, err error) {
		log.Error("cannot read an object of the store; it is hidden", "object", e.String(), "error", err)
	})
	return &graphFollower{log: log, graph: g, without: without}
}

type graphFollower struct {
	log     *slog.Logger
	graph   *model.Graph
	without []string
	epoch   uint64
	load    *model.Load
	// loading is the position of the snapshot that is being loaded.
	loading model.Position
}

func (f *graphFollower) Reset(epoch uint64, revision int64) error {
	f.load = f.graph.Load()
	f.loading = model.Position{Epoch: epoch, Revision: uint64(revision)}
	return nil
}

func (f *graphFollower) Load(entries []Entry) error {
	f.load.Add(f.batch(f.loading, entries))
	return nil
}

func (f *graphFollower) Loaded() error {
	f.epoch = f.loading.Epoch
	f.load.Done(f.loading)
	f.load = nil
	return nil
}

func (f *graphFollower) Apply(revision int64, changes []Entry) error {
	f.graph.Apply(f.batch(model.Position{Epoch: f.epoch, Revision: uint64(revision)}, changes))
	return nil
}

func (f *graphFollower) batch(at model.Position, entries []Entry) model.Batch {
	b := model.Batch{Position: at}
	for _, e := range entries {
		if err := addTo(&b, e); err != nil {
			f.log.Error("cannot read a key of the store; leaving it out", "key", e.Key, "error", err)
		}
	}
	if len(f.without) > 0 {
		for i := range b.Stored {
			b.Stored[i] = b.Stored[i].Without(f.without...)
		}
	}
	return b
}

func addTo(b *model.Batch, e Entry) error {
	switch e.Key.Space() {
	case SpaceObject:
		return addObject(b, e)
	case SpaceRef:
		return addReference(b, e)
	case SpaceNode:
		s, err := e.Key.Split(1)
		if err != nil {
			return err
		}
		if e.Deleted {
			b.DeleteNodes = append(b.DeleteNodes, s[0])
			return nil
		}
		n := model.Node{}
		if err := json.Unmarshal(e.Value, &n); err != nil {
			return err
		}
		n.Revision = uint64(e.Modified)
		b.Nodes = append(b.Nodes, n)
	case SpaceBinding:
		s, err := e.Key.Split(1)
		if err != nil {
			return err
		}
		if e.Deleted {
			b.DeleteBindings = append(b.DeleteBindings, s[0])
			return nil
		}
		v := model.Binding{}
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return err
		}
		v.Revision = uint64(e.Modified)
		b.Bindings = append(b.Bindings, v)
	}
	return nil
}

func addObject(b *model.Batch, e Entry) error {
	s, err := e.Key.Split(2)
	if err != nil {
		return err
	}
	if e.Deleted {
		b.DeleteObjects = append(b.DeleteObjects, model.Entity{Kind: model.Kind(s[0]), UUID: s[1]})
		return nil
	}
	t, ok := model.TypeOf(s[0])
	if !ok {
		return fmt.Errorf("unknown type %q", s[0])
	}
	stored, err := model.ParseStored(model.Entity{Kind: t.Kind, UUID: s[1]}, e.Value)
	if err != nil {
		return err
	}
	b.Stored = append(b.Stored, stored)
	return nil
}

func addReference(b *model.Batch, e Entry) error {
	s, err := e.Key.Split(4)
	if err != nil {
		return err
	}
	edge := model.Edge{
		From: model.Entity{Kind: model.Kind(s[2]), UUID: s[3]},
		To:   model.Entity{Kind: model.Kind(s[0]), UUID: s[1]},
	}
	if e.Deleted {
		b.DeleteReferences = append(b.DeleteReferences, edge)
		return nil
	}
	v := reference{}
	if string(e.Value) != "{}" { // which most are
		if err := json.Unmarshal(e.Value, &v); err != nil {
			return err
		}
	}
	b.References = append(b.References, model.Reference{From: edge.From, To: edge.To, Attr: v.Attr, Relaxed: v.Relaxed, Number: v.Number})
	return nil
}
