package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store/linetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, leakOptions...) }

// Libraries of etcd keep these for the life of the process.
var leakOptions = []goleak.Option{
	goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
	goleak.IgnoreAnyFunction("go.etcd.io/etcd/client/pkg/v3/logutil.(*MergeLogger).outputLoop"),
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// server is an embedded store that a test can stop and start again.
type server struct {
	t      *testing.T
	cfg    ServerConfig
	cancel context.CancelFunc
	done   chan error
}

func startServer(t *testing.T) *server {
	t.Helper()
	return configuredServer(t, func(*ServerConfig) {})
}

func configuredServer(t *testing.T, change func(*ServerConfig)) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "store") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, cfg: ServerConfig{DataDir: filepath.Join(dir, "data"), Socket: filepath.Join(dir, "run", "s.sock")}}
	change(&s.cfg)
	s.start()
	t.Cleanup(func() {
		s.stop()
		os.RemoveAll(dir)
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	cfg := s.cfg
	cfg.Ready = func() { close(ready) }
	go func() { done <- Serve(ctx, quiet(), cfg) }()
	s.cancel, s.done = cancel, done
	select {
	case <-ready:
	case err := <-done:
		s.t.Fatalf("serve: %v", err)
	}
}

func (s *server) stop() {
	s.cancel()
	if err := <-s.done; err != nil {
		s.t.Errorf("serve: %v", err)
	}
	s.done <- nil
}

func (s *server) open(prefix string) *Store {
	s.t.Helper()
	st, err := Open(s.t.Context(), quiet(), Config{Endpoints: []string{"unix://" + s.cfg.Socket}, Prefix: prefix})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { st.Close() })
	return st
}

// shadow is a follower that keeps what it is told.
type shadow struct {
	mu       sync.Mutex
	keys     map[Key]string
	revision int64
	resets   int
	epoch    uint64
	batches  []int
	changed  chan struct{}
	// loading is for the goroutine that follows.
	loading      map[Key]string
	loadingEpoch uint64
	loadingAt    int64
}

func newShadow() *shadow { return &shadow{changed: make(chan struct{})} }

func (s *shadow) Reset(epoch uint64, revision int64) error {
	s.loading, s.loadingEpoch, s.loadingAt = map[Key]string{}, epoch, revision
	return nil
}

func (s *shadow) Load(entries []Entry) error {
	for _, e := range entries {
		if _, twice := s.loading[e.Key]; twice {
			return fmt.Errorf("%s was loaded twice", e.Key)
		}
		s.loading[e.Key] = string(e.Value)
	}
	return nil
}

func (s *shadow) Loaded() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = s.loading
	s.resets++
	s.epoch = s.loadingEpoch
	s.moved(s.loadingAt)
	return nil
}

func (s *shadow) Apply(revision int64, changes []Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range changes {
		if e.Deleted {
			delete(s.keys, e.Key)
		} else {
			s.keys[e.Key] = string(e.Value)
		}
	}
	if len(changes) > 0 {
		s.batches = append(s.batches, len(changes))
	}
	s.moved(revision)
	return nil
}

func (s *shadow) moved(revision int64) {
	s.revision = revision
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shadow) waitFor(t *testing.T, revision int64) {
	t.Helper()
	for {
		s.mu.Lock()
		at, changed := s.revision, s.changed
		s.mu.Unlock()
		if at >= revision {
			return
		}
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Fatalf("follower is at revision %d, want %d", at, revision)
		}
	}
}

func (s *shadow) snapshot() map[Key]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.keys)
}

func follow(t *testing.T, st *Store, f Follower) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- st.Follow(ctx, f) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("follow: %v", err)
		}
	})
}

