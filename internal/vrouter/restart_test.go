package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// controlNode is a real control node over a graph that the test makes.
type controlNode struct {
	*testing.T
	graph     *model.Graph
	revision  uint64
	authority *ctls.Authority
	address   string
}

func newControlNode(t *testing.T) *controlNode {
	authority, err := ctls.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &controlNode{T: t, graph: model.NewGraph(), authority: authority}
	number := int64(1)
	c.revision++
	c.graph.Reset(model.Batch{
		Position: model.Position{Epoch: 1, Revision: c.revision},
		Objects: []model.Object{&model.VirtualNetwork{
			Meta: model.Meta{UUID: model.DerivedUUID("blue"), FQName: []string{"d", "p", "blue"}}, VirtualNetworkNetworkID: &number,
		}},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = l.Addr().String()
	l.Close()
	node := control.New(quiet(), control.Config{KeepAlive: 10 * time.Millisecond}, c.graph)
	server, err := serve.Listen(quiet(), serve.Config{TLS: c.address, Credentials: c.credentials(ctls.RoleController, "")}, node.Handler())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, part := range []func(context.Context) error{node.Run, server.Run} {
		parts.Go(func() {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); parts.Wait() })
	return c
}

func (c *controlNode) credentials(role, node string) *ctls.Credentials {
	c.Helper()
	dir := c.TempDir()
	if err := c.authority.Issue(dir, role, node); err != nil {
		c.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(dir)
	if err != nil {
		c.Fatal(err)
	}
	return credentials
}

func (c *controlNode) apply(b model.Batch) {
	c.revision++
	b.Position = model.Position{Epoch: 1, Revision: c.revision}
	c.graph.Apply(b)
}

// agents returns what starts agents of a node, one after the other.
func (c *controlNode) agents(node, dir string, links *fakeLinks) func(plane *fakePlane, change ...func(*Agent)) (a *Agent, stop func()) {
	credentials := c.credentials(ctls.RoleNode, node)
	return func(plane *fakePlane, change ...func(*Agent)) (a *Agent, stop func()) {
		a, err := newAgent(quiet(), Config{
			Name: "own", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Underlay: "eth0",
			Address: netip.MustParseAddr(ownAddress), Manager: "127.0.0.1:1", Control: []string{c.address}, Credentials: credentials,
		}, plane, links)
		if err != nil {
			c.Fatal(err)
		}
		for _, f := range change {
			f(a)
		}
		stop = sync.OnceFunc(startAgent(c.T, a))
		c.Cleanup(stop)
		return a, stop
	}
}

// attach binds an interface with an address to a node.
func (c *controlNode) attach(node, iface, address string, label uint32) {
	c.apply(attachmentBatch(node, iface, address, label))
}

func attachmentBatch(node, iface, address string, label uint32) model.Batch {
	vm := &model.VirtualMachine{Meta: model.Meta{UUID: model.DerivedUUID("vm", iface), FQName: []string{iface}}}
	vmi := &model.VirtualMachineInterface{Meta: model.Meta{UUID: iface, FQName: []string{"d", "p", iface}}}
	ip := &model.InstanceIP{Meta: model.Meta{UUID: model.DerivedUUID("ip", iface), FQName: []string{iface}}, InstanceIPAddress: address}
	vn := model.Entity{Kind: model.KindVirtualNetwork, UUID: model.DerivedUUID("blue")}
	return model.Batch{
		Objects: []model.Object{vm, vmi, ip},
		References: []model.Reference{
			{From: model.EntityOf(vmi), To: vn},
			{From: model.EntityOf(vmi), To: model.EntityOf(vm)},
			{From: model.EntityOf(ip), To: vn},
			{From: model.EntityOf(ip), To: model.EntityOf(vmi)},
		},
		Bindings: []model.Binding{{
			Interface: iface, Machine: vm.UUID, Node: node, Label: label, ContainerID: iface, IfName: "eth0", BootID: "b", Namespace: "4:1",
		}},
	}
}

// routesAt is what control tells a node of its routes: a prefix when there is
// one, with a minus before it when there is no more.
func (c *controlNode) routesAt(node string, ports ...string) <-chan string {
	client, base, err := serve.Client(c.address, c.credentials(ctls.RoleNode, node), true, ctls.RoleController)
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream := controlv1connect.NewControlClient(client, base, connect.WithGRPC()).Session(ctx)
	said, ended := make(chan string, 1000), make(chan struct{})
	c.Cleanup(func() { cancel(); <-ended; client.CloseIdleConnections() })
	messages := []*controlv1.AgentMessage{{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{BootId: "b"}}}}
	for _, id := range ports {
		status := &controlv1.PortStatus{InterfaceId: id, State: controlv1.PortStatus_STATE_UP}
		messages = append(messages, &controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{PortStatus: status}})
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			c.Fatal(err)
		}
	}
	go func() {
		defer close(ended)
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			if r := m.GetRoute(); r != nil {
				said <- r.GetPrefix()
			}
			if r := m.GetRouteGone(); r != nil {
				said <- "-" + r.GetPrefix()
			}
		}
	}()
	return said
}

