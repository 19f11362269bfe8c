package tls

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
)

func issue(t *testing.T, a *Authority, role, node string) *Credentials {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "leaf")
	if err := a.Issue(dir, role, node); err != nil {
		t.Fatal(err)
	}
	c, err := LoadCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake returns the identity that the server saw, or the first error.
func handshake(t *testing.T, server, client *tls.Config) (Identity, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type result struct {
		id  Identity
		err error
	}
	seen := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			seen <- result{err: err}
			return
		}
		defer conn.Close()
		s := tls.Server(conn, server)
		if err := s.Handshake(); err != nil {
			seen <- result{err: err}
			return
		}
		state := s.ConnectionState()
		id, err := PeerIdentity(&state)
		seen <- result{id, err}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		conn.Close()
	}
	r := <-seen
	if err == nil {
		err = r.err
	}
	return r.id, err
}

func TestHandshake(t *testing.T) {
	ours, err := OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	manager := issue(t, ours, RoleManager, "")
	node := issue(t, ours, RoleNode, id)
	stranger := issue(t, theirs, RoleNode, id)

	t.Run("node to manager", func(t *testing.T) {
		got, err := handshake(t, manager.Server(), node.Client("", RoleManager))
		if want := (Identity{RoleNode, id}); err != nil || got != want {
			t.Errorf("server saw %v, %v; want %v", got, err, want)
		}
	})
	refused := []struct {
		name           string
		server, client *tls.Config
	}{
		{"client of another authority", manager.Server(), stranger.Client("", RoleManager)},
		{"server of another authority", stranger.Server(), manager.Client("", RoleNode)},
		{"server of another role", node.Server(), node.Client("", RoleManager)},
		{"another node", node.Server(), manager.Client(uuid.NewString(), RoleNode)},
		{"no certificate", manager.Server(), &tls.Config{InsecureSkipVerify: true}},
	}
	for _, tc := range refused {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := handshake(t, tc.server, tc.client); err == nil {
				t.Errorf("accepted as %v", got)
			}
		})
	}
}

func TestIssueKeepsFreshLeaf(t *testing.T) {
	caDir, dir := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "leaf")
	read := func() string {
		data, err := os.ReadFile(filepath.Join(dir, certFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var last string
	for i, step := range []struct {
		role  string
		fresh bool
	}{{RoleManager, false}, {RoleManager, true}, {RoleMaster, false}} {
		a, err := OpenAuthority(caDir) // reopened: it must be the same one
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Issue(dir, step.role, ""); err != nil {
			t.Fatal(err)
		}
		if now := read(); (now == last) != step.fresh {
			t.Errorf("step %d: kept the old leaf: %v, want %v", i, now == last, step.fresh)
		} else {
			last = now
		}
	}
	for _, file := range []string{filepath.Join(caDir, caKey), filepath.Join(dir, keyFile)} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", file, info.Mode(), err)
		}
	}
}

func TestIssueForALife(t *testing.T) {
	a, err := OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	dir, id, day := t.TempDir(), Identity{Role: RoleController}, 24*time.Hour
	var last time.Time
	for i, step := range []struct {
		life, want time.Duration // the latter until its end
	}{
		{30 * day, 30 * day},
		{60 * day, 30 * day}, // more than a third of what is asked for is left
		{365 * day, 365 * day},
		{day, 365 * day},
		{100 * 365 * day, time.Until(a.Until())},
	} {
		until, err := a.IssueFor(dir, id, step.life)
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Until(until) - step.want; off < -time.Minute || off > time.Minute {
			t.Errorf("step %d: ends in %s, want %s", i, time.Until(until), step.want)
		}
		pair, err := loadPair(dir)
		if err != nil || !pair.Leaf.NotAfter.Equal(until) {
			t.Errorf("step %d: certificate ends at %v, want %v (%v)", i, pair.Leaf.NotAfter, until, err)
		}
		last = until
	}
	if last.After(a.Until()) {
		t.Errorf("a leaf ends at %v, its authority at %v", last, a.Until())
	}
}

func TestLoadAuthorityMakesNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := LoadAuthority(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that there is none", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("an authority was made")
	}
}

func TestIssueRefusesMixedIdentity(t *testing.T) {
	a, err := OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if a.Issue(t.TempDir(), RoleNode, "") == nil || a.Issue(t.TempDir(), RoleMaster, uuid.NewString()) == nil {
		t.Error("a node without UUID, or a component with one, got a certificate")
	}
}
