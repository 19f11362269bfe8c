package model

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
)

func network(uuid, name string, parent string) *VirtualNetwork {
	m := Meta{UUID: uuid, FQName: []string{"d", "p", name}}
	if parent != "" {
		m.ParentType, m.ParentUUID = string(KindProject), parent
	}
	return &VirtualNetwork{Meta: m}
}

func TestNamePassesToAnotherObjectInOneBatch(t *testing.T) {
	g := NewGraph()
	g.Apply(Batch{Objects: []Object{network("a", "blue", "")}})
	g.Apply(Batch{Objects: []Object{network("b", "blue", "")}, DeleteObjects: []Entity{{KindVirtualNetwork, "a"}}})
	g.View(func(v *View) {
		if o, ok := v.ByName(KindVirtualNetwork, []string{"d", "p", "blue"}); !ok || o.GetMeta().UUID != "b" {
			t.Errorf("blue is %v", o)
		}
	})
}

func TestViewsThatAreNotStoredHaveChildrenAndReferrers(t *testing.T) {
	g := NewGraph()
	place := Entity{KindRoutingInstance, "derived"}
	router := &BGPRouter{Meta: Meta{UUID: "r", FQName: []string{"r"}, ParentType: string(place.Kind), ParentUUID: place.UUID}}
	from := EntityOf(network("a", "blue", ""))
	g.Apply(Batch{Objects: []Object{router}, References: []Reference{{From: from, To: place}}})
	g.View(func(v *View) {
		if _, ok := v.Find(place.UUID); ok {
			t.Error("the view is found as an object")
		}
		if v.Count(KindRoutingInstance) != 0 {
			t.Error("the view is counted")
		}
		if c := v.Children(place.UUID, KindBGPRouter); len(c) != 1 || c[0] != Object(router) {
			t.Errorf("children %v", c)
		}
		if r := v.BackReferences(place.UUID, ""); len(r) != 1 || r[0].From != from {
			t.Errorf("back references %v", r)
		}
	})
}