func commit(t *testing.T, x *Txn) int64 {
	t.Helper()
	rev, err := x.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestServerHasOnlyItsSocket(t *testing.T) {
	srv := startServer(t)
	st := srv.open("")
	if st.Epoch() != 1 {
		t.Errorf("epoch %d, want 1", st.Epoch())
	}
	info, err := os.Stat(srv.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v, want 0600", info.Mode().Perm())
	}
	if info, err = os.Stat(filepath.Dir(srv.cfg.Socket)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v (%v), want 0700", info.Mode().Perm(), err)
	}
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		if inodes := listening(t, file); len(inodes) > 0 {
			for _, fd := range ownSockets(t) {
				if inodes[fd] {
					t.Errorf("this process listens on a TCP port (%s)", file)
				}
			}
		}
	}
}

// listening returns the inodes of listening TCP sockets.
func listening(t *testing.T, file string) map[string]bool {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" {
			inodes["socket:["+f[9]+"]"] = true
		}
	}
	return inodes
}

func ownSockets(t *testing.T) []string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			out = append(out, link)
		}
	}
	return out
}

func TestGuards(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/g/")
	x := st.Txn()
	x.Create("ref/vn/a/vmi/1", []byte("x"))
	x.Create("obj/t/1", []byte("x"))
	first := commit(t, x)
	x = st.Txn()
	x.Put("obj/t/1", []byte("y"))
	second := commit(t, x)

	tests := []struct {
		name  string
		guard Guard
		holds bool
	}{
		{"absent key", Guard{Condition: Absent, Key: "obj/t/2"}, true},
		{"absent but there", Guard{Condition: Absent, Key: "obj/t/1"}, false},
		{"present key", Guard{Condition: Present, Key: "obj/t/1"}, true},
		{"present but gone", Guard{Condition: Present, Key: "obj/t/2"}, false},
		{"unchanged", Guard{Condition: Unchanged, Key: "obj/t/1", Revision: second}, true},
		{"changed", Guard{Condition: Unchanged, Key: "obj/t/1", Revision: first}, false},
		{"unchanged absence", Guard{Condition: Unchanged, Key: "obj/t/2", Revision: 0}, true},
		{"unchanged but gone", Guard{Condition: Unchanged, Key: "obj/t/2", Revision: first}, false},
		{"not since", Guard{Condition: NotSince, Key: "obj/t/1", Revision: second}, true},
		{"not since and gone", Guard{Condition: NotSince, Key: "obj/t/2", Revision: first}, true},
		{"written since", Guard{Condition: NotSince, Key: "obj/t/1", Revision: first}, false},
		{"empty range", Guard{Condition: RangeEmpty, Key: RefPrefix(model.Entity{Kind: "vn", UUID: "b"})}, true},
		{"range not empty", Guard{Condition: RangeEmpty, Key: RefPrefix(model.Entity{Kind: "vn", UUID: "a"})}, false},
		{"range of a longer name", Guard{Condition: RangeEmpty, Key: RefPrefix(model.Entity{Kind: "vn"})}, true},
		{"range unchanged", Guard{Condition: RangeUnchanged, Key: RefPrefix(model.Entity{Kind: "vn", UUID: "a"}), Revision: first}, true},
		{"range unchanged and empty", Guard{Condition: RangeUnchanged, Key: RefPrefix(model.Entity{Kind: "vn", UUID: "b"}), Revision: 1}, true},
		{"range changed", Guard{Condition: RangeUnchanged, Key: RefPrefix(model.Entity{Kind: "vn", UUID: "a"}), Revision: first - 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := st.Txn()
			x.Guard(Guard{Condition: Absent, Key: "never"})
			x.Guard(tt.guard)
			x.Put("touched", nil)
			_, err := x.Commit(t.Context())
			if tt.holds {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var conflict *Conflict
			if !errors.As(err, &conflict) {
				t.Fatalf("error %v, want a conflict", err)
			}
			if conflict.Guard != tt.guard || conflict.Revision < second {
				t.Errorf("conflict %+v, want guard %+v", conflict, tt.guard)
			}
		})
	}
}

func TestTxnRefusesWhatCannotBe(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/t/")
	x := st.Txn()
	x.Put("a", nil)
	x.Delete("a")
	if _, err := x.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("error %v, want one that says twice", err)
	}
	x = st.Txn()
	for i := range MaxOps + 1 {
		x.Put(Key(fmt.Sprint("k/", i)), nil)
	}
	if _, err := x.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "smaller steps") {
		t.Errorf("error %v, want one that names the next step", err)
	}
	x = st.Txn()
	for i := range MaxOps {
		x.Create(Key(fmt.Sprint("k/", i)), nil)
	}
	commit(t, x)
}

