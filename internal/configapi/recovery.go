package configapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// recovery is how far the store has come since it was restored. It follows the
// store, and knows each revision before the graph shows it. Safe for
// concurrent use.
type recovery struct {
	mu    sync.Mutex
	state store.RestoreState
	// written is the revision of the state.
	written   int64
	quiet     store.Lease // 0 when there is none
	awaited   map[string]store.AwaitedNode
	conflicts map[string]conflict // by interface
	changed   chan struct{}       // closed and replaced with each change
	// loading are the entries of a snapshot that is not complete.
	loading []store.Entry
}

// conflict is an attachment that runs and cannot be adopted.
type conflict struct {
	attachment *configv1.Attachment
	reason     string
	// holder is the UUID of what holds its place, if there is one.
	holder string
	// drop: the node is to take the port off.
	drop bool
}

// conflictValue is the value of a conflict's key.
type conflictValue struct {
	Attachment json.RawMessage `json:"attachment"`
	Reason     string          `json:"reason"`
	Holder     string          `json:"holder,omitempty"`
	Drop       bool            `json:"drop,omitempty"`
}

func newRecovery() *recovery {
	r := &recovery{changed: make(chan struct{})}
	r.clear()
	return r
}

func (r *recovery) clear() {
	r.state, r.written, r.quiet = store.RestoreState{Phase: store.PhaseOpen}, 0, 0
	r.awaited, r.conflicts = map[string]store.AwaitedNode{}, map[string]conflict{}
}

// Reset implements store.Follower.
func (r *recovery) Reset(uint64, int64) error {
	r.loading = nil
	return nil
}

// Load implements store.Follower.
func (r *recovery) Load(entries []store.Entry) error {
	for _, e := range entries {
		if e.Key.Space() == store.SpaceRestore {
			r.loading = append(r.loading, e)
		}
	}
	return nil
}

// Loaded implements store.Follower.
func (r *recovery) Loaded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
	err := r.apply(r.loading)
	r.loading = nil
	r.announce()
	return err
}

// Apply implements store.Follower.
func (r *recovery) Apply(_ int64, changes []store.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.apply(changes)
	if len(changes) > 0 {
		r.announce()
	}
	return err
}

func (r *recovery) announce() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recovery) apply(entries []store.Entry) error {
	for _, e := range entries {
		if e.Key.Space() != store.SpaceRestore {
			continue
		}
		if err := r.note(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) note(e store.Entry) (err error) {
	node, vmi := e.Key.ParseRestore()
	switch {
	case e.Key == store.RestoreStateKey:
		r.state, err = store.ReadRestoreState(e.Value)
		r.written = e.Modified
	case e.Key == store.RestoreQuietKey:
		r.quiet = e.Lease
		if e.Deleted {
			r.quiet = 0
		}
	case node != "" && e.Deleted:
		delete(r.awaited, node)
	case node != "":
		var n store.AwaitedNode
		if json.Unmarshal(e.Value, &n) != nil {
			n = store.AwaitedNode{} // the key says that the node is awaited
		}
		r.awaited[node] = n
	case vmi != "" && e.Deleted:
		delete(r.conflicts, vmi)
	case vmi != "":
		found, unreadable := readConflict(e.Value)
		if unreadable != nil {
			found = conflict{attachment: &configv1.Attachment{InterfaceId: vmi}, reason: fmt.Sprintf("its record in the store cannot be read: %v", unreadable)}
		}
		r.conflicts[vmi] = found
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Key, err)
	}
	return nil
}

func readConflict(value []byte) (conflict, error) {
	var v conflictValue
	if err := json.Unmarshal(value, &v); err != nil {
		return conflict{}, err
	}
	c := conflict{attachment: &configv1.Attachment{}, reason: v.Reason, holder: v.Holder, drop: v.Drop}
	return c, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(v.Attachment, c.attachment)
}

func (c conflict) encode() ([]byte, error) {
	attachment, err := protojson.Marshal(c.attachment)
	if err != nil {
		return nil, fmt.Errorf("encode conflict: %w", err)
	}
	return json.Marshal(conflictValue{Attachment: attachment, Reason: c.reason, Holder: c.holder, Drop: c.drop})
}

func (c conflict) proto() *configv1.Conflict {
	return &configv1.Conflict{Attachment: c.attachment, Reason: c.reason, Holder: c.holder, Dropped: c.drop}
}

// settling tells whether nothing may be allocated and deleted.
func (r *recovery) settling() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Settling()
}

// awaitedNode tells whether a node has to report.
func (r *recovery) awaitedNode(node string) (store.AwaitedNode, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.awaited[node]
	return n, ok
}

// awaitedNamed finds a node that has to report by UUID or name.
func (r *recovery) awaitedNamed(name string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.awaited[strings.ToLower(name)]; ok {
		return strings.ToLower(name), true
	}
	for id, n := range r.awaited {
		if n.Name == name {
			return id, true
		}
	}
	return "", false
}

// othersToReport tells whether a node other than this one has not reported yet.
func (r *recovery) othersToReport(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range r.awaited {
		if id != node && !n.Reported {
			return true
		}
	}
	return false
}

