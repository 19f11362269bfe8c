package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Compiler keeps the results of all units as a graph changes, and computes
// again exactly those whose reads a change touches. What it holds is what a
// new Compiler would make of the same view.
//
//	changes --touched--> reads --index--> units --compute, by layer--> results
//	                                        ^                            |
//	                                        `---- units that asked <-- changed?
//
// A Compiler is for one goroutine at a time; what it returns may be kept and
// shared.
type Compiler struct {
	// roots are the units that every object of their kind has.
	roots []anyUnit
	cells map[cellKey]*cell
	// index finds the cells that have asked a question.
	index map[read]cells
	// offers are what is offered under a key.
	offers map[question]*offer
	// dirty are the cells to compute again, by layer.
	dirty [][]*cell
	// idle are cells that perhaps nobody needs any more.
	idle []*cell
	// report is the present one.
	report *Report
	// last is the number of the newest cell.
	last uint64
	// spare are graphs for the next computations.
	spare []*graph
}

// cellKey names a unit and its owner.
type cellKey struct {
	unit  anyUnit
	owner string
}

// cell is a unit of one owner with its result.
type cell struct {
	cellKey
	number uint64
	result any
	// reads are the questions that it asked, sorted.
	reads []read
	// uses are the cells whose results it asked for, users those that asked
	// for its own.
	uses  []*cell
	users cells
	// wanted cells have an owner to belong to; others need users.
	wanted bool
	dirty  bool
	gone   bool
}

// offer is what is offered under a key: the cells, and their results by owner
// once somebody has asked for them.
type offer struct {
	cells   cells
	results []any
}

// NewCompiler returns one of an empty graph, which keeps instances, and more
// for who asks for it.
func NewCompiler(more ...Part) *Compiler {
	all := roots
	for _, part := range more {
		all = slices.Concat(all, part)
	}
	return newCompiler(all)
}

func newCompiler(roots []anyUnit) *Compiler {
	return &Compiler{
		roots: roots, dirty: make([][]*cell, layers),
		cells: map[cellKey]*cell{}, index: map[read]cells{}, offers: map[question]*offer{},
	}
}

// Apply brings the results to what the view has, and reports those that are
// different from before. The changes must be all those since the last Apply,
// and may be said twice; the first ones must be of everything.
func (c *Compiler) Apply(v *model.View, changes model.Changes) *Report {
	c.report = &Report{}
	if changes.Everything {
		for _, x := range c.cells {
			c.mark(x)
		}
		for _, u := range c.roots {
			_, kind := u.about()
			for s := range v.AllStored(kind) {
				c.want(u, s.UUID)
			}
		}
	}
	for e := range changes.Objects {
		if now, exists := v.Entity(e.UUID); exists {
			c.wantAll(now)
		} else {
			c.markAll(e)
		}
	}
	for r := range touched(v, changes) {
		at := c.index[r]
		at.each(c.mark)
	}
	c.run(v)
	report := c.report
	c.report = nil
	return report
}

// wantAll makes sure that an object has its cells.
func (c *Compiler) wantAll(e model.Entity) {
	for _, u := range c.roots {
		if _, kind := u.about(); kind == e.Kind {
			c.want(u, e.UUID)
		}
	}
}

// markAll marks the cells of an object that is gone, also of units that never
// looked at the object itself.
func (c *Compiler) markAll(e model.Entity) {
	for _, u := range c.roots {
		if x, ok := c.cells[cellKey{u, e.UUID}]; ok {
			c.mark(x)
		}
	}
}

// want makes sure that there is a cell for an object.
func (c *Compiler) want(u anyUnit, owner string) {
	k := cellKey{u, owner}
	x, ok := c.cells[k]
	if !ok {
		x = c.enter(k)
		c.mark(x)
	}
	x.wanted = true
}

func (c *Compiler) enter(k cellKey) *cell {
	c.last++
	x := &cell{cellKey: k, number: c.last}
	c.cells[k] = x
	return x
}

func (c *Compiler) mark(x *cell) {
	if x.dirty {
		return
	}
	x.dirty = true
	layer, _ := x.unit.about()
	c.dirty[layer] = append(c.dirty[layer], x)
}

// run computes all dirty cells, lower layers first: when a cell is computed,
// all that it can ask for is as the view is.
func (c *Compiler) run(v *model.View) {
	for n := range c.dirty {
		for len(c.dirty[n]) > 0 {
			last := len(c.dirty[n]) - 1
			x := c.dirty[n][last]
			c.dirty[n][last] = nil
			c.dirty[n] = c.dirty[n][:last]
			if x.dirty && !x.gone {
				c.compute(v, x)
			}
		}
	}
	for len(c.idle) > 0 {
		last := len(c.idle) - 1
		x := c.idle[last]
		c.idle = c.idle[:last]
		if !x.gone && !x.wanted && x.users.empty() {
			c.drop(x)
		}
	}
}

