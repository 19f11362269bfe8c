package configapi

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Two controllers on one store, requests that are cut off in the middle, and
// any order of attaching and detaching: an address has one owner, rests are
// kept, and in the end nothing is left.
func TestAnySequence(t *testing.T) {
	if err := flag.Set("rapid.checks", "10"); err != nil {
		t.Fatal(err)
	}
	at := store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/any%d/", prefixCount.Add(1)), Shared: true}
	one, two := openBenchAt(t, at, testConfig()), openBenchAt(t, at, testConfig())
	nodes := []string{one.join(1), one.join(2)}
	before := one.dump()
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{
			t: rt, apis: []*API{one.api, two.api}, ctx: one.ctx(), nodes: nodes,
			live: map[string]*configv1.Attachment{}, unknown: map[string]*configv1.AttachRequest{}, used: map[string]string{}, clock: 1,
		}
		rt.Repeat(map[string]func(*rapid.T){
			"attach": m.attach, "again": m.again, "move": m.move, "detach": m.detach,
			"cut off attach": m.cutOffAttach, "cut off detach": m.cutOffDetach,
			"late attach": m.lateAttach, "late detach": m.lateDetach, "attach anew": m.attachAnew,
		})
		one.fits()
		for _, id := range slices.Sorted(maps.Keys(m.live)) {
			m.release(m.live[id].Key)
		}
		for _, id := range slices.Sorted(maps.Keys(m.unknown)) {
			m.release(m.unknown[id].Key)
		}
		if diff := cmp.Diff(before, one.dump()); diff != "" {
			rt.Fatalf("left behind (-before +after):\n%s", diff)
		}
		one.endRests()
	})
}

// machine is what we know of the cluster beside what it says.
type machine struct {
	t     *rapid.T
	apis  []*API
	ctx   context.Context
	nodes []string
	// live are the attachments that were answered, by container.
	live map[string]*configv1.Attachment
	// unknown are attachments that may exist: the request was cut off.
	unknown map[string]*configv1.AttachRequest
	gone    []*configv1.AttachRequest
	// used are all addresses and labels ever given, which all rest when they
	// are not in use.
	used  map[string]string
	count int
	// clock is the nodes' order of requests.
	clock uint64
}

// tick begins a request; 1 is before all of them.
func (m *machine) tick() uint64 {
	m.clock++
	return m.clock
}

func (m *machine) api() *API { return rapid.SampledFrom(m.apis).Draw(m.t, "controller") }

func (m *machine) request() *configv1.AttachRequest {
	m.count++
	r := request(rapid.SampledFrom(m.nodes).Draw(m.t, "node"), containerID(), rapid.SampledFrom([]string{"blue", "red", ""}).Draw(m.t, "network"))
	r.Network.Project = rapid.SampledFrom([]string{"", "other"}).Draw(m.t, "project")
	r.Sequence = m.tick()
	return r
}

func (m *machine) attach(*rapid.T) {
	r := m.request()
	a, err := m.api().attach(m.ctx, r)
	if err != nil {
		m.t.Fatalf("attach: %v", err)
	}
	m.took(a.Attachment)
}

func (m *machine) took(a *configv1.Attachment) {
	id := a.Key.ContainerId
	network := fmt.Sprint(a.NetworkFqName)
	for _, thing := range []string{network + a.Addresses[0].Address, fmt.Sprint(a.Key.Node, a.Label), a.Mac} {
		if owner, ok := m.used[thing]; ok && owner != id {
			m.t.Fatalf("%s was given to %s, and %s had it", thing, id, owner)
		}
		m.used[thing] = id
	}
	m.live[id] = a
}

func (m *machine) one() *configv1.Attachment {
	if len(m.live) == 0 {
		m.t.Skip("nothing is attached")
	}
	return m.live[rapid.SampledFrom(slices.Sorted(maps.Keys(m.live))).Draw(m.t, "container")]
}

func sameAgain(a *configv1.Attachment) *configv1.AttachRequest {
	return &configv1.AttachRequest{Key: a.Key, Sequence: 1, Network: &configv1.NetworkRequest{
		Domain: a.NetworkFqName[0], Project: a.NetworkFqName[1], Network: a.NetworkFqName[2], CreateMissing: true,
	}}
}

