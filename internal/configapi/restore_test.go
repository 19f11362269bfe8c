package configapi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/backup"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// saved dumps the bench's store into memory.
func (b *bench) saved() []byte {
	b.Helper()
	var out bytes.Buffer
	if _, err := backup.Dump(b.ctx(), b.store, &out, "test"); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// restored replaces the bench's store by a dump, and waits until its API shows it.
func (b *bench) restored(dump []byte) backup.Result {
	b.Helper()
	result := b.restore(dump)
	b.eventually("the graph shows the new epoch", func() bool { return b.api.graph.Position().Epoch == result.Epoch })
	return result
}

// restore replaces the bench's store by a dump.
func (b *bench) restore(dump []byte) backup.Result {
	b.Helper()
	result, err := backup.Restore(b.ctx(), b.store, bytes.NewReader(dump), backup.Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	return result
}

func (b *bench) eventually(what string, f func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("not in time: %s", what)
		}
	}
}

// agent is a node's vRouter agent as the store sees it: it knows what it runs.
type agent struct {
	*bench
	id      string
	running map[string]*configv1.Attachment // by container
}

func (b *bench) agent(n int) *agent {
	return &agent{b, b.join(n), map[string]*configv1.Attachment{}}
}

func (a *agent) start(network string) *configv1.Attachment {
	a.Helper()
	at := a.attach(request(a.id, containerID(), network))
	a.running[at.Key.ContainerId] = at
	return at
}

func (a *agent) stop(container string) {
	a.Helper()
	if !a.detach(a.running[container].Key) {
		a.Fatalf("container %s was not attached", container)
	}
	delete(a.running, container)
}

// settle reports what runs, as an agent does that has seen the present epoch.
func (a *agent) settle() *configv1.SettleResponse {
	a.Helper()
	out, err := a.api.settle(a.ctx(), a.report())
	if err != nil {
		a.Fatalf("settle: %v", err)
	}
	return out
}

func (a *agent) report() *configv1.SettleRequest {
	r := &configv1.SettleRequest{Node: a.id, BootId: "boot", Seen: protoPosition(a.api.graph.Position())}
	for _, at := range a.running {
		r.Running = append(r.Running, &configv1.Running{Attachment: proto.CloneOf(at)})
		r.Live = append(r.Live, at.Key)
	}
	return r
}

// rest makes a classic request.
func (b *bench) rest(method, path, body string) (int, string) {
	b.Helper()
	status, text, _ := b.call(method, path, body)
	return status, text
}

