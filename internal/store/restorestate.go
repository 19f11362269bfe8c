package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Phase is how far a restore is.
type Phase string

// Phases of a restore. A store that was never restored has none, which means
// the same as PhaseOpen.
const (
	// PhaseRestoring: keys are being replaced. Nobody but the restore reads or
	// writes; followers keep what they have.
	PhaseRestoring Phase = "restoring"
	// PhaseAwaiting: all is there, and nothing is allocated or deleted until
	// the nodes have said what they run.
	PhaseAwaiting Phase = "awaiting"
	// PhaseOpen: the store is as any other.
	PhaseOpen Phase = "open"
)

// RestoreState is the value of RestoreStateKey.
type RestoreState struct {
	Phase Phase `json:"phase"`
	// Run tells one run of a restore from the next, which may come after a crash.
	Run string `json:"run,omitempty"`
	// Began and Dumped are for people: when the restore began, and when the
	// dump was made.
	Began  time.Time `json:"began"`
	Dumped time.Time `json:"dumped"`
	// FromEpoch and FromRevision are those of the dump.
	FromEpoch    uint64 `json:"from_epoch"`
	FromRevision int64  `json:"from_revision"`
	// Blank: the store had no nodes before the restore, so that nobody knows
	// what was released lately.
	Blank bool `json:"blank,omitempty"`
}

// AwaitedNode is the value of AwaitedKey.
type AwaitedNode struct {
	Name string `json:"name"`
	// Reported: the node has told what it runs, and has conflicts that what the
	// others report may solve.
	Reported bool `json:"reported,omitempty"`
}

// RestoreStateKey holds how far a restore is, RestoreQuietKey is there while
// addresses that nobody knows of may still rest.
const (
	RestoreStateKey Key = "restore/state"
	RestoreQuietKey Key = "restore/quiet"
)

// Sub-spaces of SpaceRestore.
const (
	subAwaited  = "awaited"
	subConflict = "conflict"
)

// AwaitedKey is the key of a node that has to report after a restore.
func AwaitedKey(node string) Key { return key(SpaceRestore, subAwaited, node) }

// AwaitedPrefix is the range of the nodes that have to report.
func AwaitedPrefix() Key { return key(SpaceRestore, subAwaited) + "/" }

// ConflictKey is the key of an interface that runs and cannot be adopted.
func ConflictKey(vmi string) Key { return key(SpaceRestore, subConflict, vmi) }

// ParseRestore reads a key of the space restore: the node that is awaited, or
// the interface in conflict. Both are empty for the other keys.
func (k Key) ParseRestore() (awaited, conflict string) {
	s, err := k.Split(2)
	if err != nil {
		return "", ""
	}
	switch s[0] {
	case subAwaited:
		return s[1], ""
	case subConflict:
		return "", s[1]
	}
	return "", ""
}

// ReadRestoreState reads the value of RestoreStateKey; none is that of a store
// that is open.
func ReadRestoreState(value []byte) (RestoreState, error) {
	state := RestoreState{Phase: PhaseOpen}
	if len(value) == 0 {
		return state, nil
	}
	if err := json.Unmarshal(value, &state); err != nil {
		return state, fmt.Errorf("read %s: %w", RestoreStateKey, err)
	}
	return state, nil
}

// Settling tells whether nothing may be allocated and deleted.
func (s RestoreState) Settling() bool { return s.Phase != PhaseOpen }

// RestoreState reads how far a restore is, and at which position that was so.
func (s *Store) RestoreState(ctx context.Context) (RestoreState, model.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).Then(clientv3.OpGet(s.path(EpochKey)), clientv3.OpGet(s.path(RestoreStateKey))).Commit()
	if err != nil {
		return RestoreState{}, model.Position{}, fmt.Errorf("read %s: %w", RestoreStateKey, err)
	}
	at := model.Position{Revision: uint64(resp.Header.Revision)}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		if at.Epoch, err = strconv.ParseUint(string(kv.Value), 10, 64); err != nil {
			return RestoreState{}, at, fmt.Errorf("read epoch: %w", err)
		}
	}
	var value []byte
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		value = kv.Value
	}
	state, err := ReadRestoreState(value)
	return state, at, err
}

// ErrRestoring says that a restore has not come to its end.
var ErrRestoring = errors.New("the store is being restored; see `contrail db restore --status`")

// notRestoring fails while keys are being replaced at the revision.
func (s *Store) notRestoring(ctx context.Context, revision int64) error {
	resp, err := s.get(ctx, s.path(RestoreStateKey), clientv3.WithRev(revision))
	if err != nil || len(resp.Kvs) == 0 {
		return err
	}
	state, err := ReadRestoreState(resp.Kvs[0].Value)
	if err == nil && state.Phase == PhaseRestoring {
		err = ErrRestoring
	}
	return err
}