func TestFollow(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/f/")
	x := st.Txn()
	x.Create("obj/virtual-network/aa", []byte("1"))
	x.Create("obj/virtual-machine/ab", []byte("2"))
	x.Create("obj/zz/ac", []byte("3"))
	x.Create("ip/net/10.0.0.1", []byte("4"))
	x.Create("fq/zz/name", []byte("not followed"))
	rev := commit(t, x)

	f := newShadow()
	follow(t, st, f)
	f.waitFor(t, rev)
	want := map[Key]string{
		"obj/virtual-network/aa": "1", "obj/virtual-machine/ab": "2", "obj/zz/ac": "3", "ip/net/10.0.0.1": "4",
	}
	if got := f.snapshot(); !maps.Equal(got, want) {
		t.Errorf("snapshot %v, want %v", got, want)
	}

	// A whole revision arrives at once, deletions included.
	x = st.Txn()
	x.Delete("obj/zz/ac")
	x.Put("obj/virtual-network/aa", []byte("5"))
	x.Put("label/n/16", []byte("6"))
	f.waitFor(t, commit(t, x))
	want["obj/virtual-network/aa"], want["label/n/16"] = "5", "6"
	delete(want, "obj/zz/ac")
	if got := f.snapshot(); !maps.Equal(got, want) {
		t.Errorf("after change %v, want %v", got, want)
	}
	if len(f.batches) != 1 || f.batches[0] != 3 {
		t.Errorf("batches %v, want one of 3", f.batches)
	}

	// The server goes away and comes back: the watch resumes, no reload.
	srv.stop()
	srv.start()
	x = st.Txn()
	x.Put("node/n", []byte("7"))
	f.waitFor(t, commit(t, x))
	if f.resets != 1 {
		t.Errorf("%d resets, want 1", f.resets)
	}
	// Other people's revisions move the follower when it asks.
	other := srv.open("/other/").Txn()
	other.Put("obj/x/y", nil)
	rev = commit(t, other)
	if err := st.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.waitFor(t, rev)
}

