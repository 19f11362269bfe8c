package configapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/contrail-mesos/contrail/internal/store"
)

// positions tell where the elements of lists stand: an element keeps its
// position when others come and go. Only lists whose positions are not simply
// counted are in the store. It follows the store; the object's own guard keeps
// what is decided on it right. Safe for concurrent use.
type positions struct {
	mu sync.Mutex
	// all has, by object and property, the position of each element; loading
	// is a snapshot that comes in parts.
	all, loading map[string]map[string][]string
}

// Reset implements store.Follower.
func (p *positions) Reset(uint64, int64) error {
	p.loading = map[string]map[string][]string{}
	return nil
}

// Load implements store.Follower.
func (p *positions) Load(entries []store.Entry) error { return readPositions(p.loading, entries) }

// Loaded implements store.Follower.
func (p *positions) Loaded() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all, p.loading = p.loading, nil
	return nil
}

// Apply implements store.Follower.
func (p *positions) Apply(_ int64, changes []store.Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return readPositions(p.all, changes)
}

func readPositions(all map[string]map[string][]string, entries []store.Entry) error {
	for _, e := range entries {
		if e.Key.Space() != store.SpacePosition {
			continue
		}
		s, err := e.Key.Split(1)
		if err != nil {
			return err
		}
		delete(all, s[0])
		if e.Deleted {
			continue
		}
		var of map[string][]string
		if err := json.Unmarshal(e.Value, &of); err != nil {
			return fmt.Errorf("read %s: %w", e.Key, err)
		}
		all[s[0]] = of
	}
	return nil
}

// of returns the positions of the lists of an object that are not counted.
func (p *positions) of(object string) map[string][]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[object] // replaced as a whole, never changed
}

// list returns the positions of a list of n elements.
func (p *positions) list(object, property string, n int) []string {
	if known := p.of(object)[property]; len(known) == n {
		return slices.Clone(known)
	}
	return counted(n)
}

func counted(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
}

// putPositions records where the elements of changed lists stand now; those of
// a list that was replaced as a whole are counted anew.
func (c *change) putPositions(object string, changed map[string]json.RawMessage, now map[string][]string) error {
	old := c.api.positions.of(object)
	next := maps.Clone(old)
	if next == nil {
		next = map[string][]string{}
	}
	for name := range changed {
		delete(next, name)
		if list := now[name]; list != nil && !slices.Equal(list, counted(len(list))) {
			next[name] = list
		}
	}
	k := store.PositionKey(object)
	switch {
	case len(next) == 0 && len(old) > 0:
		c.Delete(k)
	case len(next) > 0 && !maps.EqualFunc(old, next, slices.Equal[[]string]):
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encode positions of %s: %w", object, err)
		}
		c.Put(k, value)
	}
	return nil
}

// dropPositions forgets the positions of an object that goes.
func (c *change) dropPositions(object string) {
	if len(c.api.positions.of(object)) > 0 {
		c.Delete(store.PositionKey(object))
	}
}
