package configapi

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// line is a unix socket in front of the store whose directions can be blocked.
type line struct {
	path string
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	// requests and answers are passed on unless blocked.
	noRequests, noAnswers bool
	// lost are the requests that were not passed on.
	lost bytes.Buffer
}

func newLine(t *testing.T) *line {
	t.Helper()
	dir, err := os.MkdirTemp("", "line")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{path: filepath.Join(dir, "s"), conns: map[net.Conn]bool{}}
	listener, err := net.Listen("unix", l.path)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			l.connect(c)
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.reset()
		l.wg.Wait()
		os.RemoveAll(dir)
	})
	return l
}

func (l *line) connect(c net.Conn) {
	up, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix://"))
	if err != nil {
		c.Close()
		return
	}
	l.mu.Lock()
	l.conns[c], l.conns[up] = true, true
	l.mu.Unlock()
	l.wg.Go(func() { l.pass(c, up, &l.noRequests) })
	l.wg.Go(func() { l.pass(up, c, &l.noAnswers) })
}

func (l *line) pass(from, to net.Conn, blocked *bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		drop := *blocked
		if drop && blocked == &l.noRequests {
			l.lost.Write(buf[:n])
		}
		l.mu.Unlock()
		if drop {
			continue // what is lost is lost: the connection is of no use any more
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// block loses requests or answers from now on.
func (l *line) block(requests, answers bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noRequests, l.noAnswers = requests, answers
	l.lost.Reset()
}

// awaitLost waits until a request with a text was lost.
func (l *line) awaitLost(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		lost := l.lost.Bytes()
		found, size := bytes.Contains(lost, []byte(text)), len(lost)
		l.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no request with %q in the %d bytes that were lost", text, size)
		}
	}
}

// reset ends all connections and lets new ones pass.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noRequests, l.noAnswers = false, false
	for c := range l.conns {
		c.Close()
	}
	clear(l.conns)
}

// A write whose answer is lost is answered by what became of it.
func TestWritesInDoubt(t *testing.T) {
	l := newLine(t)
	prefix := fmt.Sprintf("/test%d/", prefixCount.Add(1))
	b := openBenchAt(t, store.Config{Endpoints: []string{"unix://" + l.path}, Prefix: prefix}, testConfig())
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
			l.block(step.lostRequest, !step.lostRequest)
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
				l.awaitLost(t, id)
			}
			l.reset()
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
	l := newLine(t)
	prefix := fmt.Sprintf("/test%d/", prefixCount.Add(1))
	b := openBenchAt(t, store.Config{Endpoints: []string{"unix://" + l.path}, Prefix: prefix}, testConfig())
	other := openBench(t, prefix, testConfig())
	body := `{"virtual-network": {"fq_name": ["default-domain", "default-project", "contested"]}}`
	l.block(true, false)
	done := make(chan int, 1)
	go func() {
		status, _, _ := b.call(http.MethodPost, "/virtual-networks", body)
		done <- status
	}()
	l.awaitLost(t, "contested")
	if status, text, _ := other.call(http.MethodPost, "/virtual-networks", body); status != http.StatusOK {
		t.Fatalf("create by another %d %s", status, text)
	}
	l.reset()
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