// compute computes a cell, and marks those that depend on its result if it is
// another than before.
func (c *Compiler) compute(v *model.View, x *cell) {
	before := x.result
	g := c.graph(v, x)
	if x.wanted && !c.hasOwner(v, x) {
		x.wanted = false
		c.idle = append(c.idle, x)
	}
	result := x.unit.run(g, x.owner)
	x.dirty = false
	c.setReads(x, g.reads)
	c.setUses(x, g.uses)
	c.spare = append(c.spare, g)
	if x.unit.equal(before, result) {
		return
	}
	x.result = result
	x.users.each(c.mark)
	c.offer(x, before, result)
	c.report.add(x, before)
}

func (c *Compiler) hasOwner(v *model.View, x *cell) bool {
	_, exists := v.Entity(x.owner)
	return exists
}

// graph is what a cell computes from.
func (c *Compiler) graph(v *model.View, x *cell) *graph {
	g := &graph{}
	if last := len(c.spare) - 1; last >= 0 {
		g, c.spare = c.spare[last], c.spare[:last]
	}
	*g = graph{view: v, from: c, unit: x, reads: g.reads[:0], uses: g.uses[:0]}
	return g
}

// offer offers the result of a cell under its keys, and marks the cells that
// have asked for what is offered under them.
func (c *Compiler) offer(x *cell, before, result any) {
	for _, k := range x.unit.keys(before) {
		c.reoffer(x, k, (*cells).remove)
	}
	for _, k := range x.unit.keys(result) {
		c.reoffer(x, k, (*cells).add)
	}
}

func (c *Compiler) reoffer(x *cell, key string, change func(*cells, *cell)) {
	q := x.unit.key(key)
	o, ok := c.offers[q]
	if !ok {
		o = &offer{}
		c.offers[q] = o
	}
	change(&o.cells, x)
	o.results = nil
	if o.cells.empty() {
		delete(c.offers, q)
	}
	asked := c.index[q.read()]
	asked.each(c.mark)
}

// put keeps a set in an index, unless it is empty.
func put[K comparable](index map[K]cells, k K, s cells) {
	if s.empty() {
		delete(index, k)
		return
	}
	index[k] = s
}

// setReads makes the questions of a cell those that it has asked now.
func (c *Compiler) setReads(x *cell, asked []read) {
	asked = sorted(asked)
	if slices.Equal(x.reads, asked) {
		return
	}
	for _, r := range x.reads {
		if _, still := slices.BinarySearch(asked, r); !still {
			at := c.index[r]
			at.remove(x)
			put(c.index, r, at)
		}
	}
	for _, r := range asked {
		at := c.index[r]
		at.add(x)
		c.index[r] = at
	}
	x.reads = slices.Clone(asked)
}

// setUses makes the cells that a cell uses those that it has asked now.
func (c *Compiler) setUses(x *cell, asked []*cell) {
	byNumber := func(a, b *cell) int { return cmp.Compare(a.number, b.number) }
	slices.SortFunc(asked, byNumber)
	asked = slices.Compact(asked)
	if slices.Equal(x.uses, asked) {
		return
	}
	for _, y := range x.uses {
		if _, still := slices.BinarySearchFunc(asked, y, byNumber); !still {
			y.users.remove(x)
			c.idle = append(c.idle, y)
		}
	}
	for _, y := range asked {
		y.users.add(x)
	}
	x.uses = slices.Clone(asked)
}

// result is the result of a unit that another one asks for.
func (c *Compiler) result(g *graph, u anyUnit, owner string) any {
	c.below(g, u)
	k := cellKey{u, owner}
	y, ok := c.cells[k]
	if !ok {
		y = c.enter(k)
		y.dirty = true
	}
	if y.dirty {
		c.compute(g.view, y)
	}
	g.uses = append(g.uses, y)
	return y.result
}

// below makes sure that the layers are right: lower ones are complete.
func (c *Compiler) below(g *graph, u anyUnit) {
	mine, _ := g.unit.unit.about()
	if its, _ := u.about(); its >= mine {
		panic(fmt.Sprintf("compile: unit %v asks for %v, which is not in a lower layer", g.unit.unit, u))
	}
}

func (c *Compiler) offered(g *graph, u anyUnit, key string) []any {
	c.below(g, u)
	q := u.key(key)
	g.reads = append(g.reads, q.read())
	o, ok := c.offers[q]
	if !ok {
		return nil
	}
	if o.results == nil {
		var owners []*cell
		o.cells.each(func(x *cell) { owners = append(owners, x) })
		slices.SortFunc(owners, func(a, b *cell) int { return cmp.Compare(a.owner, b.owner) })
		for _, x := range owners {
			o.results = append(o.results, x.result)
		}
	}
	return o.results
}

// drop forgets a cell that nobody needs.
func (c *Compiler) drop(x *cell) {
	x.gone = true
	delete(c.cells, x.cellKey)
	c.setReads(x, nil)
	c.setUses(x, nil)
}
