package control

import (
	"sync"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// settling follows whether the store waits for the nodes after a restore. As
// long as it does, the graph lacks what the nodes have not reported yet, and
// agents are told not to believe that it is all there is.
type settling struct {
	mu sync.Mutex
	on bool
	// since is the revision at which it was switched.
	since uint64
	// loading is the snapshot that is not complete.
	loading struct {
		on       bool
		revision int64
	}
}

// Reset implements store.Follower.
func (s *settling) Reset(_ uint64, revision int64) error {
	s.loading.on, s.loading.revision = false, revision
	return nil
}

// Load implements store.Follower.
func (s *settling) Load(entries []store.Entry) (err error) {
	s.loading.on, err = readSettling(s.loading.on, entries)
	return err
}

// Loaded implements store.Follower.
func (s *settling) Loaded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on, s.since = s.loading.on, uint64(s.loading.revision)
	return nil
}

// Apply implements store.Follower.
func (s *settling) Apply(revision int64, changes []store.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	on, err := readSettling(s.on, changes)
	if on != s.on {
		s.on, s.since = on, uint64(revision)
	}
	return err
}

func readSettling(on bool, entries []store.Entry) (bool, error) {
	for _, e := range entries {
		if e.Key != store.RestoreStateKey {
			continue
		}
		state, err := store.ReadRestoreState(e.Value)
		if err != nil {
			return on, err
		}
		on = state.Settling()
	}
	return on, nil
}

// at tells whether the graph lacks something at a position: it does until it
// has reached the revision at which the store was opened.
func (s *settling) at(p model.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on || p.Revision < s.since
}

// Recovery follows how far the store has come after a restore. It has to be
// told each revision before the graph is.
func (s *Server) Recovery() store.Follower { return s.tables.recovery }
