package manager

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const containerID = "1a75f068-28f2-4cc0-89a2-fc7b061e6caa"

func blue(container string) *managerv1.AttachRequest {
	return &managerv1.AttachRequest{
		ContainerId: container, Interface: "eth0", BootId: "boot-1", Namespace: "4:4026532001",
		NetworkConfiguration: []byte(`{"args":{"org.apache.mesos":{"network_info":{"name":"contrail","labels":{"labels":[{"key":"networks","value":"blue"}]}}}},"name":"contrail","type":"contrail"}`),
	}
}

func (n *node) attach(req *managerv1.AttachRequest) (*configv1.Attachment, error) {
	res, err := n.rpc.Attach(context.Background(), connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg.Attachment, nil
}

func (n *node) detach(container string) (*managerv1.DetachResponse, error) {
	res, err := n.rpc.Detach(context.Background(), connect.NewRequest(&managerv1.DetachRequest{
		ContainerId: container, Interface: "eth0", BootId: "boot-1", Namespace: "4:4026532001",
	}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func (n *node) report(req *managerv1.ReportRequest) (*managerv1.ReportResponse, error) {
	req.Name, req.Address, req.FabricMtu = n.name, "172.31.0.11", 1500
	res, err := n.rpc.Report(context.Background(), connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func TestAttachIsThereWhenAnswered(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	got, err := n.attach(blue(containerID))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"default-domain", "mesos-default", "blue"}; !slices.Equal(got.NetworkFqName, want) {
		t.Errorf("network is %v, want %v", got.NetworkFqName, want)
	}
	if got.Key.Node != n.id {
		t.Errorf("node is %s, want the certificate's %s", got.Key.Node, n.id)
	}
	if len(b.config.attached) != 1 || !b.config.requests[0].Network.CreateMissing {
		t.Errorf("configuration API has %d attachments after the answer, create_missing %t", len(b.config.attached), b.config.requests[0].Network.CreateMissing)
	}
	again, err := n.attach(blue(containerID))
	if err != nil {
		t.Fatal(err)
	}
	if again.Addresses[0].Address != got.Addresses[0].Address || len(b.config.attached) != 1 {
		t.Errorf("repeated ADD got %v, want %v", again.Addresses, got.Addresses)
	}
	if d, err := n.detach(containerID); err != nil || !d.Existed {
		t.Fatalf("detach: %v, %v", d, err)
	}
	if d, err := n.detach(containerID); err != nil || d.Existed {
		t.Fatalf("second detach: %v, %v", d, err)
	}
	if len(b.config.attached) != 0 {
		t.Errorf("%d attachments after detach", len(b.config.attached))
	}
}

// TestRecordedCalls feeds what a real Mesos agent gave its plugin.
func TestRecordedCalls(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/cni-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			type call struct {
				Env   map[string]string
				Stdin string
			}
			var recording struct {
				PluginCalls []call `json:"plugin_calls"`
				CNICalls    []call `json:"cni_calls"`
			}
			if err := json.Unmarshal(data, &recording); err != nil {
				t.Fatal(err)
			}
			b := newBed(t, Config{})
			n := b.node("contrail-node-1")
			for _, c := range append(recording.PluginCalls, recording.CNICalls...) {
				if c.Env["CNI_COMMAND"] == "ADD" {
					_, err = n.attach(&managerv1.AttachRequest{
						ContainerId: c.Env["CNI_CONTAINERID"], Interface: c.Env["CNI_IFNAME"], BootId: "boot-1",
						Namespace: "4:4026532001", NetworkConfiguration: []byte(c.Stdin),
					})
				} else {
					_, err = n.rpc.Detach(context.Background(), connect.NewRequest(&managerv1.DetachRequest{
						ContainerId: c.Env["CNI_CONTAINERID"], Interface: c.Env["CNI_IFNAME"], BootId: "boot-1",
					}))
				}
				if err != nil {
					t.Fatalf("%s: %v", c.Env["CNI_COMMAND"], err)
				}
			}
			if len(b.config.attached) != 0 {
				t.Errorf("%d attachments are left", len(b.config.attached))
			}
			if filepath.Base(file) == "cni-04-requested-ip-addresses.json" {
				if got := b.config.requests[0].Network.Address; got != "10.90.0.77" {
					t.Errorf("requested address %q, want 10.90.0.77", got)
				}
			}
		})
	}
}

func TestOnlyNodesSpeakRPC(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	for _, role := range []string{ctls.RoleMarathon, ctls.RoleManager, ctls.RoleAdmin} {
		_, err := b.stranger(role, "").attach(blue(containerID))
		wantCode(t, err, connect.CodePermissionDenied, role, "node's certificate")
	}
	_, err := b.admin().attach(blue(containerID))
	wantCode(t, err, connect.CodePermissionDenied)
	if len(b.config.requests) != 0 {
		t.Error("a refused caller reached the configuration API")
	}
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	long := func(r *managerv1.AttachRequest) { r.ContainerId = string(make([]byte, 300)) }
	for name, c := range map[string]struct {
		change func(*managerv1.AttachRequest)
		says   string
	}{
		"no container":          {func(r *managerv1.AttachRequest) { r.ContainerId = "" }, "container_id is empty"},
		"path as container":     {func(r *managerv1.AttachRequest) { r.ContainerId = "../../etc" }, "container_id"},
		"slash in container":    {func(r *managerv1.AttachRequest) { r.ContainerId = "a/b" }, `'/'`},
		"long container":        {long, "300 bytes"},
		"no interface":          {func(r *managerv1.AttachRequest) { r.Interface = "" }, "interface is empty"},
		"long interface":        {func(r *managerv1.AttachRequest) { r.Interface = "ethernet-number-1" }, "at most 15"},
		"interface with spaces": {func(r *managerv1.AttachRequest) { r.Interface = "eth 0" }, "interface"},
		"namespace of words":    {func(r *managerv1.AttachRequest) { r.Namespace = "a b" }, "namespace"},
		"configuration no JSON": {func(r *managerv1.AttachRequest) { r.NetworkConfiguration = []byte("{") }, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := blue(containerID)
			c.change(req)
			_, err := n.attach(req)
			wantCode(t, err, connect.CodeInvalidArgument, c.says)
		})
	}
	if len(b.config.requests) != 0 {
		t.Error("a refused request reached the configuration API")
	}
}

func TestAttachTriesAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []connect.Code{connect.CodeUnavailable, connect.CodeAborted} {
		b := newBed(t, Config{})
		b.config.attachError = func(try int) error {
			if try < 4 {
				return connect.NewError(code, errors.New("not now"))
			}
			return nil
		}
		if _, err := b.node("contrail-node-1").attach(blue(containerID)); err != nil {
			t.Errorf("%s three times: %v", code, err)
		}
	}
}