func TestFollowReloadsAfterCompaction(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/c/")
	f := newShadow()
	// The line to the follower is cut while history is compacted.
	line := linetest.New(t, srv.cfg.Socket)
	through, err := Open(t.Context(), quiet(), Config{Endpoints: []string{line.Endpoint}, Prefix: "/c/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { through.Close() })
	x := st.Txn()
	x.Put("obj/a/1", []byte("old"))
	x.Put("obj/a/2", []byte("gone"))
	rev := commit(t, x)
	follow(t, through, f)
	f.waitFor(t, rev)

	line.Cut()
	x = st.Txn()
	x.Put("obj/a/1", []byte("new"))
	x.Delete("obj/a/2")
	commit(t, x)
	x = st.Txn()
	x.Put("obj/a/3", []byte("newer"))
	rev = commit(t, x)
	if _, err := st.client.Compact(t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	line.Restore()
	f.waitFor(t, rev)
	want := map[Key]string{"obj/a/1": "new", "obj/a/3": "newer"}
	if got := f.snapshot(); !maps.Equal(got, want) || f.resets != 2 {
		t.Errorf("after %d resets %v, want %v after 2", f.resets, got, want)
	}
}

func TestFollowLoadsMoreThanAPage(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/big/")
	const count = page + page/2
	var rev int64
	for from := 0; from < count; from += MaxOps {
		x := st.Txn()
		for i := from; i < min(from+MaxOps, count); i++ {
			x.Put(ObjectKey(model.Entity{Kind: "virtual-machine", UUID: fmt.Sprintf("%08x", i*0x9e3779b1&0xffffffff)}), []byte("x"))
		}
		rev = commit(t, x)
	}
	f := newShadow()
	follow(t, st, f)
	f.waitFor(t, rev)
	if len(f.snapshot()) != count {
		t.Errorf("%d keys, want %d", len(f.snapshot()), count)
	}
	if all, err := st.Dump(t.Context()); err != nil || len(all) != count+1 {
		t.Errorf("dump has %d keys (%v), want %d", len(all), err, count+1)
	}
	// A store that does not know streams is read in pages.
	paged := newShadow()
	paged.loading = map[Key]string{}
	l := loader{store: st, revision: rev, take: paged.Load}
	if err := l.types(t.Context(), "/big/obj/"); err != nil || len(paged.loading) != count {
		t.Errorf("%d keys in pages (%v), want %d", len(paged.loading), err, count)
	}
}

func TestLeasesAreSharedAndEnd(t *testing.T) {
	srv := startServer(t)
	st := srv.open("/l/")
	f := newShadow()
	follow(t, st, f)
	a, err := st.Lease(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := st.Lease(t.Context(), time.Hour)
	if err != nil || a != b {
		t.Fatalf("leases %d and %d (%v), want one", a, b, err)
	}
	left, err := st.SecondsLeft(t.Context(), a)
	if err != nil || left < 3600 || left > 3600+3600/20+1 {
		t.Errorf("%d seconds left (%v), want an hour and a little", left, err)
	}
	x := st.Txn()
	x.PutLeased(RestKey(AddressKey("d:p:n", netip.MustParseAddr("10.0.0.1"))), nil, a)
	f.waitFor(t, commit(t, x))
	if len(f.snapshot()) != 1 {
		t.Fatalf("keys %v, want one", f.snapshot())
	}
	if err := st.EndLeases(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	x = st.Txn()
	x.PutLeased("tomb/a", nil, a)
	if _, err := x.Commit(t.Context()); !errors.Is(err, ErrLeaseGone) {
		t.Errorf("error %v, want ErrLeaseGone", err)
	}
	x = st.Txn()
	x.Put("obj/a/b", nil)
	f.waitFor(t, commit(t, x))
	if got := f.snapshot(); len(got) != 1 {
		t.Errorf("keys %v, want the rest gone", got)
	}
	if left, err = st.SecondsLeft(t.Context(), a); err != nil || left != 0 {
		t.Errorf("%d seconds left (%v), want 0", left, err)
	}
}

func TestKeysRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		segments := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "segments")
		k := key(SpaceTomb, segments...)
		got, err := k.Split(len(segments))
		if err != nil {
			t.Fatal(err)
		}
		for i := range segments {
			if got[i] != segments[i] {
				t.Fatalf("segment %d: %q, want %q", i, got[i], segments[i])
			}
		}
		if k.Space() != SpaceTomb {
			t.Fatalf("space %q", k.Space())
		}
		if back, ok := RestKey(k).Rested(); !ok || back != k {
			t.Fatalf("rest of %q is %q", k, back)
		}
	})
	scope, a, err := AddressKey("d:p:a/b", netip.MustParseAddr("fd00::1")).ParseAddress()
	if err != nil || scope != "d:p:a/b" || a != netip.MustParseAddr("fd00::1") {
		t.Errorf("address key reads as %q %v (%v)", scope, a, err)
	}
	if p, err := PrefixKey(netip.MustParsePrefix("10.32.16.0/20")).ParsePrefix(); err != nil || p.String() != "10.32.16.0/20" {
		t.Errorf("prefix key reads as %v (%v)", p, err)
	}
	if node, n, err := LabelKey("n/1", 17).ParseNumber(); err != nil || node != "n/1" || n != 17 {
		t.Errorf("label key reads as %q %d (%v)", node, n, err)
	}
}
