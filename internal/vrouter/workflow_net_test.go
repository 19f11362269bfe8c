//go:build net

package vrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

func TestNetContainersReachTheirNetworkOnly(t *testing.T) {
	c := newCluster(t, 2)
	one, two := c.nodes[0], c.nodes[1]
	a, b, far, red := one.add("blue"), one.add("blue"), two.add("blue"), two.add("red")
	eventually(t, "blue reaches blue on one node", func() error { return a.ping(b) })
	eventually(t, "blue reaches blue across nodes", func() error { return a.ping(far) })
	eventually(t, "and back", func() error { return far.ping(b) })
	if a.ping(red) == nil || far.ping(red) == nil || red.ping(far) == nil {
		t.Error("red and blue reach each other")
	}
	for _, p := range one.ports() {
		if p.Status.State != "applied" {
			t.Errorf("port %s is %+v", p.ID, p.Status)
		}
		eventually(t, "control knows that the port is up", func() error {
			if !c.controllers.isUp(p.ID) {
				return errors.New("it is not")
			}
			return nil
		})
	}
	for _, x := range []struct {
		n *node
		c *container
	}{{one, a}, {one, b}, {two, far}, {two, red}} {
		if out := x.n.plugin("DEL", x.c.call); out.code != 0 || out.stdout != "" {
			t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
		}
		if out := x.n.plugin("DEL", x.c.call); out.code != 0 {
			t.Errorf("second DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
		}
	}
	eventually(t, "nothing is left", c.clean)
}

// recording is a file of what a real Mesos did.
type recording struct {
	Scenario    string
	PluginCalls []recordedCall `json:"plugin_calls"`
	CNICalls    []recordedCall `json:"cni_calls"`
}

type recordedCall struct {
	Env   map[string]string
	Stdin string
}

// TestNetRecordedInvocations gives the plugin what a real Mesos agent gave one,
// in the same order, and expects results that Mesos can read.
func TestNetRecordedInvocations(t *testing.T) {
	files, err := filepath.Glob("../cni/testdata/cni-*.json")
	if err != nil || len(files) != 18 {
		t.Fatalf("%d recordings, want 18 (%v)", len(files), err)
	}
	c := newCluster(t, 1)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		t.Run(r.Scenario, func(t *testing.T) { replay(t, c, append(r.PluginCalls, r.CNICalls...)) })
	}
	eventually(t, "nothing is left", c.clean)
}

func replay(t *testing.T, c *cluster, calls []recordedCall) {
	n := c.nodes[0]
	namespaces := map[string]*nstest.NS{}
	for _, r := range calls {
		container := r.Env["CNI_CONTAINERID"]
		if namespaces[container] == nil {
			namespaces[container] = nstest.New(t, "container")
		}
		ns := namespaces[container]
		in := call{container, r.Env["CNI_IFNAME"], ns.Path(), r.Stdin}
		if r.Env["CNI_NETNS"] == "" {
			in.netns = ""
		}
		out := n.plugin(r.Env["CNI_COMMAND"], in)
		if out.code != 0 {
			t.Fatalf("%s exited %d: %s%s", r.Env["CNI_COMMAND"], out.code, out.stdout, out.stderr)
		}
		if r.Env["CNI_COMMAND"] == "DEL" {
			continue
		}
		address := netip.MustParseAddr(addressOf(t, out))
		if !hasAddress(t, ns, in.ifname, address) {
			t.Errorf("%s of %s has no address %s", in.ifname, container, address)
		}
		var shapes struct {
			CNIVersion string `json:"cniVersion"`
			IPs        []any  `json:"ips"`
		}
		if err := json.Unmarshal([]byte(out.stdout), &shapes); err != nil {
			t.Fatal(err)
		}
		if isNew := strings.Contains(r.Stdin, `"cniVersion":"1.0.0"`); isNew != (len(shapes.IPs) > 0) {
			t.Errorf("result has %d ips: %s", len(shapes.IPs), out.stdout)
		}
	}
}

func hasAddress(t *testing.T, ns *nstest.NS, ifname string, want netip.Addr) bool {
	t.Helper()
	addresses, err := ns.Links.AddrList(ns.Link(ifname), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if got, _ := netip.AddrFromSlice(a.IP.To4()); got == want {
			return true
		}
	}
	return false
}