func (m *machine) again(*rapid.T) {
	a := m.one()
	r := sameAgain(a)
	r.Sequence = m.tick()
	got, err := m.api().attach(m.ctx, r)
	if err != nil || got.Attachment.InterfaceId != a.InterfaceId || got.Attachment.Label != a.Label {
		m.t.Fatalf("attach again: %v %v, want %v", got, err, a)
	}
}

func (m *machine) move(*rapid.T) {
	a := m.one()
	r := sameAgain(a)
	r.Sequence = m.tick()
	r.Key = &configv1.AttachmentKey{
		Node: a.Key.Node, ContainerId: a.Key.ContainerId, Interface: a.Key.Interface,
		BootId: a.Key.BootId, Namespace: fmt.Sprint("4:", m.count+100),
	}
	m.count++
	got, err := m.api().attach(m.ctx, r)
	if err != nil || got.Attachment.Addresses[0].Address != a.Addresses[0].Address {
		m.t.Fatalf("attach in a new namespace: %v %v, want %v", got, err, a)
	}
	m.live[a.Key.ContainerId] = got.Attachment
}

func (m *machine) detach(*rapid.T) {
	a := m.one()
	if !m.release(a.Key) {
		m.t.Fatalf("detach found nothing of %v", a)
	}
	delete(m.live, a.Key.ContainerId)
	m.gone = append(m.gone, sameAgain(a))
}

func (m *machine) release(k *configv1.AttachmentKey) bool {
	d, err := m.api().detach(m.ctx, &configv1.DetachRequest{Key: k, Sequence: m.tick()})
	if err != nil {
		m.t.Fatalf("detach: %v", err)
	}
	return d.Existed
}

// cutOff is a context that ends at some time during a request.
func (m *machine) cutOff() (context.Context, context.CancelFunc) {
	return context.WithTimeout(m.ctx, time.Duration(rapid.IntRange(0, 4000).Draw(m.t, "microseconds"))*time.Microsecond)
}

func (m *machine) cutOffAttach(*rapid.T) {
	r := m.request()
	ctx, cancel := m.cutOff()
	defer cancel()
	a, err := m.api().attach(ctx, r)
	if err == nil {
		m.took(a.Attachment)
		return
	}
	m.unknown[r.Key.ContainerId] = r
}

func (m *machine) cutOffDetach(*rapid.T) {
	a := m.one()
	ctx, cancel := m.cutOff()
	defer cancel()
	_, err := m.api().detach(ctx, &configv1.DetachRequest{Key: a.Key, Sequence: m.tick()})
	delete(m.live, a.Key.ContainerId)
	if err != nil {
		m.unknown[a.Key.ContainerId] = sameAgain(a)
		return
	}
	m.gone = append(m.gone, sameAgain(a))
}

// lateAttach is an attach that began before the detach that it comes after,
// or whose order is not known.
func (m *machine) lateAttach(*rapid.T) {
	r := proto.CloneOf(m.wasDetached())
	r.Sequence = rapid.Uint64Range(0, 1).Draw(m.t, "sequence")
	if _, err := m.api().attach(m.ctx, r); code(err) != connect.CodeAlreadyExists {
		m.t.Fatalf("late attach of %v: %v", r.Key, err)
	}
}

// lateDetach is a detach that began before the attach that it comes after: it
// takes nothing.
func (m *machine) lateDetach(*rapid.T) {
	a := m.one()
	k := proto.CloneOf(a.Key)
	if rapid.Bool().Draw(m.t, "any namespace") {
		k.Namespace = ""
	}
	d, err := m.api().detach(m.ctx, &configv1.DetachRequest{Key: k, Sequence: 1})
	if err != nil || d.Existed {
		m.t.Fatalf("late detach of %v: %v %v", a.Key, d, err)
	}
}

// attachAnew attaches in the same namespace what was detached there.
func (m *machine) attachAnew(*rapid.T) {
	r := proto.CloneOf(m.wasDetached())
	id := r.Key.ContainerId
	if m.live[id] != nil || m.unknown[id] != nil {
		m.t.Skip("it is attached anew already")
	}
	r.Sequence = m.tick()
	a, err := m.api().attach(m.ctx, r)
	if err != nil {
		m.t.Fatalf("attach anew of %v: %v", r.Key, err)
	}
	m.took(a.Attachment)
}

func (m *machine) wasDetached() *configv1.AttachRequest {
	if len(m.gone) == 0 {
		m.t.Skip("nothing was detached")
	}
	return rapid.SampledFrom(m.gone).Draw(m.t, "gone")
}