// await reads until want comes, and returns what came before it.
func await(t *testing.T, said <-chan string, want string) (before []string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case s := <-said:
			if s == want {
				return before
			}
			before = append(before, s)
		case <-late:
			t.Fatalf("control did not say %s, but %v", want, before)
		}
	}
}

// TestRestartWithdrawsNothing: while an agent that starts has not looked at the
// data plane, the routes to its ports stay at the other nodes.
func TestRestartWithdrawsNothing(t *testing.T) {
	c := newControlNode(t)
	own, other := model.DerivedUUID("own"), model.DerivedUUID("other")
	c.apply(model.Batch{Nodes: []model.Node{
		{UUID: own, Name: "own", Address: ownAddress, FabricMTU: 1500, BootID: "b"},
		{UUID: other, Name: "other", Address: "172.31.0.12", FabricMTU: 1500, BootID: "b"},
	}})
	c.attach(own, "stays", "10.0.0.3", 23)
	c.attach(own, "disabled", "10.0.0.4", 24)
	c.attach(other, "elsewhere", "10.0.0.5", 16)
	said := c.routesAt(other, "elsewhere", "later")

	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap3", 4: "tap4"}}
	start := c.agents(own, dir, links)
	files := portFiles{filepath.Join(dir, "state", portsName)}
	plane := newFakePlane()
	first, stop := start(plane)
	for index, id := range map[int]string{3: "stays", 4: "disabled"} {
		r := portRecord(id, id, fmt.Sprintf("tap%d", index), index, first.bootID)
		port, _, err := r.port()
		if err := errors.Join(err, files.write(r)); err != nil {
			t.Fatal(err)
		}
		first.registry.put(r)
		first.ports.Set(index, port)
	}
	got := map[string]bool{}
	eventually(t, "both ports are announced", func() error {
		select {
		case s := <-said:
			got[s] = true
		default:
		}
		if !got["10.0.0.3/32"] || !got["10.0.0.4/32"] {
			return fmt.Errorf("announced %v", got)
		}
		return nil
	})
	for _, id := range []string{"stays", "disabled"} {
		eventually(t, "the ports are plugged", func() error {
			if states, _ := first.portWords(); states[id].state != controlv1.PortStatus_STATE_UP {
				return fmt.Errorf("%s is %v", id, states[id])
			}
			return nil
		})
	}
	policed := func(want int) {
		eventually(t, "the ports have their policies", func() error {
			known, err := plane.KnownPolicies()
			if len(known) != want || known[3].Identity != dataplane.NewIdentity(1, nil, nil) {
				return fmt.Errorf("they are %v, %w", known, err)
			}
			return nil
		})
	}
	policed(2)
	disabled := *first.registry.get("disabled")
	disabled.Disabled = true
	stop()
	if err := files.write(&disabled); err != nil {
		t.Fatal(err)
	}

	plane.listing = make(chan struct{})
	second, _ := start(plane)
	list := sync.OnceFunc(func() { close(plane.listing) })
	t.Cleanup(list) // the agent could not be stopped
	if gone := await(t, said, "-10.0.0.4/32"); slices.Contains(gone, "-10.0.0.3/32") {
		t.Error("the route of a port that is not looked at yet was withdrawn")
	}
	// Not known yet is no reason to take it away.
	policed(2)
	list()
	eventually(t, "the port is adopted", func() error {
		if states, _ := second.portWords(); states["stays"].state != controlv1.PortStatus_STATE_UP {
			return fmt.Errorf("it is %v", states["stays"])
		}
		return nil
	})
	c.attach(other, "later", "10.0.0.6", 17)
	if gone := await(t, said, "10.0.0.6/32"); slices.Contains(gone, "-10.0.0.3/32") {
		t.Error("the route of a port that was adopted was withdrawn")
	}
}
