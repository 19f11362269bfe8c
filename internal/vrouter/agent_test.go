package vrouter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
)

func TestDetachEndsAnAdd(t *testing.T) {
	g := newRegistry()
	k := attachKey{"c", "eth0"}
	ctx, end, err := g.begin(t.Context(), k, &configv1.AttachmentKey{ContainerId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if len(g.say("node", 1).adding) != 1 {
		t.Error("an ADD in progress is not reported as live")
	}
	if _, free := g.tryBegin(k); free {
		t.Error("background work began beside an ADD")
	}
	ended := make(chan error, 1)
	go func() {
		_, end, err := g.begin(t.Context(), k, nil)
		if err == nil {
			end()
		}
		ended <- err
	}()
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errPreempted) {
		t.Errorf("the ADD ended because of %v", context.Cause(ctx))
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(g.say("node", 1).live) != 0 {
		t.Error("something is live after all ended")
	}
}

func TestOneOperationPerInterface(t *testing.T) {
	g := newRegistry()
	k := attachKey{"c", "eth0"}
	inside := 0
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			_, end, err := g.begin(t.Context(), k, nil)
			if err != nil {
				t.Error(err)
				return
			}
			inside++ // the race detector looks at it
			end()
		})
	}
	wait.Wait()
	if inside != 50 {
		t.Errorf("%d operations, want 50", inside)
	}
	_, end, err := g.begin(t.Context(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := g.begin(ctx, k, nil); err == nil {
		t.Error("an operation began although its caller has gone")
	}
}

func TestQueueSurvivesAndIsSentOnce(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var sent []string
	refuse := true
	send := func(_ context.Context, r portapi.DetachRequest) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			return connect.NewError(connect.CodeUnavailable, errors.New("away"))
		}
		sent = append(sent, r.ContainerID)
		return nil
	}
	q := newDetachQueue(quiet(), dir, "boot", send)
	r, err := q.add(portapi.DetachRequest{ContainerID: "c", Interface: "eth0", Namespace: "4:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.settle(t.Context(), r); err == nil {
		t.Error("a release was confirmed by a manager that is away")
	}
	// What cannot be read does not stop the others.
	if err := os.WriteFile(filepath.Join(dir, "bad.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse = false
	again := newDetachQueue(quiet(), dir, "boot", send)
	if err := again.settleKey(t.Context(), attachKey{"other", "eth0"}); err != nil || len(sent) != 0 {
		t.Errorf("%v sent for another interface (%v)", sent, err)
	}
	if err := again.settleKey(t.Context(), attachKey{"c", "eth0"}); err != nil || len(sent) != 1 {
		t.Errorf("sent %v (%v), want c", sent, err)
	}
	// Another that had read the file before does not send it again.
	if err := again.settle(t.Context(), r); err != nil || len(sent) != 1 {
		t.Errorf("sent %v (%v) after it was confirmed", sent, err)
	}
	if left := again.pending(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestQueueWaitsForItsTurn(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	q := newDetachQueue(quiet(), t.TempDir(), "boot", func(context.Context, portapi.DetachRequest) error {
		close(inside)
		<-release
		return nil
	})
	r, err := q.add(portapi.DetachRequest{ContainerID: "c", Interface: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- q.settle(t.Context(), r) }()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.settle(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a DEL whose time is up waits on: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPortFiles(t *testing.T) {
	f := portFiles{filepath.Join(t.TempDir(), "ports")}
	if records, err := f.load(); err != nil || len(records) != 0 {
		t.Fatalf("empty: %v, %v", records, err)
	}
	want := &record{
		ID: "i", ContainerID: "c", Interface: "eth0", HostInterface: "tap0", HostIndex: 7, VRF: 1, Label: 17,
		MAC: "02:00:00:00:00:01", Addresses: []portapi.Address{{Address: "10.0.0.3", PrefixLength: 20}}, Revision: 9,
	}
	if err := f.write(want); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bad.json": "{", "other.json": `{"id":"x"}`, ".new-1": "{", "README": "x"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, err := f.load()
	if len(records) != 1 || fmt.Sprintf("%+v", records[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("loaded %+v, want %+v", records, want)
	}
	if err == nil || !strings.Contains(err.Error(), "bad.json") || !strings.Contains(err.Error(), "other.json") {
		t.Errorf("error %v, want both bad files", err)
	}
	if err := errors.Join(f.remove("i"), f.remove("i")); err != nil {
		t.Errorf("remove twice: %v", err)
	}
}

func TestManagerErrorsAreExplained(t *testing.T) {
	m := &manager{address: "192.0.2.1:6991"}
	for _, tt := range []struct {
		err        error
		kind, text string
		reached    bool
	}{
		{connect.NewError(connect.CodeInvalidArgument, errors.New("label x")), portapi.KindInvalid, "label x", false},
		{connect.NewError(connect.CodeAlreadyExists, errors.New("tombstone")), portapi.KindConflict, "tombstone", false},
		{connect.NewError(connect.CodeResourceExhausted, errors.New("no address")), portapi.KindExhausted, "no address", false},
		{connect.NewError(connect.CodeUnavailable, errors.New("refused")), portapi.KindUnavailable, "192.0.2.1:6991", true},
		{connect.NewError(connect.CodeDeadlineExceeded, errors.New("late")), portapi.KindUnavailable, "192.0.2.1:6991", true},
		{connect.NewError(connect.CodeInternal, errors.New("broken")), portapi.KindInternal, "broken", true},
	} {
		var got *portapi.Error
		if !errors.As(m.explain(tt.err), &got) || got.Kind != tt.kind || !strings.Contains(got.Message, tt.text) {
			t.Errorf("%v is explained as %+v", tt.err, got)
		}
		if reached(tt.err) != tt.reached {
			t.Errorf("%v: may have had an effect: %v", tt.err, reached(tt.err))
		}
	}
}

func FuzzClassicBodies(f *testing.F) {
	const id = "05e50162-3dfc-4e4e-8c11-05e501623dfc"
	f.Add([]byte(`{"id":"` + id + `","instance-id":"` + id + `","vn-id":"` + id + `","mac-address":"02:00:00:00:00:01","system-name":"tap0","ip-address":"10.0.0.1","type":0}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"type":2}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ports, err := parsePorts(body)
		if err != nil {
			return
		}
		for _, p := range ports {
			if !classicID.MatchString(p.ID) || p.SystemName == "" {
				t.Errorf("accepted %+v", p)
			}
		}
	})
}
