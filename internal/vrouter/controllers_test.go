package vrouter

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/model"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// TestAgentIsToldOfControlNodes: an agent that is configured with one control
// node has sessions with two when there is another, and goes on with those that
// came later when the first one is gone.
func TestAgentIsToldOfControlNodes(t *testing.T) {
	s := newSeveral(t, 3)
	own := model.DerivedUUID("own")
	s.commit(model.Batch{Nodes: []model.Node{{UUID: own, Name: "own", Address: ownAddress, FabricMTU: 1500, BootID: "b"}}})
	var all []*member
	for _, m := range s.members {
		all = append(all, m)
	}
	first, second, third := all[0], all[1], all[2]
	first.start()
	first.tell(first.address)
	dir := t.TempDir()
	a, err := newAgent(quiet(), Config{
		Name: "own", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Underlay: "eth0",
		Address: netip.MustParseAddr(ownAddress), Manager: "127.0.0.1:1", Control: []string{first.address}, Credentials: s.credentials(ctls.RoleNode, own),
	}, newFakePlane(), &fakeLinks{links: map[int]string{2: "eth0"}})
	if err != nil {
		t.Fatal(err)
	}
	runAgent(t, a)
	sessions := func(want ...*member) {
		t.Helper()
		eventually(t, "sessions", func() error {
			var with, wanted []string
			for _, p := range a.sessions.all() {
				if p.Connected && p.CaughtUp {
					with = append(with, p.Peer)
				}
			}
			for _, m := range want {
				wanted = append(wanted, m.address)
			}
			slices.Sort(with)
			slices.Sort(wanted)
			if !slices.Equal(with, wanted) {
				return fmt.Errorf("with %v, want %v; all are %+v", with, wanted, a.sessions.all())
			}
			return nil
		})
	}
	sessions(first)
	second.start()
	for _, m := range []*member{first, second} {
		m.tell(first.address, second.address)
	}
	sessions(first, second)
	first.stop()
	third.start()
	for _, m := range []*member{second, third} {
		m.tell(second.address, third.address)
	}
	sessions(second, third)
}

func TestRegroup(t *testing.T) {
	begin := func(configured ...string) *sessions {
		s := &sessions{log: quiet(), node: "n", configured: configured, changed: make(chan struct{}, 1)}
		s.dial = func(address string) (controlv1connect.ControlClient, error) {
			if address == "bad" {
				return nil, errors.New("no address")
			}
			return nil, nil
		}
		for _, c := range configured {
			s.peers = append(s.peers, &controlPeer{address: c})
		}
		return s
	}
	hear := func(s *sessions, from, own string, told ...string) {
		for _, p := range s.peers {
			if p.address == from {
				p.end = func(error) {}
				s.learn(p, &controlv1.Cluster{Address: own, Controllers: told})
				return
			}
		}
		t.Fatalf("there is no %s", from)
	}
	want := func(s *sessions, want ...string) {
		t.Helper()
		var have []string
		for _, p := range s.peers {
			have = append(have, p.address)
		}
		slices.Sort(have)
		if slices.Sort(want); !slices.Equal(have, want) {
			t.Errorf("control nodes %v, want %v", have, want)
		}
	}
	a, b, c := "192.0.2.1:5269", "192.0.2.2:5269", "192.0.2.3:5269"
	s := begin(a)
	hear(s, a, a, a, b, "bad")
	want(s, a, b)
	kept := s.peers
	hear(s, b, b, b, c)
	want(s, a, b, c) // what both say together
	for _, p := range kept {
		if !slices.Contains(s.peers, p) {
			t.Errorf("%s begins anew", p.address)
		}
	}
	hear(s, a, a, a)
	hear(s, b, b, b)
	want(s, a, b) // a session that there is stays
	for _, p := range s.peers {
		p.end = nil
	}
	s.regroup()
	want(s, a, b) // nobody says anything

	// One that is configured by its name is not taken for another, and before it
	// is known which it is, none is.
	s = begin("one.example:5269", "two.example:5269")
	hear(s, "one.example:5269", a, a, b)
	want(s, "one.example:5269", "two.example:5269")
	hear(s, "two.example:5269", b, a, b, c)
	want(s, "one.example:5269", "two.example:5269", c)
	// Older ones say nothing.
	s = begin(a)
	hear(s, a, "")
	want(s, a)
	// No more than can be.
	var many []string
	for n := range 100 {
		many = append(many, fmt.Sprintf("198.51.100.%d:1", n))
	}
	hear(s, a, a, many...)
	if len(s.peers) != 1+maxTold {
		t.Errorf("%d control nodes", len(s.peers))
	}
}
