package model

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Changes says what may be different between two positions. What is named has
// been put or deleted, perhaps both; look at a View to see which. A View
// taken after Next is at Position or later.
type Changes struct {
	// Everything may be different: the first answer, and that after a Reset.
	// The sets are empty then.
	Everything bool
	Objects    map[Entity]struct{}
	References map[Edge]struct{}
	Nodes      map[string]struct{} // node UUIDs
	Bindings   map[string]struct{} // interface UUIDs
	Position   Position
}

// ErrClosed is what Next returns after Close.
var ErrClosed = errors.New("subscription is closed")

// Subscription collects what changes in a graph until its owner asks. It
// holds names only, each once, and only so many of them, so a slow owner costs
// a bounded memory and holds up nobody.
type Subscription struct {
	graph  *Graph
	mu     sync.Mutex
	next   Changes
	dirty  bool
	closed bool
	// ready has at most one token, which says that there is something to take.
	ready chan struct{}
}

// Subscribe starts collecting. The first Next says Everything.
func (g *Graph) Subscribe() *Subscription {
	s := &Subscription{graph: g, ready: make(chan struct{}, 1)}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.everything(g.data.position)
	g.watchers[s] = struct{}{}
	return s
}

// Next blocks until something has changed since the last Next, and returns
// all of it. It is for one goroutine.
func (s *Subscription) Next(ctx context.Context) (Changes, error) {
	for {
		if changes, ok, err := s.take(); ok || err != nil {
			return changes, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Changes{}, fmt.Errorf("wait for changes of the graph: %w", context.Cause(ctx))
		}
	}
}

// Close ends the collecting. A Next that waits returns ErrClosed.
func (s *Subscription) Close() {
	s.graph.mu.Lock()
	delete(s.graph.watchers, s)
	s.graph.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.next = Changes{}
	s.signal()
}

func (s *Subscription) take() (Changes, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Changes{}, false, ErrClosed
	}
	if !s.dirty {
		return Changes{}, false, nil
	}
	changes := s.next
	s.next, s.dirty = Changes{}, false
	return changes, true, nil
}

func (s *Subscription) everything(p Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = Changes{Everything: true, Position: p}
	s.dirty = true
	s.signal()
}

func (s *Subscription) add(b *Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next.Position = b.Position
	s.dirty = true
	if !s.next.Everything {
		s.next.add(b)
	}
	if s.next.names() > maxNames {
		s.next = Changes{Everything: true, Position: b.Position}
	}
	s.signal()
}

// maxNames bounds what a subscription holds for an owner that does not ask:
// one that has missed more than this may as well look at everything.
const maxNames = 1 << 18

func (c *Changes) names() int {
	return len(c.Objects) + len(c.References) + len(c.Nodes) + len(c.Bindings)
}

// signal wakes Next; a token that is there already does it too.
func (s *Subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (c *Changes) add(b *Batch) {
	for _, o := range b.Objects {
		put(&c.Objects, EntityOf(o))
	}
	for i := range b.Stored {
		put(&c.Objects, b.Stored[i].Entity)
	}
	for _, e := range b.DeleteObjects {
		put(&c.Objects, e)
	}
	for _, r := range b.References {
		put(&c.References, r.Edge())
	}
	for _, e := range b.DeleteReferences {
		put(&c.References, e)
	}
	for _, n := range b.Nodes {
		put(&c.Nodes, n.UUID)
	}
	for _, id := range b.DeleteNodes {
		put(&c.Nodes, id)
	}
	for _, n := range b.Bindings {
		put(&c.Bindings, n.Interface)
	}
	for _, vmi := range b.DeleteBindings {
		put(&c.Bindings, vmi)
	}
}

func put[K comparable](set *map[K]struct{}, k K) {
	if *set == nil {
		*set = map[K]struct{}{}
	}
	(*set)[k] = struct{}{}
}
