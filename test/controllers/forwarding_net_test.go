//go:build net

package controllers_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// pinging is a ping that goes on until it is ended.
type pinging struct {
	cmd *exec.Cmd
	out strings.Builder
}

func ping(t *testing.T, from, to *controllers.Container) *pinging {
	t.Helper()
	// An answer may take a second on a busy machine.
	p := &pinging{cmd: exec.Command("ping", "-q", "-i", "0.01", "-W", "2", to.Address.String())}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := from.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	return p
}

// lostNothing ends the ping and wants all answers.
func (p *pinging) lostNothing(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := p.cmd.Wait()
	t.Logf("%s", p.out.String())
	if err != nil || !strings.Contains(p.out.String(), " 0% packet loss") {
		t.Errorf("packets were lost: %v", err)
	}
}

// watchRoutes looks at the routes of a node's data plane again and again, until
// ctx ends, and wants each of those that there are at first to stay as it is.
func watchRoutes(ctx context.Context, t *testing.T, n *controllers.Node) {
	tables, err := dataplane.OpenTables(n.PinDir())
	if err != nil {
		t.Error(err)
		return
	}
	defer tables.Close()
	before, err := tables.Routes()
	if err != nil || len(before) == 0 {
		t.Errorf("%s has %d routes: %v", n.Name, len(before), err)
		return
	}
	for ctx.Err() == nil {
		now, err := tables.Routes()
		if err != nil {
			t.Error(err)
			return
		}
		for key, hop := range before {
			if now[key] != hop {
				t.Errorf("%s: the route to %s was %+v and is %+v", n.Name, key.Prefix, hop, now[key])
				return
			}
		}
		time.Sleep(time.Millisecond) // not all of a CPU
	}
}

// TestNetForwardingWithoutControllers: two of three controllers are killed with
// all their processes, one after the other, and come back. Containers on two
// nodes miss no packet, and their nodes lose no route.
func TestNetForwardingWithoutControllers(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	set.ListenForAgents()
	set.StartAll()
	a, b, c := set.Members[0], set.Members[1], set.Members[2]
	threeVote(t, c)
	c.StartManager()
	nodes := []*controllers.Node{set.AddNode(1, c), set.AddNode(2, c)}
	var containers []*controllers.Container
	for _, n := range nodes {
		var container *controllers.Container
		var err error
		eventually(t, n.Name+" takes a container", func() bool {
			container, err = n.Add("blue")
			return err == nil
		})
		containers = append(containers, container)
	}
	reaches := func(from, to *controllers.Container) {
		t.Helper()
		eventually(t, "containers reach each other", func() bool {
			_, err := from.Run("ping", "-c1", "-W1", to.Address.String())
			return err == nil
		})
	}
	reaches(containers[0], containers[1])
	sessions := func(what, state string) {
		t.Helper()
		for _, n := range nodes {
			eventually(t, n.Name+" "+what, func() bool {
				text, err := n.Introspect("/metrics")
				return err == nil && strings.Contains(text, state+"\n")
			})
		}
	}
	const caughtUp = `contrail_vrouter_control_sessions{state="caught_up"} `
	sessions("has two sessions", caughtUp+"2")

	there, back := ping(t, containers[0], containers[1]), ping(t, containers[1], containers[0])
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var watching sync.WaitGroup
	for _, n := range nodes {
		watching.Go(func() { watchRoutes(ctx, t, n) })
	}
	a.Kill()
	sessions("has two sessions without a", caughtUp+"2")
	b.Kill()
	// What is left has no quorum, says so, and is believed for want of others.
	sessions("has one session, with one that is cut off", `contrail_vrouter_control_sessions{state="bad"} 1`)
	a.Start()
	a.WaitReady()
	b.Start()
	b.WaitReady()
	sessions("has two sessions again", caughtUp+"2")
	cancel()
	watching.Wait()
	there.lostNothing(t)
	back.lostNothing(t)

	more, err := nodes[0].Add("blue")
	if err != nil {
		t.Fatal(err)
	}
	reaches(containers[1], more)
}