func (r *recovery) conflictOf(vmi string) (conflict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.conflicts[vmi]
	return c, ok
}

// conflictsOf returns the conflicts of a node, or of all, by interface.
func (r *recovery) conflictsOf(node string) map[string]conflict {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string]conflict{}
	for vmi, c := range r.conflicts {
		if node == "" || c.attachment.GetKey().GetNode() == node {
			found[vmi] = c
		}
	}
	return found
}

// why names what is waited for.
func (r *recovery) why() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Phase == store.PhaseRestoring {
		return "`contrail db restore` is at work, or was interrupted and has to be run again"
	}
	var names []string
	for id, n := range r.awaited {
		if n.Name == "" {
			n.Name = id
		}
		names = append(names, n.Name)
	}
	slices.Sort(names)
	const shown = 10
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	switch {
	case len(names) > 0:
		return "it waits for the nodes to report what they run: " + strings.Join(names, ", ") + more
	case r.quiet != 0:
		return "addresses that were in use before may still have connections"
	}
	return "it is about to open"
}

// closedError is the answer to a request that has to wait for the nodes.
func (a *API) closedError() error {
	return &refusal{
		status: http.StatusServiceUnavailable, code: connect.CodeUnavailable, settling: true,
		text: "the store was restored from a backup, and until it is open nothing is allocated and nothing is deleted; " + a.recovery.why() +
			"; see `contrail db restore --status`",
	}
}

// mayChange refuses what has to wait for the nodes.
func (c *change) mayChange() error {
	if c.settles || c.Takes() == "" && c.Frees() == "" || !c.api.recovery.settling() {
		return nil
	}
	return c.api.closedError()
}

// SettlingHeader is set on errors of requests that have to wait for the nodes.
const SettlingHeader = "Contrail-Settling"

// settlingEpoch is asked when a transaction met another epoch: it fails when a
// restore is at work, which may take long.
func (a *API) settlingEpoch(ctx context.Context) error {
	state, _, err := a.store.RestoreState(ctx)
	if err == nil && state.Phase == store.PhaseRestoring {
		return &refusal{
			status: http.StatusServiceUnavailable, code: connect.CodeUnavailable, settling: true,
			text: "the store is being restored from a backup; try again when `contrail db restore` has ended, and run that again if it was interrupted",
		}
	}
	return err
}

// reopenPause is the pause after a failure to open the store: no change of the
// store may come that would be a reason to look again.
const reopenPause = time.Second

