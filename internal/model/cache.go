package model

import (
	"sync"
	"sync/atomic"
)

// The graph keeps objects as JSON and decodes them when somebody asks. Those
// that are asked for again and again (projects, networks, the nodes' routers)
// stay decoded, within a bound: a clock gives each object that was used since
// the hand last passed a second chance.

// cacheLimit bounds the JSON of the objects that a graph keeps decoded, in
// bytes. In Go they are about twice as large.
const cacheLimit = 16 << 20

// decoded is an object beside its stored form.
type decoded struct {
	vertex *vertex
	// object is nil when this version cannot read what is stored.
	object Object
	size   int // of its JSON
	used   atomic.Bool
}

type cache struct {
	mu    sync.Mutex
	ring  []*decoded
	hand  int
	size  int
	limit int
	// unreadable is told of objects that cannot be decoded, once each.
	unreadable func(Entity, error)
}

// object returns the object of a vertex that has one. It is called by many
// readers at once; none of them changes what is stored meanwhile. Without keep
// an object that is not at hand is decoded for this caller alone.
func (c *cache) object(x *vertex, keep bool) Object {
	if x.object != nil {
		return x.object
	}
	if d := x.decoded.Load(); d != nil {
		if !d.used.Load() {
			d.used.Store(true)
		}
		return d.object
	}
	o, err := x.stored().Object()
	if err != nil {
		c.report(x, err)
		return nil
	}
	if keep {
		c.keep(x, o)
	}
	return o
}

// report marks an object as one that cannot be read.
func (c *cache) report(x *vertex, err error) {
	first := x.decoded.CompareAndSwap(nil, &decoded{vertex: x})
	if first && c.unreadable != nil {
		c.unreadable(x.entity, err)
	}
}

func (c *cache) keep(x *vertex, o Object) {
	d := &decoded{vertex: x, object: o, size: len(x.json)}
	if !x.decoded.CompareAndSwap(nil, d) {
		return // another reader was faster
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring = append(c.ring, d)
	c.size += d.size
	// One turn takes all second chances away, the next finds something.
	for range 2 * len(c.ring) {
		if c.size <= c.limit {
			return
		}
		c.step()
	}
}

// step moves the hand to the next entry.
func (c *cache) step() {
	if c.hand >= len(c.ring) {
		c.hand = 0
	}
	d := c.ring[c.hand]
	current := d.vertex.decoded.Load() == d
	if current && d.used.Swap(false) {
		c.hand++
		return
	}
	if current {
		d.vertex.decoded.CompareAndSwap(d, nil)
	}
	c.size -= d.size
	last := len(c.ring) - 1
	c.ring[c.hand] = c.ring[last]
	c.ring[last] = nil
	c.ring = c.ring[:last]
}