func TestNetForwardingGoesOnWithoutTheAgent(t *testing.T) {
	c := newCluster(t, 2)
	one := c.nodes[0]
	a, b := one.add("blue"), c.nodes[1].add("blue")
	eventually(t, "blue reaches blue", func() error { return a.ping(b) })
	before := one.ports()

	// Pings go on while the agent is killed, away, started and adopting.
	type result struct {
		out string
		err error
	}
	pings := make(chan result, 1)
	go func() {
		out, err := a.ns.Run("ping", "-i0.02", "-c150", "-W1", b.address)
		pings <- result{out, err}
	}()
	one.kill()
	one.start()
	one.ready()
	if r := <-pings; r.err != nil || !strings.Contains(r.out, " 0% packet loss") {
		t.Errorf("pings were lost: %v\n%s", r.err, r.out)
	}
	after := one.ports()
	if len(after) != 1 || after[0].ID != before[0].ID || after[0].HostIndex != before[0].HostIndex {
		t.Errorf("port before %+v, after %+v", before, after)
	}
	// New ports work beside the adopted ones.
	d := one.add("blue")
	eventually(t, "a new port reaches the other node", func() error { return d.ping(b) })
}

func TestNetAgentAway(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	a := n.add("blue")
	n.kill()
	in := call{uuid.NewString(), "eth0", nstest.New(t, "container").Path(), onNetwork("blue")}
	out := n.plugin("ADD", in)
	wantError(t, out, "vRouter agent", n.socket())
	if out := n.plugin("DEL", in); out.code != 0 {
		t.Errorf("DEL of what failed exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	if out := n.plugin("DEL", a.call); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	if taps := n.taps(); len(taps) != 0 {
		t.Errorf("interfaces are left without an agent: %v", taps)
	}
	if queue, err := portapi.ReadQueue(n.queue()); err != nil || len(queue) != 2 {
		t.Errorf("queue has %v (%v), want both", queue, err)
	}
	n.start()
	n.ready()
	eventually(t, "the agent makes up for it", c.clean)
}

func wantError(t *testing.T, out outcome, texts ...string) {
	t.Helper()
	var e struct {
		CNIVersion string `json:"cniVersion"`
		Code       int
		Msg        string
	}
	if err := json.Unmarshal([]byte(out.stdout), &e); err != nil || out.code == 0 || e.Code == 0 || e.CNIVersion == "" {
		t.Fatalf("exited %d and wrote no error: %q %s", out.code, out.stdout, out.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(e.Msg, text) {
			t.Errorf("error %q does not say %q", e.Msg, text)
		}
	}
}

func TestNetManagerAway(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	a, b := n.add("blue"), n.add("blue")
	eventually(t, "blue reaches blue", func() error { return a.ping(b) })
	c.controllers.stop()
	in := call{uuid.NewString(), "eth0", nstest.New(t, "container").Path(), onNetwork("blue")}
	out := n.plugin("ADD", in)
	wantError(t, out, "Mesos manager", managerAddress)
	if err := a.ping(b); err != nil {
		t.Errorf("forwarding ended with the controllers: %v", err)
	}
	if out := n.plugin("DEL", a.call); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	if taps := n.taps(); len(taps) != 1 {
		t.Errorf("interfaces %v, want that of the other container", taps)
	}
	c.serve()
	eventually(t, "the queued release is confirmed", func() error {
		if left := c.controllers.count(); left != 1 {
			return fmt.Errorf("%d attachments", left)
		}
		return nil
	})
	if out := n.plugin("DEL", b.call); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	eventually(t, "nothing is left", c.clean)
}

// TestNetKilledAdd kills the plugin while the manager is at work, and lets DEL
// come before the manager has finished.
func TestNetKilledAdd(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	entered := make(chan struct{})
	release := make(chan struct{})
	c.controllers.setBefore(func(context.Context) error {
		close(entered)
		<-release // as a manager that does not notice that nobody waits
		return nil
	})
	in := call{uuid.NewString(), "eth0", nstest.New(t, "container").Path(), onNetwork("blue")}
	cmd := n.command("ADD", in)
	if err := n.ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	<-entered
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if out := n.plugin("DEL", in); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	close(release)
	eventually(t, "nothing is left", c.clean)
}

// TestNetAgentKilledInTheMiddleOfAdd: the manager finishes what the agent asked
// for and cannot remember; the next report releases it.
func TestNetAgentKilledInTheMiddleOfAdd(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	keep := n.add("blue")
	entered, release := make(chan struct{}), make(chan struct{})
	c.controllers.setBefore(func(context.Context) error {
		close(entered)
		<-release
		return nil
	})
	in := call{uuid.NewString(), "eth0", nstest.New(t, "container").Path(), onNetwork("blue")}
	cmd := n.command("ADD", in)
	if err := n.ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	<-entered
	n.kill()
	if err := cmd.Wait(); err == nil {
		t.Error("ADD succeeded without an agent")
	}
	close(release)
	eventually(t, "the manager has finished", func() error {
		if got := c.controllers.count(); got != 2 {
			return fmt.Errorf("%d attachments", got)
		}
		return nil
	})
	c.controllers.setBefore(nil)
	n.start()
	n.ready()
	eventually(t, "what nobody knows is released", func() error {
		if got := c.controllers.count(); got != 1 {
			return fmt.Errorf("%d attachments", got)
		}
		return nil
	})
	if out := n.plugin("DEL", keep.call); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	eventually(t, "nothing is left", c.clean)
}

func TestNetRefusalReachesTheCaller(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.controllers.setBefore(func(context.Context) error {
		return connect.NewError(connect.CodeInvalidArgument, errors.New(`label network-subnets: "10.1/99" is no subnet`))
	})
	in := call{uuid.NewString(), "eth0", nstest.New(t, "container").Path(), onNetwork("blue")}
	wantError(t, n.plugin("ADD", in), `label network-subnets: "10.1/99" is no subnet`)
	eventually(t, "nothing is left", c.clean)
	in.netns = "/proc/self/ns/net"
	wantError(t, n.plugin("ADD", in), "CNI_NETNS", "the node's own")
	in.netns = "/etc/passwd"
	wantError(t, n.plugin("ADD", in), "CNI_NETNS", "not a namespace")
	in.netns = "/proc/999999999/ns/net"
	wantError(t, n.plugin("ADD", in), "CNI_NETNS", "no such file")
	if out := n.plugin("DEL", in); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
}

// TestNetParallelAdds runs the networks of one container at the same time, as
// the isolator does.
func TestNetParallelAdds(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	ns := nstest.New(t, "container")
	id := uuid.NewString()
	calls := []call{
		{id, "eth0", ns.Path(), onNetwork("blue")},
		{id, "eth1", ns.Path(), onNetwork("red")},
	}
	both := func(verb string) []outcome {
		outcomes := make([]outcome, len(calls))
		var wait sync.WaitGroup
		for i := range calls {
			wait.Go(func() {
				var err error
				if outcomes[i], err = n.tryPlugin(verb, calls[i]); err != nil {
					t.Errorf("%s: %v", verb, err)
				}
			})
		}
		wait.Wait()
		return outcomes
	}
	for i, out := range both("ADD") {
		if !hasAddress(t, ns, calls[i].ifname, netip.MustParseAddr(addressOf(t, out))) {
			t.Errorf("%s has not the address of the result", calls[i].ifname)
		}
	}
	routes, err := ns.Run("ip", "route", "show", "default")
	if err != nil || strings.Count(routes, "default") != 1 || !strings.Contains(routes, "dev eth0") {
		t.Errorf("default routes %q (%v), want one, by eth0", routes, err)
	}
	// The same again changes nothing.
	again := n.plugin("ADD", calls[0])
	if !hasAddress(t, ns, "eth0", netip.MustParseAddr(addressOf(t, again))) || len(n.ports()) != 2 {
		t.Errorf("a repeated ADD answers %s, and there are %d ports", again.stdout, len(n.ports()))
	}
	for _, out := range both("DEL") {
		if out.code != 0 {
			t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
		}
	}
	eventually(t, "nothing is left", c.clean)
}

// TestNetNamespaceEndsWithoutDEL is what a killed Mesos agent leaves.
func TestNetNamespaceEndsWithoutDEL(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	a := n.add("blue")
	// The container's end of the pair goes with its namespace.
	if err := a.ns.Links.LinkDel(a.ns.Link("eth0")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port and the attachment go", c.clean)
}

func TestNetGraphRemovesPort(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	a, b := n.add("blue"), n.add("blue")
	eventually(t, "blue reaches blue", func() error { return a.ping(b) })
	c.controllers.remove(placeOf(n.uuid, a.container, "eth0"))
	eventually(t, "the port goes", func() error {
		if ports := n.ports(); len(ports) != 1 {
			return fmt.Errorf("%d ports", len(ports))
		}
		return nil
	})
	if taps := n.taps(); len(taps) != 1 {
		t.Errorf("interfaces %v, want one", taps)
	}
	// A session that is lost and comes back removes nothing more.
	c.controllers.stop()
	c.serve()
	n.ready()
	if ports := n.ports(); len(ports) != 1 {
		t.Errorf("%d ports after a new session", len(ports))
	}
}

// TestNetNewNamespaceOfContainer: the same container in a new namespace keeps
// its address, and a late DEL of the old one does not touch it.
func TestNetNewNamespaceOfContainer(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	peer := n.add("blue")
	old := n.add("blue")
	again := old.call
	ns := nstest.New(t, "container")
	again.netns = ns.Path()
	out := n.plugin("ADD", again)
	if address := addressOf(t, out); address != old.address {
		t.Errorf("address %s, had %s", address, old.address)
	}
	if out := n.plugin("DEL", old.call); out.code != 0 {
		t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	now := &container{call: again, ns: ns, address: old.address}
	eventually(t, "the new one is reached", func() error { return peer.ping(now) })
	for _, in := range []call{again, peer.call} {
		if out := n.plugin("DEL", in); out.code != 0 {
			t.Errorf("DEL exited %d: %s%s", out.code, out.stdout, out.stderr)
		}
	}
	eventually(t, "nothing is left", c.clean)
}