func (b *bench) phase() configv1.RecoveryStatusResponse_Phase {
	b.Helper()
	out, err := b.api.recoveryStatus(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	return out.Phase
}

func (b *bench) open() {
	b.Helper()
	b.eventually("the store is open", func() bool { return !b.api.recovery.settling() })
}

// A backup, 500 attachments and detachments on three nodes, the restore: what
// runs keeps everything, what does not is gone, and no address of before is
// given to another.
func TestRestoreAfter500Changes(t *testing.T) {
	b := newBench(t, testConfig())
	agents := []*agent{b.agent(1), b.agent(2), b.agent(3)}
	networks := []string{"blue", "red", ""}
	used := map[string]string{} // every address and label ever given, by interface
	note := func(at *configv1.Attachment) {
		for _, thing := range []string{fmt.Sprint(at.NetworkFqName, at.Addresses[0].Address), fmt.Sprint(at.Key.Node, at.Label)} {
			if owner, ok := used[thing]; ok && owner != at.InterfaceId {
				t.Fatalf("%s was given to %s and then to %s", thing, owner, at.InterfaceId)
			}
			used[thing] = at.InterfaceId
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	step := func() {
		a := agents[random.IntN(len(agents))]
		if random.IntN(2) == 0 {
			for container := range a.running {
				a.stop(container)
				return
			}
		}
		note(a.start(networks[random.IntN(len(networks))]))
	}
	for range 100 {
		step()
	}
	dump := b.saved()
	for range 500 {
		step()
	}
	note(agents[0].start("made-after-the-backup"))

	result := b.restored(dump)
	if len(result.Awaited) != len(agents) {
		t.Errorf("awaited are %v, want %d nodes", result.Awaited, len(agents))
	}
	for i, a := range agents {
		if phase := b.phase(); phase != configv1.RecoveryStatusResponse_PHASE_AWAITING {
			t.Fatalf("phase is %s before node %d has reported", phase, i+1)
		}
		_, err := b.api.attach(b.ctx(), request(a.id, containerID(), "blue"))
		if code(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), fmt.Sprintf("node-%d", i+1)) {
			t.Fatalf("attach before node %d has reported: %v; want unavailable, naming it", i+1, err)
		}
		a.settle()
	}
	// Conflicts that other nodes' reports have solved go with the next report.
	for _, a := range agents {
		for again := a.settle(); again.Awaited || len(again.Conflicts) > 0; again = a.settle() {
			if len(again.Conflicts) > 0 && !again.Awaited {
				t.Fatalf("conflicts are left: %v", again.Conflicts)
			}
		}
	}
	b.open()
	listed, err := b.api.list(b.ctx(), &configv1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, at := range listed.Attachments {
		var want *configv1.Attachment
		for _, a := range agents {
			if a.id == at.Key.Node {
				want = a.running[at.Key.ContainerId]
			}
		}
		if want == nil {
			t.Errorf("%s is attached and does not run", at.Key.ContainerId)
			continue
		}
		count++
		now, before := proto.CloneOf(at), proto.CloneOf(want)
		now.Revision, before.Revision = 0, 0
		if !proto.Equal(now, before) {
			t.Errorf("after the restore: %v\nbefore:            %v", now, before)
		}
	}
	if want := len(agents[0].running) + len(agents[1].running) + len(agents[2].running); count != want {
		t.Errorf("%d attachments, want %d", count, want)
	}
	b.fits()
	for range 200 {
		note(agents[random.IntN(3)].start(networks[random.IntN(len(networks))]))
	}
	for _, a := range agents {
		for container := range a.running {
			a.stop(container)
		}
	}
}

// While nodes are awaited, what neither allocates nor deletes goes on.
func TestRestoredStoreIsClosedForAllocationAndDeletion(t *testing.T) {
	b := newBench(t, testConfig())
	one, two := b.agent(1), b.agent(2)
	at := one.start("blue")
	two.start("blue")
	project := b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	b.restored(b.saved())
	before := b.dump()

	closed := func(what string, err error) {
		t.Helper()
		if code(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "node-1, node-2") {
			t.Errorf("%s: %v; want unavailable, naming the nodes", what, err)
		}
	}
	_, err := b.api.attach(b.ctx(), request(one.id, containerID(), "blue"))
	closed("attach", err)
	_, err = b.api.detach(b.ctx(), &configv1.DetachRequest{Key: at.Key})
	closed("detach", err)
	_, err = b.api.detach(b.ctx(), &configv1.DetachRequest{Key: request(one.id, containerID(), "").Key})
	closed("detach of what is not there", err)
	if status, text := b.rest("POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "n"]}}`); status != 503 || !strings.Contains(text, "node-1, node-2") {
		t.Errorf("create a network: %d %s", status, text)
	}
	if status, text := b.rest("DELETE", "/project/"+project, ""); status != 503 || !strings.Contains(text, "node-1, node-2") {
		t.Errorf("delete a project: %d %s", status, text)
	}
	if diff := diffKeys(before, b.dump()); diff != "" {
		t.Errorf("refused requests changed something: %s", diff)
	}

	again, err := b.api.attach(b.ctx(), request(one.id, at.Key.ContainerId, "blue"))
	if err != nil || again.Attachment.InterfaceId != at.InterfaceId {
		t.Errorf("repeated attach: %v %v", again, err)
	}
	if status, text := b.rest("PUT", "/project/"+project, `{"project": {"display_name": "renamed"}}`); status != 200 {
		t.Errorf("update: %d %s", status, text)
	}
	if status, text := b.rest("GET", "/project/"+project, ""); status != 200 || !strings.Contains(text, "renamed") {
		t.Errorf("read: %d %s", status, text)
	}

	// One node reports, the other is gone for good.
	if out := one.settle(); out.Awaited || len(out.Released)+len(out.Adopted)+len(out.Conflicts) > 0 {
		t.Errorf("report of what is known: %v", out)
	}
	if _, err := (&recoveries{b.api}).Forget(b.ctx(), connect.NewRequest(&configv1.ForgetRequest{Node: "node-2"})); err != nil {
		t.Fatal(err)
	}
	b.open()
	if status, text := b.rest("DELETE", "/project/"+project, ""); status != 200 {
		t.Errorf("delete when open: %d %s", status, text)
	}
	if _, err := b.api.attach(b.ctx(), request(one.id, containerID(), "blue")); err != nil {
		t.Errorf("attach when open: %v", err)
	}
}

// Whoever asks as soon as the command has ended is not told of the store before.
func TestStatusIsOfTheRestoredStore(t *testing.T) {
	b := newBench(t, testConfig())
	b.agent(1).start("blue")
	dump := b.saved()
	for range 5 {
		result := b.restore(dump)
		out, err := b.api.recoveryStatus(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if out.Position.GetEpoch() != result.Epoch || out.Phase != configv1.RecoveryStatusResponse_PHASE_AWAITING || len(out.Awaited) != 1 {
			t.Errorf("after the restore to epoch %d: %v", result.Epoch, out)
		}
	}
}

// A report made before the node saw the restore says nothing about what
// happened in between.
func TestReportOfAnEarlierEpochIsNotJudged(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	a.start("blue")
	b.restored(b.saved())
	early := &configv1.SettleRequest{Node: a.id, BootId: "boot", Seen: protoPosition(model.Position{Epoch: 1, Revision: 1})}
	out, err := b.api.settle(b.ctx(), early)
	if err != nil || !out.Awaited || len(out.Released) > 0 {
		t.Fatalf("report of the earlier epoch: %v %v; want to be asked again", out, err)
	}
	// An ADD in progress keeps the node awaited.
	r := a.report()
	r.Adding = []*configv1.AttachmentKey{request(a.id, containerID(), "").Key}
	if out, err = b.api.settle(b.ctx(), r); err != nil || !out.Awaited {
		t.Fatalf("report with an ADD in progress: %v %v; want to be asked again", out, err)
	}
	if out = a.settle(); out.Awaited || len(out.Released) > 0 {
		t.Fatalf("report: %v", out)
	}
	b.open()
}

// A node that has followed a store which is lost takes nothing for newer than
// what it saw there: the restored one goes beyond.
func TestRestoreGoesBeyondALostEpoch(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	at := a.start("blue")
	b.restored(b.saved())
	r := a.report()
	r.Seen = protoPosition(model.Position{Epoch: 7, Revision: 1 << 40})
	out, err := b.api.settle(b.ctx(), r)
	if err != nil || !out.Awaited {
		t.Fatalf("report from the future: %v %v; want to be asked again", out, err)
	}
	b.eventually("the store is beyond the lost epoch", func() bool { return b.api.graph.Position().Epoch == 8 })
	a.settle()
	b.open()
	if listed, err := b.api.list(b.ctx(), &configv1.ListRequest{}); err != nil || len(listed.Attachments) != 1 || listed.Attachments[0].InterfaceId != at.InterfaceId {
		t.Errorf("attachments: %v %v", listed, err)
	}
}

// What cannot be adopted stays in sight until an operator has decided.
func TestConflicts(t *testing.T) {
	for _, keep := range []configv1.ResolveRequest_Keep{configv1.ResolveRequest_KEEP_RUNNING, configv1.ResolveRequest_KEEP_STORED} {
		t.Run(keep.String(), func(t *testing.T) {
			b := newBench(t, testConfig())
			one, two := b.agent(1), b.agent(2)
			stored := one.start("blue")
			dump := b.saved()
			b.restored(dump)
			// The other node runs something with the same address.
			running := proto.CloneOf(stored)
			running.Key = request(two.id, containerID(), "").Key
			running.InterfaceId, running.VirtualMachineId, running.Addresses[0].InstanceIpId = model.NewUUID(), running.Key.ContainerId, model.NewUUID()
			two.running[running.Key.ContainerId] = running
			if out := two.settle(); len(out.Conflicts) != 1 || !out.Awaited {
				t.Fatalf("report of the second: %v; want a conflict, and to wait for the first", out)
			}
			one.settle()
			if out := two.settle(); len(out.Conflicts) != 1 || out.Awaited || len(out.Drop) > 0 {
				t.Fatalf("report of the second, after the first: %v; want a conflict", out)
			}
			b.open()
			status, err := b.api.recoveryStatus(b.ctx())
			if err != nil || len(status.Conflicts) != 1 || !strings.Contains(status.Conflicts[0].Reason, stored.Addresses[0].Address) {
				t.Fatalf("status: %v %v; want the conflict, naming the address", status, err)
			}
			if _, err := (&recoveries{b.api}).Resolve(b.ctx(), connect.NewRequest(&configv1.ResolveRequest{Interface: running.InterfaceId, Keep: keep})); err != nil {
				t.Fatal(err)
			}
			out := two.settle()
			listed, err := b.api.list(b.ctx(), &configv1.ListRequest{})
			if err != nil || len(listed.Attachments) != 1 {
				t.Fatalf("attachments: %v %v; want 1", listed, err)
			}
			got := listed.Attachments[0]
			if keep == configv1.ResolveRequest_KEEP_RUNNING {
				if got.InterfaceId != running.InterfaceId || len(out.Adopted) != 1 || got.Addresses[0].InstanceIpId != running.Addresses[0].InstanceIpId {
					t.Errorf("attached is %v, want what runs: %v", got, out)
				}
			} else {
				if got.InterfaceId != stored.InterfaceId || len(out.Drop) != 1 || out.Drop[0] != running.InterfaceId {
					t.Errorf("attached is %v, want what is stored, and the other dropped: %v", got, out)
				}
				delete(two.running, running.Key.ContainerId)
				two.settle()
			}
			if left := b.api.recovery.conflictsOf(""); len(left) != 0 {
				t.Errorf("conflicts are left: %v", left)
			}
		})
	}
}

// What is in the way of something that runs is named, whatever it is.
func TestConflictReasons(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	other := a.start("blue")
	for name, c := range map[string]struct {
		change func(*configv1.Attachment)
		says   string
	}{
		"label":             {func(at *configv1.Attachment) { at.Label = other.Label; at.Addresses[0].Address = "10.32.9.9" }, "label"},
		"address":           {func(*configv1.Attachment) {}, "address"},
		"number":            {func(at *configv1.Attachment) { at.Vrf = 4711 }, "runs with 4711"},
		"network renamed":   {func(at *configv1.Attachment) { at.NetworkFqName = []string{"default-domain", "mesos-default", "green"} }, "is called"},
		"network made anew": {func(at *configv1.Attachment) { at.NetworkId = model.NewUUID() }, "exists with the UUID"},
		"number of another": {func(at *configv1.Attachment) {
			at.NetworkId, at.NetworkFqName = model.NewUUID(), []string{"default-domain", "mesos-default", "green"}
		}, "number"},
		"domain": {func(at *configv1.Attachment) {
			at.NetworkId, at.NetworkFqName, at.Vrf = model.NewUUID(), []string{"nowhere", "p", "n"}, 4712
		}, "domain nowhere"},
		"no network": {func(at *configv1.Attachment) { at.NetworkId = "" }, "no network"},
		"no address": {func(at *configv1.Attachment) { at.Addresses = nil }, "no address"},
		"no label":   {func(at *configv1.Attachment) { at.Label = 3 }, "label 3"},
		"no MAC":     {func(at *configv1.Attachment) { at.Mac = "x" }, "MAC"},
		"overlap": {func(at *configv1.Attachment) {
			at.Addresses[0].Address, at.Addresses[0].PrefixLength = "10.32.255.9", 8
		}, "overlaps"},
	} {
		t.Run(name, func(t *testing.T) {
			b.TB = t
			at := proto.CloneOf(other)
			at.Key.ContainerId = containerID()
			at.InterfaceId, at.VirtualMachineId, at.Label = model.NewUUID(), at.Key.ContainerId, 5000
			c.change(at)
			before := b.dump()
			found, _, err := b.api.settleOne(b.ctx(), a.id, &configv1.Running{Attachment: at})
			if err != nil || found == nil || !strings.Contains(found.reason, c.says) {
				t.Fatalf("conflict: %v %v, want one that says %q", found, err, c.says)
			}
			after := b.dump()
			delete(after, store.ConflictKey(at.InterfaceId))
			if diff := diffKeys(before, after); diff != "" {
				t.Errorf("a conflict changed something: %s", diff)
			}
		})
	}
}

// Networks with their projects that the backup does not know come back with
// what runs in them, and go with it.
func TestAdoptionMakesNetworksAgain(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	dump, before := b.saved(), b.dump()
	for range 20 {
		r := request(a.id, containerID(), "late")
		r.Network.Project, r.Network.Subnets = "late-project", []string{"10.99.0.0/24", "fd00:99::/64"}
		at := b.attach(r)
		a.running[at.Key.ContainerId] = at
	}
	with := b.dump()
	b.restored(dump)
	if out := a.settle(); len(out.Adopted) != 20 || len(out.Conflicts) > 0 || out.Awaited {
		t.Fatalf("report: %v", out)
	}
	b.open()
	now := b.dump()
	for k := range with {
		if _, ok := now[k]; !ok && k.Space() != store.SpaceRef && k.Space() != store.SpaceName && k.Space() != store.SpaceObject && k.Space() != store.SpaceChild && k.Space() != store.SpaceOwned {
			t.Errorf("%s did not come back", k)
		}
	}
	for container := range a.running {
		a.stop(container)
	}
	left := b.dump()
	for _, k := range []store.Key{store.EpochKey, store.RestoreStateKey} {
		delete(left, k)
		delete(before, k)
	}
	if diff := diffKeys(before, left); diff != "" {
		t.Errorf("left behind: %s", diff)
	}
}

// Requests that were decided in the old epoch do not happen in the new one.
func TestNobodyWritesDuringARestore(t *testing.T) {
	b := newBench(t, testConfig())
	a := b.agent(1)
	a.start("blue")
	dump := b.saved()
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			ctx, cancel := context.WithTimeout(b.ctx(), time.Minute)
			_, err := b.api.attach(ctx, request(a.id, containerID(), "busy"))
			cancel()
			if err != nil && code(err) != connect.CodeUnavailable {
				done <- err
				return
			}
		}
	}()
	for range 5 {
		b.restored(dump)
		if listed, err := b.api.list(b.ctx(), &configv1.ListRequest{}); err != nil || len(listed.Attachments) != 1 {
			t.Fatalf("after a restore: %v %v, want the one attachment of the dump", listed, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func diffKeys(before, after map[store.Key]string) string {
	var lines []string
	for k, v := range before {
		if now, ok := after[k]; !ok {
			lines = append(lines, "- "+string(k))
		} else if now != v {
			lines = append(lines, "~ "+string(k)+" "+v+" -> "+now)
		}
	}
	for k := range after {
		if _, ok := before[k]; !ok {
			lines = append(lines, "+ "+string(k))
		}
	}
	return strings.Join(lines, "\n")
}
