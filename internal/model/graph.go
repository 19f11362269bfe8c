package model

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Graph is the configuration in memory: all objects with their references,
// and the nodes and bindings. One store watch feeds it; any number of readers
// use it at the same time.
//
// Readers see whole revisions: View runs between two Apply. What readers get
// is immutable and stays valid afterwards.
type Graph struct {
	mu       sync.RWMutex
	data     *data
	waiters  waiters
	watchers map[*Subscription]struct{}
	// unreadable guards itself.
	unreadable atomic.Pointer[func(Entity, error)]
}

// NewGraph returns an empty graph at position zero.
func NewGraph() *Graph {
	g := &Graph{watchers: map[*Subscription]struct{}{}}
	g.data = newData(g.report)
	return g
}

// OnUnreadable has f called, once each, with the objects that a reader asked
// for and this version cannot decode. To readers they do not exist.
func (g *Graph) OnUnreadable(f func(e Entity, err error)) { g.unreadable.Store(&f) }

func (g *Graph) report(e Entity, err error) {
	if f := g.unreadable.Load(); f != nil {
		(*f)(e, err)
	}
}

// Batch is what changed in the store up to a position. Deletions are applied
// before puts; putting what exists replaces it. Objects and attributes must
// not be changed by anyone once they are in a batch.
type Batch struct {
	Position Position
	// Stored are objects as the store has them, Objects those that Go code made.
	Stored           []Stored
	Objects          []Object
	DeleteObjects    []Entity
	References       []Reference
	DeleteReferences []Edge
	Nodes            []Node
	DeleteNodes      []string // node UUIDs
	Bindings         []Binding
	DeleteBindings   []string // interface UUIDs
}

// Apply makes the changes of one batch, at once for readers. Deleting what is
// not there is allowed. Apply must not be called by two goroutines at once.
func (g *Graph) Apply(b Batch) {
	g.mu.Lock()
	g.data.apply(&b)
	for s := range g.watchers {
		s.add(&b)
	}
	woken := g.waiters.take(g.data.position)
	g.mu.Unlock()
	wake(woken)
}

// Reset replaces everything by the puts of the batch.
func (g *Graph) Reset(b Batch) {
	l := g.Load()
	l.Add(b)
	l.Done(b.Position)
}

// Load builds another state beside the one that readers see: the first load,
// or a new one after the watch has lost its place. It is for one goroutine.
type Load struct {
	graph *Graph
	data  *data
}

// Load begins one. What is not taken over with Done is forgotten with it.
func (g *Graph) Load() *Load { return &Load{g, newData(g.report)} }

// Add puts what is in the batch.
func (l *Load) Add(b Batch) { l.data.apply(&b) }

// Done replaces the graph by what was loaded, at once for readers.
func (l *Load) Done(p Position) {
	g := l.graph
	l.data.position = p
	g.mu.Lock()
	g.data = l.data
	for s := range g.watchers {
		s.everything(p)
	}
	woken := g.waiters.take(p)
	g.mu.Unlock()
	wake(woken)
}

// Position is that of the last batch.
func (g *Graph) Position() Position {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.data.position
}

// WaitFor blocks until the graph has reached the revision in its present or a
// later epoch, or ctx ends.
func (g *Graph) WaitFor(ctx context.Context, revision uint64) error {
	w := &waiter{epoch: 0, revision: revision, done: make(chan struct{})}
	g.mu.Lock()
	if g.data.position.Revision >= revision {
		g.mu.Unlock()
		return nil
	}
	w.epoch = g.data.position.Epoch
	heap.Push(&g.waiters, w)
	g.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	if w.at >= 0 {
		heap.Remove(&g.waiters, w.at)
	}
	at := g.data.position.Revision
	g.mu.Unlock()
	return fmt.Errorf("wait for revision %d, at %d: %w", revision, at, context.Cause(ctx))
}

// View runs f on a consistent state. The view is valid only inside f; what it
// returns may be kept. f must not call View, Apply or Reset of the same graph,
// and should be short: a batch waits for it. Encode and send outside.
func (g *Graph) View(f func(v *View)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	f(&View{data: g.data})
}

// waiter waits for a revision.
type waiter struct {
	epoch    uint64
	revision uint64
	done     chan struct{}
	at       int // index in the heap, -1 when taken out
}

// waiters is a heap by revision.
type waiters []*waiter

func (w waiters) Len() int           { return len(w) }
func (w waiters) Less(i, j int) bool { return w[i].revision < w[j].revision }
func (w waiters) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].at, w[j].at = i, j
}

// Push appends x; for container/heap.
func (w *waiters) Push(x any) {
	e := x.(*waiter)
	e.at = len(*w)
	*w = append(*w, e)
}

// Pop removes the last element; for container/heap.
func (w *waiters) Pop() any {
	last := len(*w) - 1
	e := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	e.at = -1
	return e
}

// take removes those that the position satisfies. A new epoch satisfies all
// that waited in an older one: their revision will not come any more.
func (w *waiters) take(p Position) []*waiter {
	var taken []*waiter
	for len(*w) > 0 && (*w)[0].revision <= p.Revision {
		taken = append(taken, heap.Pop(w).(*waiter))
	}
	if len(*w) > 0 && (*w)[0].epoch < p.Epoch {
		rest := *w
		*w = nil
		for _, e := range rest {
			if e.epoch < p.Epoch {
				e.at = -1
				taken = append(taken, e)
				continue
			}
			heap.Push(w, e)
		}
	}
	return taken
}

func wake(woken []*waiter) {
	for _, w := range woken {
		close(w.done)
	}
}
