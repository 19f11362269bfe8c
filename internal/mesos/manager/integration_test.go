package manager

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/internal/configapi"
	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/internal/store/storetest"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// controller is the real configuration API and a control node on a real store.
type controller struct {
	*bed
	run         func(what string, part func(context.Context) error)
	attachments configv1connect.AttachmentsClient
	control     string // address
	base        string
	web         *http.Client
}

// newController replaces the configuration API of a bed by the real one.
func newController(t *testing.T) *controller {
	// Paths of sockets are short.
	dir, err := os.MkdirTemp("", "manager")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &controller{bed: &bed{t: t}}
	if c.authority, err = ctls.OpenAuthority(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	t.Cleanup(func() { cancel(); parts.Wait() })
	c.run = func(what string, part func(context.Context) error) {
		parts.Go(func() {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	endpoint := storetest.Start(t) // which outlives its clients
	st, err := store.Open(ctx, log, store.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	api, err := configapi.New(log, st, configapi.Config{Rest: time.Hour, Tombstone: time.Hour, Pool: netip.MustParsePrefix("10.32.0.0/12")})
	if err != nil {
		t.Fatal(err)
	}
	c.run("configuration API", api.Run)
	c.serveOn(log, serve.Config{Unix: filepath.Join(dir, "config.sock")}, api.Handler())
	if c.web, c.base, err = serve.Client("unix:"+filepath.Join(dir, "config.sock"), nil, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.web.CloseIdleConnections)
	c.attachments = configv1connect.NewAttachmentsClient(c.web, c.base)

	graph := model.NewGraph()
	node := control.New(log, control.Config{KeepAlive: 10 * time.Millisecond}, graph)
	c.run("routes", node.Run)
	c.run("store of control", func(ctx context.Context) error { return st.Follow(ctx, node.Recovery(), store.Into(log, graph)) })
	c.control = freeAddress(t)
	c.serveOn(log, serve.Config{TLS: c.control, Credentials: c.credentials(ctls.RoleController, "")}, node.Handler())

	m := New(log, Config{Defaults: defaults}, c.attachments, configv1connect.NewNodesClient(c.web, c.base), configv1connect.NewRecoveryClient(c.web, c.base))
	c.address = freeAddress(t)
	c.serveOn(log, serve.Config{TLS: c.address, Credentials: c.credentials(ctls.RoleManager, "")}, m.Handler())
	return c
}

func (c *controller) serveOn(log *slog.Logger, cfg serve.Config, handler http.Handler) {
	server, err := serve.Listen(log, cfg, handler)
	if err != nil {
		c.t.Fatal(err)
	}
	c.run("server", server.Run)
}

func (c *controller) join(id, name, address string) *node {
	c.t.Helper()
	n := c.stranger(ctls.RoleNode, id)
	n.name = name
	if _, err := n.rpc.Report(context.Background(), connect.NewRequest(&managerv1.ReportRequest{
		Name: name, Address: address, FabricMtu: 1500, BootId: "boot-1",
	})); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// routes opens a session of the node with control and returns a function that
// reads until a route to the address comes, or goes.
func (c *controller) routes(id string) (wait func(prefix string, there bool) string, up func(iface string)) {
	client, base, err := serve.Client(c.control, c.credentials(ctls.RoleNode, id), true, ctls.RoleController)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var stream *connect.BidiStreamForClient[controlv1.AgentMessage, controlv1.ControlMessage]
	var first *controlv1.ControlMessage
	for first == nil { // until control has read the store
		stream = controlv1connect.NewControlClient(client, base).Session(ctx)
		err = stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_Hello{Hello: &controlv1.Hello{BootId: "boot-1"}}})
		if err == nil || errors.Is(err, io.EOF) {
			first, err = stream.Receive()
		}
		if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
			c.t.Fatal(err)
		}
	}
	c.t.Cleanup(func() {
		cancel()
		stream.CloseRequest()
		stream.CloseResponse()
		client.CloseIdleConnections()
	})
	table := map[string]string{}
	wait = func(prefix string, there bool) string {
		c.t.Helper()
		for (table[prefix] != "") != there {
			m, err := stream.Receive()
			if err != nil {
				c.t.Fatalf("waiting for %s: %v", prefix, err)
			}
			if r := m.GetRoute(); r != nil {
				table[r.Prefix] = r.Paths[0].NextHop
			}
			if r := m.GetRouteGone(); r != nil {
				delete(table, r.Prefix)
			}
		}
		return table[prefix]
	}
	up = func(iface string) {
		if err := stream.Send(&controlv1.AgentMessage{Body: &controlv1.AgentMessage_PortStatus{
			PortStatus: &controlv1.PortStatus{InterfaceId: iface, State: controlv1.PortStatus_STATE_UP},
		}}); err != nil {
			c.t.Error(err)
		}
	}
	return wait, up
}

func (c *controller) list() *configv1.ListResponse {
	c.t.Helper()
	res, err := c.attachments.List(context.Background(), connect.NewRequest(&configv1.ListRequest{Inactive: true}))
	if err != nil {
		c.t.Fatal(err)
	}
	return res.Msg
}

// TestWithRealController goes from a node's request to the other node's routes
// and back, with nothing between that was made for tests.
func TestWithRealController(t *testing.T) {
	t.Parallel()
	c := newController(t)
	one := c.join("11111111-1111-4111-8111-111111111111", "contrail-node-1", "172.31.0.11")
	two := c.join("22222222-2222-4222-8222-222222222222", "contrail-node-2", "172.31.0.12")
	before := c.networks()

	a, err := one.attach(blue("11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"default-domain", "mesos-default", "blue"}; !slices.Equal(a.NetworkFqName, want) || a.Vrf == 0 || a.Label < 16 {
		t.Errorf("attachment %v", a)
	}
	wait, up := c.routes(one.id)
	_, upTwo := c.routes(two.id)
	if hop := wait(a.Addresses[0].Address+"/32", true); hop != "172.31.0.11" {
		t.Errorf("own route leads to %s", hop)
	}
	b, err := two.attach(blue("22222222-aaaa-4aaa-8aaa-aaaaaaaaaaaa"))
	if err != nil {
		t.Fatal(err)
	}
	upTwo(b.InterfaceId)
	if hop := wait(b.Addresses[0].Address+"/32", true); hop != "172.31.0.12" {
		t.Errorf("the other node's route leads to %s", hop)
	}
	up(a.InterfaceId)

	// Bad requests: an error that names the label, and nothing left.
	for says, labels := range map[string][]string{
		"network-subnets": {"networks", "blue", "network-subnets", "10.99.0.0/24"},
		"domain-name":     {"networks", "new", "domain-name", "nowhere"},
	} {
		req := blue("bad")
		req.NetworkConfiguration = withLabels(t, labels...)
		_, err := one.attach(req)
		wantCode(t, err, connect.CodeInvalidArgument, says)
	}

	// DEL, and the ADD that comes after it.
	if d, err := two.detach("22222222-aaaa-4aaa-8aaa-aaaaaaaaaaaa"); err != nil || !d.Existed {
		t.Fatalf("detach: %v, %v", d, err)
	}
	wait(b.Addresses[0].Address+"/32", false)
	_, err = two.attach(blue("22222222-aaaa-4aaa-8aaa-aaaaaaaaaaaa"))
	wantCode(t, err, connect.CodeAlreadyExists, "was detached")

	// A foreign plugin.
	if code, text := two.post(t, "/add_cni_info", stringForm("ADD", "foreign-1", "contrail-node-2")); code != http.StatusOK || !strings.Contains(text, `"blue"`) {
		t.Errorf("add_cni_info: %d %s", code, text)
	}
	if code, text := two.post(t, "/add_cni_info", objectForm("ADD", "foreign-2", "contrail-node-1")); code != http.StatusForbidden {
		t.Errorf("add_cni_info for another node: %d %s", code, text)
	}
	if code, text := two.post(t, "/del_cni_info", stringForm("DEL", "foreign-1", "")); code != http.StatusOK {
		t.Errorf("del_cni_info: %d %s", code, text)
	}
	if code, text := two.post(t, "/add_cni_info", stringForm("ADD", "foreign-1", "")); code != http.StatusConflict {
		t.Errorf("add_cni_info after del_cni_info: %d %s", code, text)
	}

	// The first node's DEL was lost; its report says that the container is gone.
	listed := c.list()
	if len(listed.Attachments) != 1 {
		t.Fatalf("%d attachments, want 1: %v", len(listed.Attachments), listed.Attachments)
	}
	res, err := one.report(&managerv1.ReportRequest{BootId: "boot-1", Since: listed.Position})
	if err != nil || len(res.Released) != 1 {
		t.Fatalf("report: %v, %v", res, err)
	}
	listed = c.list()
	if len(listed.Attachments) != 0 || len(listed.Resting) == 0 {
		t.Errorf("left: %v; resting: %v", listed.Attachments, listed.Resting)
	}
	if after := c.networks(); after != before {
		t.Errorf("networks: %s, before: %s", after, before)
	}
}

// networks is what the configuration API says of them.
func (c *controller) networks() string {
	c.t.Helper()
	res, err := c.web.Get(c.base + "/virtual-networks?count=true")
	if err != nil {
		c.t.Fatal(err)
	}
	_, text := status(c.t, res)
	return text
}