// runRecovery opens the store when nothing is waited for any more, and makes
// the initial objects that had to wait for that.
func (a *API) runRecovery(ctx context.Context) {
	complete := true
	for {
		a.recovery.mu.Lock()
		settling, changed := a.recovery.state.Settling(), a.recovery.changed
		done := settling && len(a.recovery.awaited) == 0 && a.recovery.quiet == 0
		a.recovery.mu.Unlock()
		var err error
		switch {
		case done:
			err = a.open(ctx)
		case settling:
			complete = false
		case !complete:
			if err = a.initialise(ctx); err == nil {
				complete = true
				a.log.Info("the store is open again after a restore")
			}
		}
		var again <-chan time.Time
		if err != nil && ctx.Err() == nil {
			a.log.Warn("cannot open the store after a restore; trying again", "error", err)
			again = time.After(reopenPause)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// open ends the waiting.
func (a *API) open(ctx context.Context) error {
	ctx = serve.WithCaller(ctx, serve.Caller{Identity: ctls.Identity{Role: ctls.RoleController}, Via: "itself"})
	_, err := a.write(ctx, audit{"open", "store"}, func(c *change) error {
		a.recovery.mu.Lock()
		state, written := a.recovery.state, a.recovery.written
		done := state.Phase == store.PhaseAwaiting && len(a.recovery.awaited) == 0 && a.recovery.quiet == 0
		a.recovery.mu.Unlock()
		if !done {
			return nil
		}
		state.Phase = store.PhaseOpen
		value, err := json.Marshal(state)
		if err != nil {
			return err
		}
		c.Guard(store.Guard{Condition: store.Unchanged, Key: store.RestoreStateKey, Revision: written})
		c.Guard(store.Guard{Condition: store.RangeEmpty, Key: store.AwaitedPrefix()})
		c.Guard(store.Guard{Condition: store.Absent, Key: store.RestoreQuietKey})
		c.Put(store.RestoreStateKey, value)
		return nil
	})
	return err
}

// recoveries implements the RPC service Recovery.
type recoveries struct{ api *API }

// Status implements the RPC.
func (s *recoveries) Status(ctx context.Context, _ *connect.Request[configv1.RecoveryStatusRequest]) (*connect.Response[configv1.RecoveryStatusResponse], error) {
	if err := mayAdminister(ctx); err != nil {
		return nil, rpcError(err)
	}
	out, err := s.api.recoveryStatus(ctx)
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(out), nil
}

var phases = map[store.Phase]configv1.RecoveryStatusResponse_Phase{
	store.PhaseOpen:      configv1.RecoveryStatusResponse_PHASE_OPEN,
	store.PhaseAwaiting:  configv1.RecoveryStatusResponse_PHASE_AWAITING,
	store.PhaseRestoring: configv1.RecoveryStatusResponse_PHASE_RESTORING,
}

func (a *API) recoveryStatus(ctx context.Context) (*configv1.RecoveryStatusResponse, error) {
	now, at, err := a.store.RestoreState(ctx)
	if err != nil {
		return nil, err
	}
	// While keys are replaced, followers keep what was before. Then they have to
	// load what is there, and "open" of before is not to be told meanwhile.
	if now.Phase != store.PhaseRestoring {
		if err := a.reachRestored(ctx, at); err != nil {
			return nil, err
		}
	}
	r := a.recovery
	r.mu.Lock()
	state, quiet := r.state, r.quiet
	awaited := maps.Clone(r.awaited)
	r.mu.Unlock()
	if now.Phase == store.PhaseRestoring {
		state = now
	}
	out := &configv1.RecoveryStatusResponse{Phase: phases[state.Phase], Position: protoPosition(a.graph.Position())}
	if !state.Began.IsZero() {
		const layout = "2006-01-02T15:04:05Z07:00"
		out.RestoredAt, out.DumpedAt = state.Began.Format(layout), state.Dumped.Format(layout)
	}
	for _, id := range slices.Sorted(maps.Keys(awaited)) {
		_, joined := a.nodeRecord(id)
		out.Awaited = append(out.Awaited, &configv1.AwaitedNode{Node: id, Name: awaited[id].Name, Joined: joined, Reported: awaited[id].Reported})
	}
	if quiet != 0 {
		if out.SecondsLeft, err = a.store.SecondsLeft(ctx, quiet); err != nil {
			return nil, err
		}
	}
	conflicts := r.conflictsOf("")
	for _, vmi := range slices.Sorted(maps.Keys(conflicts)) {
		out.Conflicts = append(out.Conflicts, conflicts[vmi].proto())
	}
	return out, nil
}

// reachRestored waits until the graph shows what the store has at a position,
// which after a restore is to load all of it.
func (a *API) reachRestored(ctx context.Context, at model.Position) error {
	ctx, cancel := context.WithTimeout(ctx, a.readWait)
	defer cancel()
	if err := a.reach(ctx, at.Epoch, int64(at.Revision)); err != nil {
		return refuse(http.StatusServiceUnavailable, connect.CodeUnavailable, "the restored store is being loaded; ask again (%v)", err)
	}
	return nil
}

// Forget implements the RPC.
func (s *recoveries) Forget(ctx context.Context, r *connect.Request[configv1.ForgetRequest]) (*connect.Response[configv1.ForgetResponse], error) {
	if err := mayAdminister(ctx); err != nil {
		return nil, rpcError(err)
	}
	detached, at, err := s.api.removeNode(ctx, r.Msg.GetNode())
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&configv1.ForgetResponse{Detached: detached, Position: protoPosition(at)}), nil
}

// forgetNode ends the waiting for a node, and what it has in conflict.
func (c *change) forgetNode(node string) {
	if _, ok := c.api.recovery.awaitedNode(node); ok {
		c.Delete(store.AwaitedKey(node))
	}
	for vmi := range c.api.recovery.conflictsOf(node) {
		c.Delete(store.ConflictKey(vmi))
	}
}

// Resolve implements the RPC.
func (s *recoveries) Resolve(ctx context.Context, r *connect.Request[configv1.ResolveRequest]) (*connect.Response[configv1.ResolveResponse], error) {
	if err := mayAdminister(ctx); err != nil {
		return nil, rpcError(err)
	}
	vmi := strings.ToLower(r.Msg.GetInterface())
	var err error
	at := s.api.graph.Position()
	switch r.Msg.GetKeep() {
	case configv1.ResolveRequest_KEEP_STORED:
		at, err = s.api.write(ctx, audit{"resolve conflict against", vmi}, func(c *change) error { return c.dropConflict(vmi) })
	case configv1.ResolveRequest_KEEP_RUNNING:
		err = s.api.evictHolder(ctx, vmi)
	default:
		err = invalid("keep is %d: say which side of the conflict stays, the running or the stored one", r.Msg.GetKeep())
	}
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&configv1.ResolveResponse{Position: protoPosition(at)}), nil
}

func noConflict(vmi string) error {
	return missing("interface %q is not in conflict; `contrail db restore --status` lists those that are", brief(vmi))
}

// dropConflict decides against what runs.
func (c *change) dropConflict(vmi string) error {
	found, ok := c.api.recovery.conflictOf(vmi)
	if !ok {
		return noConflict(vmi)
	}
	if found.drop {
		return nil
	}
	found.drop = true
	value, err := found.encode()
	if err != nil {
		return err
	}
	c.Guard(store.Guard{Condition: store.Present, Key: store.ConflictKey(vmi)})
	c.Put(store.ConflictKey(vmi), value)
	return nil
}
