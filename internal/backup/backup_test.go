package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/store/storetest"
)

var endpoint string

func TestMain(m *testing.M) {
	if runHelper() {
		return
	}
	os.Exit(storetest.Main(m, func(at string) { endpoint = at }))
}

var prefixes atomic.Int64

func open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), slog.New(slog.DiscardHandler),
		store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/backup%d/", prefixes.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const nodeOne = "00000000-0000-4000-8000-000000000001"

// fill writes n keys of every kind of value.
func fill(t testing.TB, s *store.Store, n int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		txn := s.Txn()
		for j := i; j < min(i+100, n); j++ {
			txn.Put(store.NumberKey("virtual-network", uint32(j+1)), []byte(model.NewUUID()))
			txn.Put(store.OwnedKey(model.NewUUID()), []byte("virtual-network <&> \u2028\n"))
			txn.Put(store.BindingKey(model.NewUUID()), []byte{0xff, 0, byte(j)})
		}
		commit(t, txn)
	}
	txn := s.Txn()
	txn.PutNode(model.Node{UUID: nodeOne, Name: "node-1"})
	lease, err := s.GrantLease(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	txn.PutLeased(store.RestKey(store.NumberKey("virtual-network", 100_000)), []byte("owner"), lease)
	txn.Put(store.OwnedKey("empty"), nil)
	commit(t, txn)
}

func commit(t testing.TB, txn *store.Txn) {
	t.Helper()
	if _, err := txn.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// content is what a dump of the store would have, with leases as "leased".
func content(t testing.TB, s *store.Store) map[store.Key]string {
	t.Helper()
	entries, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[store.Key]string{}
	for _, e := range entries {
		if isDumped(e.Key.Space()) {
			found[e.Key] = string(e.Value)
			if e.Lease != 0 {
				found[e.Key] += " leased"
			}
		}
	}
	return found
}

func dump(t testing.TB, s *store.Store) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Dump(t.Context(), s, &out, "test"); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func restore(ctx context.Context, s *store.Store, dump []byte) (Result, error) {
	return Restore(ctx, s, bytes.NewReader(dump), Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)})
}

func TestDumpAndRestore(t *testing.T) {
	s := open(t)
	fill(t, s, 1000)
	before := content(t, s)
	path := filepath.Join(t.TempDir(), "dump")
	summary, err := DumpFile(t.Context(), s, path, "test")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("dump has mode %v, want 0600: it holds secrets", info.Mode())
	}
	if summary.Keys != len(before) || summary.Epoch != 1 || summary.Spaces[store.SpaceNumber] != 1000 {
		t.Errorf("summary: %+v, want %d keys", summary, len(before))
	}
	// What comes after the dump goes, but rests.
	txn := s.Txn()
	late := store.NumberKey("virtual-network", 5000)
	txn.Put(late, []byte("x"))
	txn.Delete(store.NumberKey("virtual-network", 1))
	txn.PutNode(model.Node{UUID: "late", Name: "node-2"})
	commit(t, txn)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	result, err := Restore(t.Context(), s, file, Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if result.Epoch != 2 || result.Keys != len(before) || len(result.Awaited) != 2 || result.Quiet {
		t.Errorf("result: %+v, want epoch 2, %d keys, 2 nodes", result, len(before))
	}
	before[store.RestKey(late)] = " leased"
	if after := content(t, s); !maps.Equal(before, after) {
		t.Errorf("restored: %s", difference(before, after))
	}
	state, at, err := s.RestoreState(t.Context())
	if err != nil || state.Phase != store.PhaseAwaiting || at.Epoch != 2 {
		t.Errorf("state: %+v %+v %v", state, at, err)
	}
}

func difference(before, after map[store.Key]string) string {
	var lines []string
	for k, v := range before {
		if now, ok := after[k]; !ok || now != v {
			lines = append(lines, fmt.Sprintf("%s: %q -> %q", k, v, now))
		}
	}
	for k, v := range after {
		if _, ok := before[k]; !ok {
			lines = append(lines, fmt.Sprintf("%s: new, %q", k, v))
		}
	}
	return strings.Join(lines[:min(20, len(lines))], "\n")
}

// A blank store does not know what was in use: nothing is allocated for as
// long as a rest takes.
func TestRestoreIntoABlankStore(t *testing.T) {
	full, blank := open(t), open(t)
	fill(t, full, 10)
	before := content(t, full)
	result, err := restore(t.Context(), blank, dump(t, full))
	if err != nil || !result.Quiet {
		t.Fatalf("restore: %+v %v; want it quiet", result, err)
	}
	if after := content(t, blank); !maps.Equal(before, after) {
		t.Errorf("restored: %s", difference(before, after))
	}
}

// A restore that ends anywhere leaves the store closed, and is finished by the
// next one.
func TestRestoreIsRunAgain(t *testing.T) {
	s := open(t)
	fill(t, s, 300)
	before, saved := content(t, s), dump(t, s)
	stopped, closed := 0, false
	for n := 0; ; n += 3 {
		ctx := &stopAfter{Context: t.Context(), left: int64(n)}
		_, err := restore(ctx, s, saved)
		if err == nil {
			break
		}
		if stopped++; n > 1000 {
			t.Fatalf("the restore does not end: %v", err)
		}
		state, _, err := s.RestoreState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if closed = closed || state.Phase == store.PhaseRestoring; closed && state.Phase != store.PhaseRestoring {
			t.Fatalf("stopped after %d steps the store is %s, want it closed", n, state.Phase)
		}
	}
	if stopped < 10 || !closed {
		t.Errorf("the restore was stopped %d times only", stopped)
	}
	if after := content(t, s); !maps.Equal(before, after) {
		t.Errorf("restored: %s", difference(before, after))
	}
}