func TestErrorsPassUnchanged(t *testing.T) {
	t.Parallel()
	for _, code := range []connect.Code{
		connect.CodeInvalidArgument, connect.CodeResourceExhausted, connect.CodeAlreadyExists,
		connect.CodePermissionDenied, connect.CodeFailedPrecondition, connect.CodeNotFound,
	} {
		b := newBed(t, Config{})
		b.config.attachError = func(int) error { return connect.NewError(code, errors.New("network blue: pool 10.32.0.0/20 is full")) }
		_, err := b.node("contrail-node-1").attach(blue(containerID))
		wantCode(t, err, code, "network blue: pool 10.32.0.0/20 is full")
		if b.config.tries != 1 {
			t.Errorf("%s was tried %d times", code, b.config.tries)
		}
	}
}

func TestConfigurationAPIDown(t *testing.T) {
	t.Parallel()
	b := newBed(t, short())
	n := b.node("contrail-node-1")
	b.configWeb.Close()
	start := time.Now()
	_, err := n.attach(blue(containerID))
	wantCode(t, err, connect.CodeUnavailable, "configuration API did not answer within 2s", "contrail status")
	if took := time.Since(start); took < short().Timeout {
		t.Errorf("gave up after %s", took)
	}
	_, err = n.detach(containerID)
	wantCode(t, err, connect.CodeUnavailable, "configuration API")
}

// TestLostAnswer: the transaction was made, its answer never came. The caller
// gets an error, so nothing may be left.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	b := newBed(t, short())
	b.config.afterAttach = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := b.node("contrail-node-1").attach(blue(containerID))
	wantCode(t, err, connect.CodeUnavailable)
	if len(b.config.attached) != 0 {
		t.Error("the attachment is left after the error")
	}
}

// TestCallerLeaves: the agent dies while its ADD is under way.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	taken := make(chan struct{})
	b.config.afterDetach = func() { close(taken) }
	ctx, cancel := context.WithCancel(context.Background())
	b.config.afterAttach = func(inner context.Context) error {
		cancel()
		<-inner.Done()
		return inner.Err()
	}
	_, err := n.rpc.Attach(ctx, connect.NewRequest(blue(containerID)))
	wantCode(t, err, connect.CodeCanceled)
	<-taken
	b.wantAttached(0)
}

func TestReportJoins(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.stranger(ctls.RoleNode, "c0ffee00-0000-4000-8000-000000000001")
	n.name = "contrail-node-7"
	res, err := n.report(&managerv1.ReportRequest{BootId: "boot-1"})
	if err != nil {
		t.Fatal(err)
	}
	if res.Mtu != 1468 || b.config.nodes[n.id].GetName() != "contrail-node-7" {
		t.Errorf("mtu %d, node %v", res.Mtu, b.config.nodes[n.id])
	}
	if len(res.Released) != 0 {
		t.Errorf("a report that only joins released %v", res.Released)
	}
}