func TestGet(t *testing.T) {
	g := NewGraph()
	n := network("a", "blue", "")
	g.Apply(Batch{Objects: []Object{n}})
	g.View(func(v *View) {
		if got, ok := Get[*VirtualNetwork](v, "a"); !ok || got != n {
			t.Errorf("got %v", got)
		}
		if got, ok := Get[*Project](v, "a"); ok || got != nil {
			t.Errorf("got project %v", got)
		}
		if got, ok := Get[*VirtualNetwork](v, "b"); ok || got != nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestWaitFor(t *testing.T) {
	g := NewGraph()
	g.Reset(Batch{Position: Position{Epoch: 1, Revision: 5}})
	if err := g.WaitFor(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	ends := make(chan error)
	for _, revision := range []uint64{8, 6, 7} {
		go func() { ends <- g.WaitFor(t.Context(), revision) }()
	}
	for r := uint64(6); r <= 8; r++ {
		g.Apply(Batch{Position: Position{Epoch: 1, Revision: r}})
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	g := NewGraph()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.WaitFor(ctx, 5)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(g.waiters) != 0 {
		t.Error("the waiter stayed")
	}
}

func TestWaitForDoesNotOutliveItsEpoch(t *testing.T) {
	g := NewGraph()
	g.Reset(Batch{Position: Position{Epoch: 1, Revision: 5}})
	end := make(chan error)
	go func() { end <- g.WaitFor(t.Context(), 100) }()
	for registered := false; !registered; {
		g.mu.RLock()
		registered = len(g.waiters) == 1
		g.mu.RUnlock()
	}
	g.Reset(Batch{Position: Position{Epoch: 2, Revision: 3}})
	if err := <-end; err != nil {
		t.Error(err)
	}
}

func TestSubscription(t *testing.T) {
	g := NewGraph()
	s := g.Subscribe()
	next := func() Changes {
		t.Helper()
		c, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := next(); !c.Everything {
		t.Errorf("first: %+v", c)
	}
	for i := range uint64(10) {
		g.Apply(Batch{Position: Position{Revision: i + 1}, Objects: []Object{network("a", "blue", "")}})
	}
	if c := next(); c.Everything || len(c.Objects) != 1 || c.Position.Revision != 10 {
		t.Errorf("coalesced: %+v", c)
	}
	g.Apply(Batch{Position: Position{Revision: 11}})
	if c := next(); len(c.Objects) != 0 || c.Position.Revision != 11 {
		t.Errorf("progress: %+v", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	end := make(chan error)
	go func() {
		_, err := s.Next(t.Context())
		end <- err
	}()
	s.Close()
	if err := <-end; !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	g.Apply(Batch{Objects: []Object{network("b", "red", "")}})
	if len(g.watchers) != 0 || s.next.Objects != nil {
		t.Error("a closed subscription collects")
	}
}

// Readers, waiters and subscribers run beside the writer; each reader must see
// whole batches: every batch moves all networks to one name's generation.
func TestReadersSeeWholeBatches(t *testing.T) {
	const size, batches = 20, 300
	g := NewGraph()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for ctx.Err() == nil {
				g.View(func(v *View) { checkGeneration(t, v) })
			}
		})
	}
	s := g.Subscribe()
	running.Go(func() {
		for {
			c, err := s.Next(ctx)
			if err != nil {
				return
			}
			g.View(func(v *View) {
				if v.Position().Before(c.Position) {
					t.Errorf("view at %v after changes to %v", v.Position(), c.Position)
				}
				checkGeneration(t, v)
			})
		}
	})
	running.Go(func() {
		for r := range uint64(batches) {
			if g.WaitFor(ctx, r) != nil {
				return
			}
		}
	})
	for r := range uint64(batches) {
		b := Batch{Position: Position{Epoch: 1, Revision: r + 1}}
		for i := range size {
			o := network("u"+strconv.Itoa(i), strconv.FormatUint(r, 10)+"-"+strconv.Itoa(i), "p")
			o.DisplayName = strconv.FormatUint(r, 10)
			b.Objects = append(b.Objects, o)
			b.References = append(b.References, Reference{From: EntityOf(o), To: Entity{KindNetworkIPAM, o.DisplayName}})
			if r > 0 {
				b.DeleteReferences = append(b.DeleteReferences, Edge{EntityOf(o), Entity{KindNetworkIPAM, strconv.FormatUint(r-1, 10)}})
			}
		}
		g.Apply(b)
	}
	cancel()
	running.Wait()
	s.Close()
}

func checkGeneration(t *testing.T, v *View) {
	generation := ""
	for o := range v.All(KindVirtualNetwork) {
		m := o.GetMeta()
		if generation == "" {
			generation = m.DisplayName
		}
		to := v.References(m.UUID, "")
		if m.DisplayName != generation || len(to) != 1 || to[0].To.UUID != generation {
			t.Errorf("%s of generation %s beside %s, with %v", m.UUID, m.DisplayName, generation, to)
			return
		}
	}
	if n := v.CountBackReferences(generation, ""); generation != "" && n != v.Count(KindVirtualNetwork) {
		t.Errorf("%d references to generation %s", n, generation)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	g := NewGraph()
	g.Apply(bigBatch(100))
	g.View(func(v *View) {
		n := testing.AllocsPerRun(100, func() {
			if _, ok := v.Object(KindVirtualMachineInterface, "i7"); !ok {
				t.Error("not found")
			}
			v.CountBackReferences("net", KindVirtualMachineInterface)
			v.Binding("i7")
			v.Node("n")
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// bigBatch has one network with size interfaces, each with an address and a binding.
func bigBatch(size int) Batch {
	b := Batch{Nodes: []Node{{UUID: "n", Name: "n"}}, Objects: []Object{network("net", "blue", "p")}}
	for i := range size {
		b = addInterface(b, i)
	}
	return b
}

func addInterface(b Batch, i int) Batch {
	n := strconv.Itoa(i)
	vmi := &VirtualMachineInterface{Meta: Meta{UUID: "i" + n, FQName: []string{"d", "p", "i" + n}, ParentType: "project", ParentUUID: "p"}}
	ip := &InstanceIP{Meta: Meta{UUID: "a" + n, FQName: []string{"a" + n}}, InstanceIPAddress: "10.32.0.1"}
	net := Entity{KindVirtualNetwork, "net"}
	b.Objects = append(b.Objects, vmi, ip)
	b.References = append(b.References,
		Reference{From: EntityOf(vmi), To: net}, Reference{From: EntityOf(ip), To: net}, Reference{From: EntityOf(ip), To: EntityOf(vmi)})
	b.Bindings = append(b.Bindings, Binding{Interface: vmi.UUID, Node: "n", Label: uint32(16 + i)})
	return b
}

func BenchmarkGraph(b *testing.B) {
	const size = 50_000
	big := bigBatch(size)
	b.Run(fmt.Sprintf("reset/%d", 2*size), func(b *testing.B) {
		g := NewGraph()
		b.ReportAllocs()
		for b.Loop() {
			g.Reset(big)
		}
	})
	g := NewGraph()
	g.Reset(big)
	b.Run(fmt.Sprintf("attach+detach/%d", 2*size), func(b *testing.B) {
		s := g.Subscribe()
		defer s.Close()
		attach := addInterface(Batch{}, size+1)
		var detach Batch
		for _, o := range attach.Objects {
			detach.DeleteObjects = append(detach.DeleteObjects, EntityOf(o))
		}
		for _, r := range attach.References {
			detach.DeleteReferences = append(detach.DeleteReferences, r.Edge())
		}
		detach.DeleteBindings = []string{attach.Bindings[0].Interface}
		b.ReportAllocs()
		for b.Loop() {
			g.Apply(attach)
			g.Apply(detach)
		}
	})
	b.Run(fmt.Sprintf("view/%d", 2*size), func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				g.View(func(v *View) {
					if _, ok := v.ByName(KindVirtualNetwork, []string{"d", "p", "blue"}); !ok {
						b.Error("not found")
					}
				})
			}
		})
	})
	b.Run(fmt.Sprintf("list/%d", 2*size), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			g.View(func(v *View) {
				for range v.BackReferenceSeq("net", KindVirtualMachineInterface) {
					n++
				}
			})
			if n != size {
				b.Fatal(n)
			}
		}
	})
}
