//go:build net

package controllers_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// rest is how long an address rests after its release; see Controller.Start.
const rest = 2 * time.Second

// given knows who has what the store gave out, and when it was last released.
type given struct {
	mu    sync.Mutex
	count int
	has   map[string]string // container by address or label
	freed map[string]time.Time
}

// things are what an attachment has that no other may have.
func things(at *configv1.Attachment) []string {
	out := []string{fmt.Sprintf("label %d of %s", at.Label, at.Key.Node)}
	for _, a := range at.Addresses {
		out = append(out, strings.Join(at.NetworkFqName, ":")+" "+a.Address)
	}
	return out
}

func (g *given) take(t *testing.T, at *configv1.Attachment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	for _, thing := range things(at) {
		if owner := g.has[thing]; owner != "" {
			t.Errorf("%s was given to %s while %s has it", thing, at.Key.ContainerId, owner)
		}
		if rested := time.Since(g.freed[thing]); rested < rest {
			t.Errorf("%s was given out %v after its release", thing, rested)
		}
		g.has[thing] = at.Key.ContainerId
	}
}

func (g *given) free(at *configv1.Attachment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, thing := range things(at) {
		delete(g.has, thing)
		g.freed[thing] = time.Now()
	}
}

func (g *given) total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// api are the RPCs of one controller.
type api struct {
	configv1connect.AttachmentsClient
	nodes    configv1connect.NodesClient
	recovery configv1connect.RecoveryClient
}

func apisOf(t *testing.T, set *controllers.Set) []api {
	var all []api
	for _, m := range set.Members {
		client, base := m.Client()
		t.Cleanup(client.CloseIdleConnections)
		all = append(all, api{
			configv1connect.NewAttachmentsClient(client, base), configv1connect.NewNodesClient(client, base), configv1connect.NewRecoveryClient(client, base),
		})
	}
	return all
}

// agent does what a node's agent does towards the configuration API: it knows
// what runs, and says so when it is asked.
type agent struct {
	t        *testing.T
	id, name string
	apis     []api
	given    *given
	networks []string
	// silent has it do nothing at all.
	silent atomic.Bool
	// running are its containers, ending those that do not run and that the
	// store may have.
	running map[string]*configv1.Attachment
	ending  []*configv1.AttachmentKey
}

func newAgent(t *testing.T, apis []api, g *given, n int) *agent {
	t.Helper()
	a := &agent{
		t: t, id: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), name: fmt.Sprintf("node-%d", n), apis: apis, given: g,
		networks: []string{"blue", "red"}, running: map[string]*configv1.Attachment{},
	}
	if _, err := a.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

// any is a controller, each time another one.
func (a *agent) any() api { return a.apis[rand.IntN(len(a.apis))] }

func (a *agent) join(ctx context.Context) (awaited bool, err error) {
	out, err := a.any().nodes.Join(ctx, connect.NewRequest(&configv1.JoinRequest{
		Node: a.id, Name: a.name, Address: "172.31.0." + a.name[len("node-"):], FabricMtu: 1500, BootId: "boot",
	}))
	if err != nil {
		return false, err
	}
	return out.Msg.Awaited, nil
}

func (a *agent) request() *configv1.AttachRequest {
	network := a.networks[rand.IntN(len(a.networks))]
	return &configv1.AttachRequest{
		Key:     &configv1.AttachmentKey{Node: a.id, ContainerId: model.NewUUID(), Interface: "eth0", BootId: "boot", Namespace: "4:1"},
		Network: &configv1.NetworkRequest{Domain: "default-domain", Project: "agents", Network: network, CreateMissing: true},
	}
}

// start attaches a container. One that fails does not run.
func (a *agent) start(ctx context.Context) error {
	r := a.request()
	out, err := a.any().Attach(ctx, connect.NewRequest(r))
	if err != nil {
		a.ending = append(a.ending, r.Key)
		return err
	}
	a.given.take(a.t, out.Msg.Attachment)
	a.running[r.Key.ContainerId] = out.Msg.Attachment
	return nil
}

// stop ends a container: from then on it does not use what it has.
func (a *agent) stop(ctx context.Context) error {
	for id, at := range a.running {
		delete(a.running, id)
		a.given.free(at)
		a.ending = append(a.ending, at.Key)
		break
	}
	return a.end(ctx)
}

// end detaches what does not run any more.
func (a *agent) end(ctx context.Context) error {
	for len(a.ending) > 0 {
		if _, err := a.any().Detach(ctx, connect.NewRequest(&configv1.DetachRequest{Key: a.ending[0]})); err != nil {
			return err
		}
		a.ending = a.ending[1:]
	}
	return nil
}

// settle reports what runs, if it is asked for.
func (a *agent) settle(ctx context.Context) error {
	awaited, err := a.join(ctx)
	if err != nil || !awaited {
		return err
	}
	at := a.any()
	now, err := at.recovery.Status(ctx, connect.NewRequest(&configv1.RecoveryStatusRequest{}))
	if err != nil {
		return err
	}
	r := &configv1.SettleRequest{Node: a.id, BootId: "boot", Seen: now.Msg.Position}
	for _, is := range a.running {
		r.Running = append(r.Running, &configv1.Running{Attachment: is})
		r.Live = append(r.Live, is.Key)
	}
	out, err := at.recovery.Settle(ctx, connect.NewRequest(r))
	if err == nil && len(out.Msg.Conflicts) > 0 && !out.Msg.Awaited {
		a.t.Errorf("%s: conflicts after the restore: %v", a.name, out.Msg.Conflicts)
	}
	return err
}

// work starts and stops containers until it is to stop, and ends what is open.
// Whatever is refused must be so for want of a settled store.
func (a *agent) work(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			a.finish(ctx)
			return
		default:
		}
		if a.silent.Load() {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		var err error
		if len(a.running) > 15 || len(a.running) > 5 && rand.IntN(2) == 0 {
			err = a.stop(ctx)
		} else {
			err = a.start(ctx)
		}
		if err == nil {
			continue
		}
		if code := connect.CodeOf(err); code != connect.CodeUnavailable && code != connect.CodeAborted {
			a.t.Errorf("%s: %v", a.name, err)
			return
		}
		if err := a.settle(ctx); err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
			a.t.Errorf("%s reports: %v", a.name, err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (a *agent) finish(ctx context.Context) {
	deadline := time.Now().Add(time.Minute)
	for err := a.end(ctx); err != nil; err = a.end(ctx) {
		if time.Now().After(deadline) {
			a.t.Errorf("%s: cannot end what does not run: %v", a.name, err)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// sameAs compares what a controller shows of the node with what runs.
func (a *agent) sameAs(t *testing.T, m *controllers.Controller, shown []*configv1.Attachment) {
	t.Helper()
	left := maps.Clone(a.running)
	for _, at := range shown {
		if at.Key.Node != a.id {
			continue
		}
		is := left[at.Key.ContainerId]
		delete(left, at.Key.ContainerId)
		if is == nil {
			t.Errorf("%s shows container %s of %s, which does not run", m.Name, at.Key.ContainerId, a.name)
		} else if !slices.Equal(things(at), things(is)) || at.InterfaceId != is.InterfaceId || at.Mac != is.Mac {
			t.Errorf("%s shows %v, and what runs is %v", m.Name, at, is)
		}
	}
	for id := range left {
		t.Errorf("%s does not show container %s of %s, which runs", m.Name, id, a.name)
	}
}
