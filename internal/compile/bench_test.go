package compile

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// manyNetworks is a graph as a store fills it.
func manyNetworks(b *testing.B, n int) *model.Graph {
	g := model.NewGraph()
	load := g.Load()
	for i := range n {
		s, err := model.StoredOf(network(fmt.Sprintf("n%d", i), int64(i+1)))
		if err != nil {
			b.Fatal(err)
		}
		load.Add(model.Batch{Stored: []model.Stored{s}})
	}
	load.Done(model.Position{Epoch: 1, Revision: 1})
	return g
}

// BenchmarkEverything compiles 50,000 networks from nothing, and shows what
// they take in memory.
func BenchmarkEverything(b *testing.B) {
	g := manyNetworks(b, 50_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var c *Compiler
	for b.Loop() {
		c = NewCompiler()
		g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/50_000, "B/network")
	runtime.KeepAlive(c)
}

// BenchmarkOneNetwork is a change of one network among 50,000.
func BenchmarkOneNetwork(b *testing.B) {
	g := manyNetworks(b, 50_000)
	c := NewCompiler()
	g.View(func(v *model.View) { c.Apply(v, model.Changes{Everything: true}) })
	e := model.EntityOf(network("n7", 8))
	changes := model.Changes{Objects: map[model.Entity]struct{}{e: {}}}
	b.ReportAllocs()
	for b.Loop() {
		g.View(func(v *model.View) { c.Apply(v, changes) })
	}
}
