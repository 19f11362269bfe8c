package configapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/store/linetest"
)

// A write whose answer is lost is answered by what became of it.
func TestWritesInDoubt(t *testing.T) {
	l := linetest.New(t, endpoint)
	prefix := fmt.Sprintf("/test%d/", prefixCount.Add(1))
	b := openBenchAt(t, store.Config{Endpoints: []string{l.Endpoint}, Prefix: prefix}, testConfig())
	witness, err := store.Open(t.Context(), quiet(), store.Config{Endpoints: []string{endpoint}, Prefix: prefix, Writer: "witness"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { witness.Close() })

	id := model.NewUUID()
	present := func() bool {
		entries, err := witness.Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Key == store.ObjectKey(model.Entity{Kind: model.KindVirtualNetwork, UUID: id}) {
				return true
			}
		}
		return false
	}
	create := fmt.Sprintf(`{"virtual-network": {"fq_name": ["default-domain", "default-project", "doubt"], "uuid": %q}}`, id)
	for _, step := range []struct {
		name, method, path, body string
		lostRequest              bool
		present                  bool // afterwards
	}{
		{"create, answer lost", http.MethodPost, "/virtual-networks", create, false, true},
		{"delete, answer lost", http.MethodDelete, "/virtual-network/" + id, "", false, false},
		{"create, request lost", http.MethodPost, "/virtual-networks", create, true, true},
		{"delete, request lost", http.MethodDelete, "/virtual-network/" + id, "", true, false},
	} {
		t.Run(step.name, func(t *testing.T) {
			// Leases are there already, so that it is the transaction that is lost.
			if _, err := b.api.grant(b.ctx()); err != nil {
				t.Fatal(err)
			}
			l.Block(step.lostRequest, !step.lostRequest)
			done := make(chan string, 1)
			go func() {
				status, text, _ := b.call(step.method, step.path, step.body)
				done <- fmt.Sprint(status, " ", text)
			}()
			deadline := time.Now().Add(time.Minute)
			for !step.lostRequest && present() != step.present {
				if time.Now().After(deadline) {
					t.Fatal("the request did not reach the store")
				}
				time.Sleep(5 * time.Millisecond)
			}
			if step.lostRequest {
				l.AwaitLost(t, id)
			}
			l.Reset()
			if got := <-done; !strings.HasPrefix(got, "200 ") {
				t.Errorf("answer %s, want 200", got)
			}
			if present() != step.present {
				t.Errorf("present is %v afterwards, want %v", !step.present, step.present)
			}
		})
	}
	if status, text, _ := b.call(http.MethodPost, "/virtual-networks", create); status != http.StatusOK {
		t.Fatalf("create %d %s", status, text)
	}
	if status, _, _ := b.call(http.MethodPost, "/virtual-networks", create); status != http.StatusConflict {
		t.Errorf("a second create answers %d, want 409", status)
	}
}

// A write that others made impossible while it was in doubt is refused.
func TestWriteInDoubtLoses(t *testing.T) {
	l := linetest.New(t, endpoint)
	prefix := fmt.Sprintf("/test%d/", prefixCount.Add(1))
	b := openBenchAt(t, store.Config{Endpoints: []string{l.Endpoint}, Prefix: prefix}, testConfig())
	other := openBench(t, prefix, testConfig())
	body := `{"virtual-network": {"fq_name": ["default-domain", "default-project", "contested"]}}`
	l.Block(true, false)
	done := make(chan int, 1)
	go func() {
		status, _, _ := b.call(http.MethodPost, "/virtual-networks", body)
		done <- status
	}()
	l.AwaitLost(t, "contested")
	if status, text, _ := other.call(http.MethodPost, "/virtual-networks", body); status != http.StatusOK {
		t.Fatalf("create by another %d %s", status, text)
	}
	l.Reset()
	if status := <-done; status != http.StatusConflict {
		t.Errorf("answer %d, want 409", status)
	}
}

// A fence stops a transaction that is still on its way.
func TestFenceStopsWhatIsUnderWay(t *testing.T) {
	b := newBench(t, testConfig())
	late := b.store.Txn()
	late.Put(store.OwnedKey("late"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := late.Commit(ctx); err == nil {
		t.Fatal("a transaction with an ended context happened")
	}
	revision, err := late.Settle(t.Context(), int64(b.api.graph.Position().Revision))
	if err != nil || revision != 0 {
		t.Fatalf("settled at %d (%v), want 0", revision, err)
	}
}
