package vrouter

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/health"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// portWord is what control nodes are told of a port. All are told the same,
// with the same sequence, so that they agree which is the newest.
type portWord struct {
	state controlv1.PortStatus_State
	// failing are the health checks that have failed.
	failing  []health.Failure
	sequence uint64
}

// says tells whether the words are the same but for why checks fail.
func (w portWord) says(state controlv1.PortStatus_State, failing []health.Failure) bool {
	return w.state == state && slices.EqualFunc(w.failing, failing, func(a, b health.Failure) bool { return a.Check == b.Check })
}

// sequence numbers what this agent says. It grows from one process to the next
// in a boot of the node.
type sequence struct {
	mu   sync.Mutex
	last uint64
}

func (s *sequence) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err == nil {
		s.last = max(s.last, uint64(ts.Nano()))
	}
	s.last++
	return s.last
}

// portWords is what control nodes are told. Nothing is said of a port that is
// on its way: after a restart that is every port, and their routes stay.
func (a *Agent) portWords() (map[string]portWord, <-chan struct{}) {
	a.wordsLock.Lock()
	defer a.wordsLock.Unlock()
	records, changed := a.registry.all()
	failing := a.health.AllFailing()
	words := make(map[string]portWord, len(records))
	for _, r := range records {
		state := controlv1.PortStatus_STATE_UNSPECIFIED
		s, desired := a.ports.StatusOf(r.HostIndex)
		switch {
		case !desired || r.Disabled || s.State == reconcile.Failed:
			state = controlv1.PortStatus_STATE_DOWN
		case s.State == reconcile.Applied:
			state = controlv1.PortStatus_STATE_UP
		}
		if words[r.ID] = a.words[r.ID]; !words[r.ID].says(state, failing[r.ID]) {
			words[r.ID] = portWord{state, failing[r.ID], a.sessions.sequence.next()}
		}
	}
	a.words = words
	return words, changed
}