// stopAfter is a context that ends after some requests to the store: each asks
// for the end of its context once or more.
type stopAfter struct {
	context.Context
	left int64
}

func (c *stopAfter) Err() error {
	if atomic.AddInt64(&c.left, -1) < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

func (c *stopAfter) Done() <-chan struct{} {
	if atomic.AddInt64(&c.left, -1) < 0 {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return c.Context.Done()
}

// Of two restores at the same time the later one wins.
func TestRestoresDoNotMix(t *testing.T) {
	s := open(t)
	fill(t, s, 100)
	saved := dump(t, s)
	summary, err := Verify(bytes.NewReader(saved))
	if err != nil {
		t.Fatal(err)
	}
	first := newRestorer(s, Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err := first.close(t.Context(), summary); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t.Context(), s, saved); err != nil {
		t.Fatal(err)
	}
	if err := first.clear(t.Context()); !errors.Is(err, errOvertaken) {
		t.Errorf("the earlier restore goes on: %v", err)
	}
}

// rewritten is a dump with other lines.
func rewritten(t testing.TB, dump []byte, change func([]string) []string) []byte {
	t.Helper()
	in, err := gzip.NewReader(bytes.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	for _, l := range change(strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")) {
		zip.Write([]byte(l))
	}
	zip.Close()
	return out.Bytes()
}

// A file that is not whole, or not ours to read, changes nothing.
func TestRestoreRefuses(t *testing.T) {
	s := open(t)
	fill(t, s, 50)
	good := dump(t, s)
	before := content(t, s)
	for name, c := range map[string]struct {
		dump []byte
		says string
	}{
		"empty":         {nil, "not a dump"},
		"something":     {[]byte("hello"), "not a dump"},
		"other gzip":    {rewritten(t, good, func([]string) []string { return []string{"{}\n"} }), "not a dump"},
		"cut off":       {good[:len(good)/2], "cut off or damaged"},
		"last byte off": {good[:len(good)-1], "damaged"},
		"no trailer":    {rewritten(t, good, func(l []string) []string { return l[:len(l)-1] }), "cut off"},
		"a line less":   {rewritten(t, good, func(l []string) []string { return append(l[:3:3], l[4:]...) }), "altered"},
		"a line twice":  {rewritten(t, good, func(l []string) []string { return append(l[:3:3], l[2:]...) }), "altered"},
		"a value changed": {rewritten(t, good, func(l []string) []string {
			l[5] = strings.Replace(l[5], `"k":"`, `"k":"owned/`, 1)
			return l
		}), "altered"},
		"appended":        {append(bytes.Clone(good), 'x'), "after its end"},
		"a line appended": {rewritten(t, good, func(l []string) []string { return append(l, "\n{}\n") }), "after its end"},
		"newer format": {rewritten(t, good, func(l []string) []string {
			l[0] = strings.Replace(l[0], `"format":1`, `"format":2`, 1)
			return l
		}), "format 2"},
		"an epoch in it": {rewritten(t, good, func(l []string) []string {
			return append(l[:1:1], append([]string{`{"k":"epoch/x","v":"7"}` + "\n"}, l[1:]...)...)
		}), "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := restore(t.Context(), s, c.dump)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("restore: %v, want an error that says %q", err, c.says)
			}
		})
	}
	if after := content(t, s); !maps.Equal(before, after) {
		t.Errorf("refused dumps changed the store: %s", difference(before, after))
	}
	if state, at, err := s.RestoreState(t.Context()); err != nil || at.Epoch != 1 || state.Settling() {
		t.Errorf("refused dumps left %+v %+v %v", state, at, err)
	}
}

// Whatever a file holds, reading it ends with an error or with what was written.
func FuzzReader(f *testing.F) {
	var good bytes.Buffer
	w, err := NewWriter(&good, Header{Epoch: 1, Revision: 5, Created: time.Unix(0, 0)})
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []Record{{Key: "obj/project/x", Value: []byte("{}")}, {Key: "tomb/\xff", Value: []byte{0xfe}, SecondsLeft: 7}} {
		if err := w.Write(r); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes(), true)
	plain, err := gzip.NewReader(bytes.NewReader(good.Bytes()))
	if err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, false)
	f.Add([]byte("{}\n"), false)
	f.Add([]byte(`{"kind":"contrail-db-dump","format":1,"epoch":1,"revision":1}`+"\n"+`{"end":true,"sha256":"x"}`), false)
	f.Fuzz(func(t *testing.T, data []byte, zipped bool) {
		if !zipped {
			var out bytes.Buffer
			zip := gzip.NewWriter(&out)
			zip.Write(data)
			zip.Close()
			data = out.Bytes()
		}
		summary, err := Verify(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := copyDump(data)
		if err != nil {
			t.Fatalf("a dump that is whole cannot be written again: %v", err)
		}
		if summary.Keys != again.Keys || summary.Epoch != again.Epoch || !maps.Equal(summary.Spaces, again.Spaces) {
			t.Errorf("written again: %+v, was %+v", again, summary)
		}
	})
}

func copyDump(data []byte) (Summary, error) {
	in, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return Summary{}, err
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, in.Header)
	if err != nil {
		return Summary{}, err
	}
	for {
		r, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Summary{}, err
		}
		if err := w.Write(r); err != nil {
			return Summary{}, err
		}
	}
	if _, err := w.Close(); err != nil {
		return Summary{}, err
	}
	return Verify(&out)
}
