package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/store/linetest"
)

// Writes wait for a store that is away for a moment, and are refused unsent
// when it stays away, until it is back.
func TestWritesAreRefusedWithoutQuorum(t *testing.T) {
	srv := startServer(t)
	p := linetest.New(t, srv.cfg.Socket)
	st, err := Open(t.Context(), quiet(), Config{Endpoints: []string{p.Endpoint}, Prefix: "/quorum/", Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := newShadow()
	follow(t, st, f)
	put := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), attemptTimeout)
		defer cancel()
		x := st.Txn()
		x.Put("obj/a/1", nil)
		_, err := x.Commit(ctx)
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := put(); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoQuorum) {
		t.Errorf("a write of the first moment ends with %v, want that its end is not known", err)
	}
	eventually := func(what string, f func(error) bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for err := put(); !f(err); err = put() {
			if time.Now().After(deadline) {
				t.Fatalf("not in time: %s; a write ends with %v", what, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	eventually("writes are refused", func(err error) bool { return errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrUnknown) })
	x := st.Txn()
	x.Put("obj/a/2", nil)
	if _, err := x.Settle(t.Context(), 1); !errors.Is(err, ErrNoQuorum) || !errors.Is(err, ErrUnknown) {
		t.Errorf("what became of a write: %v, want that nobody knows without a quorum", err)
	}
	if _, err := st.Lease(t.Context(), time.Hour); !errors.Is(err, ErrNoQuorum) {
		t.Errorf("a lease: %v, want none without a quorum", err)
	}
	p.Restore()
	eventually("writes go on", func(err error) bool { return err == nil })
}

func TestKnownMembers(t *testing.T) {
	named := []string{"unix:///s", "https://b:2379"}
	for _, tc := range []struct {
		name, text string
		want       []string
		err        string
	}{
		{"none", "", named, ""},
		{"two", "https://192.0.2.1:2379\nhttps://[2001:db8::1]:2379\n", append(slices.Clone(named), "https://192.0.2.1:2379", "https://[2001:db8::1]:2379"), ""},
		{"one that is named", "https://b:2379\n", named, ""},
		{"no URL", "192.0.2.1\n", named, "want a URL"},
		{"without TLS", "http://192.0.2.1:2379\n", named, "want a URL"},
		{"without a port", "https://192.0.2.1\n", named, "want a URL"},
		{"a socket", "unix:///tmp/s\n", named, "want a URL"},
		{"an empty line", "\n", named, "want a URL"},
		{"too long", strings.Repeat("https://192.0.2.1:2379\n", maxKnown/20), named, "at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "members")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			k, err := openKnown(file, named)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if got := k.endpoints(); !slices.Equal(got, tc.want) {
				t.Errorf("endpoints %v, want %v", got, tc.want)
			}
		})
	}
	if k, err := openKnown(filepath.Join(t.TempDir(), "none"), named); err != nil || !slices.Equal(k.endpoints(), named) {
		t.Errorf("without a file: %v (%v), want %v", k.endpoints(), err, named)
	}
}