func TestReportReleases(t *testing.T) {
	t.Parallel()
	since := &typesv1.Position{Epoch: 1, Revision: 100}
	key := func(boot, namespace string) *configv1.AttachmentKey {
		return &configv1.AttachmentKey{ContainerId: containerID, Interface: "eth0", BootId: boot, Namespace: namespace}
	}
	for name, c := range map[string]struct {
		key      *configv1.AttachmentKey
		revision uint64
		live     *configv1.AttachmentKey
		since    *typesv1.Position
		released bool
	}{
		"dead":                            {key("boot-1", "4:1"), 50, nil, since, true},
		"live":                            {key("boot-1", "4:1"), 50, key("boot-1", "4:1"), since, false},
		"made after the look":             {key("boot-1", "4:1"), 101, nil, since, false},
		"namespace being replaced":        {key("boot-1", "4:1"), 50, key("boot-1", "4:2"), since, false},
		"other container is live":         {key("boot-1", "4:1"), 50, &configv1.AttachmentKey{ContainerId: "x", Interface: "eth0"}, since, true},
		"older boot":                      {key("boot-0", "4:1"), 50, nil, since, true},
		"older boot claimed live":         {key("boot-0", "4:1"), 50, key("boot-0", "4:1"), since, true},
		"newer boot, old report":          {key("boot-2", "4:1"), 101, nil, since, false},
		"foreign caller's":                {key("boot-1", foreignNamespace), 50, nil, since, false},
		"foreign caller's, of older boot": {key("boot-0", foreignNamespace), 50, nil, since, true},
		"other epoch":                     {key("boot-1", "4:1"), 50, nil, &typesv1.Position{Epoch: 2, Revision: 100}, false},
		"nothing seen":                    {key("boot-0", "4:1"), 50, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, Config{})
			b.config.revision = 200
			n, other := b.node("contrail-node-1"), b.node("contrail-node-2")
			for _, node := range []string{n.id, other.id} {
				k := key(c.key.BootId, c.key.Namespace)
				k.Node = node
				b.config.attached[endpointOf(k)] = &configv1.Attachment{Key: k, Revision: c.revision}
			}
			report := &managerv1.ReportRequest{BootId: "boot-1", Since: c.since}
			if c.live != nil {
				report.Live = append(report.Live, c.live)
			}
			res, err := n.report(report)
			if err != nil {
				t.Fatal(err)
			}
			if released := len(res.Released) == 1; released != c.released || len(b.config.attached) != 2-len(res.Released) {
				t.Errorf("released %v, want %t; %d attachments left", res.Released, c.released, len(b.config.attached))
			}
			if b.config.attached[other.id+"/"+containerID+"/eth0"] == nil {
				t.Error("the other node's attachment was released")
			}
		})
	}
}

// What a client bound in the classic way has no container; no report of a
// node's containers is evidence against it.
func TestReportLeavesClassicBindings(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	b.config.revision = 200
	n := b.node("contrail-node-1")
	k := &configv1.AttachmentKey{Node: n.id}
	b.config.attached[endpointOf(k)] = &configv1.Attachment{Key: k, Revision: 50}
	for _, boot := range []string{"boot-1", "boot-2"} {
		res, err := n.report(&managerv1.ReportRequest{BootId: boot, Since: &typesv1.Position{Epoch: 1, Revision: 100}})
		if err != nil || len(res.Released) != 0 || len(b.config.attached) != 1 {
			t.Errorf("report released %v (%v)", res.GetReleased(), err)
		}
	}
}

func TestSequencePasses(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	req := blue(containerID)
	req.Sequence = 7
	mustAttach(t, n, req)
	if got := b.config.requests[0].Sequence; got != 7 {
		t.Errorf("attached with sequence %d", got)
	}
	_, err := n.rpc.Detach(t.Context(), connect.NewRequest(&managerv1.DetachRequest{ContainerId: containerID, Interface: "eth0", Sequence: 8}))
	if err != nil || b.config.detached[0].Sequence != 8 {
		t.Errorf("detached with %v (%v)", b.config.detached, err)
	}
}

func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	req := blue(containerID)
	req.NetworkConfiguration = make([]byte, maxMessage+1)
	_, err := n.attach(req)
	wantCode(t, err, connect.CodeResourceExhausted)
	code, text := n.post(t, "/add_cni_info", `{"cid":"`+string(slices.Repeat([]byte("a"), maxBody))+`"}`)
	if code != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: %d %s", code, text)
	}
}
