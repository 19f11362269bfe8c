package configapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// maxHistory is how many changes are remembered: some minutes of a busy
// cluster, in a few megabytes.
const maxHistory = 32_768

// history remembers the names of what changed lately, so that a client who lost
// its stream of events is told that and not everything. It follows the store
// before the graph does: what the graph shows, it knows. Safe for concurrent use.
type history struct {
	mu    sync.Mutex
	limit int
	// from is the position after which every change is remembered, loading that
	// of a snapshot that comes in parts.
	from, loading model.Position
	log           []happened // in order
}

// happened is a change of an object or of its references.
type happened struct {
	revision uint64
	entity   model.Entity
	// made says that the object was not there before.
	made bool
}

func newHistory() *history { return &history{limit: maxHistory} }

// Reset implements store.Follower.
func (h *history) Reset(epoch uint64, revision int64) error {
	h.loading = model.Position{Epoch: epoch, Revision: uint64(revision)}
	return nil
}

// Load implements store.Follower.
func (h *history) Load([]store.Entry) error { return nil }

// Loaded implements store.Follower.
func (h *history) Loaded() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.from, h.log = h.loading, nil
	return nil
}

// Apply implements store.Follower.
func (h *history) Apply(revision int64, changes []store.Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var referrers []happened
	for _, e := range changes {
		switch e.Key.Space() {
		case store.SpaceObject:
			s, err := e.Key.Split(2)
			if err != nil {
				return err
			}
			h.log = append(h.log, happened{uint64(revision), model.Entity{Kind: model.Kind(s[0]), UUID: s[1]}, !e.Deleted && e.Created == e.Modified})
		case store.SpaceRef:
			s, err := e.Key.Split(4)
			if err != nil {
				return err
			}
			referrers = append(referrers, happened{uint64(revision), model.Entity{Kind: model.Kind(s[2]), UUID: s[3]}, false})
		}
	}
	// After the objects: one that is made with its references was made.
	h.log = append(h.log, referrers...)
	if len(h.log) > h.limit {
		cut := max(len(h.log)/2, len(h.log)-h.limit)
		for cut < len(h.log) && h.log[cut].revision == h.log[cut-1].revision {
			cut++ // a revision is remembered whole, or not at all
		}
		h.from.Revision = h.log[cut-1].revision
		h.log = slices.Clone(h.log[cut:])
	}
	return nil
}

// since returns what changed after a position, and of each whether it was made
// since. ok is false if not all of that is remembered.
func (h *history) since(p model.Position) (changed map[model.Entity]bool, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.Epoch != h.from.Epoch || p.Revision < h.from.Revision {
		return nil, false
	}
	changed = map[model.Entity]bool{}
	first, _ := slices.BinarySearchFunc(h.log, p.Revision+1, func(c happened, revision uint64) int {
		return int(int64(c.revision) - int64(revision))
	})
	for _, c := range h.log[first:] {
		if _, known := changed[c.entity]; !known {
			changed[c.entity] = c.made // by what came first
		}
	}
	return changed, true
}

// eventID is how an event names the position up to which everything was told.
func eventID(p model.Position) string { return fmt.Sprintf("%d-%d", p.Epoch, p.Revision) }

// parseEventID reads what eventID wrote. Anything else is of no use, and no error.
func parseEventID(text string) (p model.Position, ok bool) {
	epoch, revision, ok := strings.Cut(text, "-")
	if !ok {
		return p, false
	}
	var errEpoch, errRevision error
	p.Epoch, errEpoch = strconv.ParseUint(epoch, 10, 64)
	p.Revision, errRevision = strconv.ParseUint(revision, 10, 63)
	return p, errEpoch == nil && errRevision == nil
}
