package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/store/storetest"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// TestMain ignores what embedded etcd leaves running.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, storetest.Leaks...)
}

var defaults = Defaults{Domain: "default-domain", Project: "mesos-default", Network: "mesos-default-pod-task-network"}

// configServer keeps attachments and nodes the way the contract says, in
// memory; tests put failures in its way.
type configServer struct {
	mu         sync.Mutex
	revision   uint64
	epoch      uint64
	attached   map[string]*configv1.Attachment
	requests   []*configv1.AttachRequest
	detached   []*configv1.DetachRequest
	tombstones map[string]bool
	nodes      map[string]*configv1.Node
	// attachError is asked before an Attach, with the number of the try.
	attachError func(try int) error
	// afterAttach is asked when an Attach was carried out.
	afterAttach func(context.Context) error
	// afterDetach is called when a Detach was carried out.
	afterDetach func()
	tries       int
}

func newConfigServer() *configServer {
	return &configServer{
		epoch: 1, revision: 10, attached: map[string]*configv1.Attachment{},
		tombstones: map[string]bool{}, nodes: map[string]*configv1.Node{},
	}
}

func endpointOf(k *configv1.AttachmentKey) string {
	return k.Node + "/" + k.ContainerId + "/" + k.Interface
}

func (s *configServer) position() *typesv1.Position {
	return &typesv1.Position{Epoch: s.epoch, Revision: s.revision}
}

func (s *configServer) Attach(ctx context.Context, req *connect.Request[configv1.AttachRequest]) (*connect.Response[configv1.AttachResponse], error) {
	res, err := s.attach(req.Msg)
	if err == nil && s.afterAttach != nil {
		err = s.afterAttach(ctx)
	}
	return res, err
}

func (s *configServer) attach(req *configv1.AttachRequest) (*connect.Response[configv1.AttachResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.attachError != nil {
		if err := s.attachError(s.tries); err != nil {
			return nil, err
		}
	}
	s.requests = append(s.requests, req)
	id := endpointOf(req.Key)
	if req.Key.BootId == "" || req.Key.Namespace == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("boot_id and namespace are needed"))
	}
	if s.tombstones[id+req.Key.Namespace] || s.tombstones[id] {
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("container %s was detached", req.Key.ContainerId))
	}
	s.revision++
	a := s.attached[id]
	if a == nil {
		a = &configv1.Attachment{
			VirtualMachineId: req.Key.ContainerId, Label: 16 + uint32(len(s.attached)), Vrf: 1, Revision: s.revision,
			NetworkFqName: []string{req.Network.Domain, req.Network.Project, req.Network.Network},
			Addresses:     []*configv1.Address{{Address: fmt.Sprintf("10.32.0.%d", 3+len(s.attached)), PrefixLength: 20}},
		}
		s.attached[id] = a
	}
	a.Key = req.Key
	return connect.NewResponse(&configv1.AttachResponse{Attachment: a, Position: s.position()}), nil
}

func (s *configServer) Detach(_ context.Context, req *connect.Request[configv1.DetachRequest]) (*connect.Response[configv1.DetachResponse], error) {
	if s.afterDetach != nil {
		defer s.afterDetach() // when the lock is free again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	s.detached = append(s.detached, req.Msg)
	id := endpointOf(req.Msg.Key)
	a := s.attached[id]
	existed := a != nil && (req.Msg.Key.Namespace == "" || req.Msg.Key.Namespace == a.Key.Namespace)
	if existed {
		s.tombstones[id+a.Key.Namespace] = true
		delete(s.attached, id)
	}
	s.tombstones[id+req.Msg.Key.Namespace] = true
	return connect.NewResponse(&configv1.DetachResponse{Existed: existed, Position: s.position()}), nil
}

func (s *configServer) List(_ context.Context, req *connect.Request[configv1.ListRequest]) (*connect.Response[configv1.ListResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &configv1.ListResponse{Position: s.position()}
	for _, a := range s.attached {
		if req.Msg.Node == "" || req.Msg.Node == a.Key.Node {
			res.Attachments = append(res.Attachments, a)
		}
	}
	return connect.NewResponse(res), nil
}

// nodeServer is the Nodes service of a configServer.
type nodeServer struct{ *configServer }

func (s nodeServer) Join(_ context.Context, req *connect.Request[configv1.JoinRequest]) (*connect.Response[configv1.JoinResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	s.nodes[req.Msg.Node] = &configv1.Node{
		Id: req.Msg.Node, Name: req.Msg.Name, Address: req.Msg.Address, FabricMtu: req.Msg.FabricMtu, BootId: req.Msg.BootId,
	}
	return connect.NewResponse(&configv1.JoinResponse{Mtu: req.Msg.FabricMtu - 32, Position: s.position()}), nil
}

func (s nodeServer) List(context.Context, *connect.Request[configv1.ListNodesRequest]) (*connect.Response[configv1.ListNodesResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &configv1.ListNodesResponse{Position: s.position()}
	for _, n := range s.nodes {
		res.Nodes = append(res.Nodes, n)
	}
	return connect.NewResponse(res), nil
}

func (s nodeServer) Remove(context.Context, *connect.Request[configv1.RemoveNodeRequest]) (*connect.Response[configv1.RemoveNodeResponse], error) {
	return nil, connect.NewError(connect.CodeUnimplemented, errors.New("not of this test"))
}

// bed is a manager behind TLS, its configuration API, and the cluster's authority.
type bed struct {
	t         *testing.T
	config    *configServer
	authority *ctls.Authority
	address   string
	socket    string
	configWeb *httptest.Server
}

// node is a machine with a certificate, and a client for each contract.
type node struct {
	id   string
	name string
	rpc  managerv1connect.ManagerClient
	web  *http.Client
	base string
}

func newBed(t *testing.T, cfg Config) *bed {
	b := &bed{t: t, config: newConfigServer()}
	mux := http.NewServeMux()
	mux.Handle(configv1connect.NewAttachmentsHandler(b.config))
	mux.Handle(configv1connect.NewNodesHandler(nodeServer{b.config}))
	b.configWeb = httptest.NewServer(mux)
	t.Cleanup(b.configWeb.Close)

	var err error
	if b.authority, err = ctls.OpenAuthority(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	b.start(cfg)
	return b
}

// start runs one more manager, as after a restart of the process.
func (b *bed) start(cfg Config) (stop func()) {
	if cfg.Defaults == (Defaults{}) {
		cfg.Defaults = defaults
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	client := b.configWeb.Client()
	m := New(log, cfg, configv1connect.NewAttachmentsClient(client, b.configWeb.URL), configv1connect.NewNodesClient(client, b.configWeb.URL), configv1connect.NewRecoveryClient(client, b.configWeb.URL))

	b.address = freeAddress(b.t)
	b.socket = filepath.Join(b.t.TempDir(), "manager.sock")
	server, err := serve.Listen(log, serve.Config{
		TLS: b.address, Unix: b.socket, Credentials: b.credentials(ctls.RoleManager, ""),
	}, m.Handler())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				b.t.Error(err)
			}
		})
	}
	b.t.Cleanup(stop)
	return stop
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (b *bed) credentials(role, id string) *ctls.Credentials {
	dir := b.t.TempDir()
	if err := b.authority.Issue(dir, role, id); err != nil {
		b.t.Fatal(err)
	}
	c, err := ctls.LoadCredentials(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// node joins a machine, as its agent does at start.
func (b *bed) node(name string) *node {
	n := b.stranger(ctls.RoleNode, uuid.NewString())
	n.name = name
	b.config.nodes[n.id] = &configv1.Node{Id: n.id, Name: name, Address: "172.31.0.11", BootId: "boot-1"}
	return n
}

// stranger has a certificate of the cluster and has not joined.
func (b *bed) stranger(role, id string) *node {
	web, base, err := serve.Client(b.address, b.credentials(role, id), false, ctls.RoleManager)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(web.CloseIdleConnections)
	return &node{id: id, rpc: managerv1connect.NewManagerClient(web, base), web: web, base: base}
}

// admin speaks through the unix socket.
func (b *bed) admin() *node {
	web, base, err := serve.Client("unix:"+b.socket, nil, false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(web.CloseIdleConnections)
	return &node{rpc: managerv1connect.NewManagerClient(web, base), web: web, base: base}
}

func (n *node) post(t *testing.T, path, body string) (int, string) {
	t.Helper()
	res, err := n.web.Post(n.base+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return status(t, res)
}

func (n *node) get(t *testing.T, path string) (int, string) {
	t.Helper()
	res, err := n.web.Get(n.base + path)
	if err != nil {
		t.Fatal(err)
	}
	return status(t, res)
}

func status(t *testing.T, res *http.Response) (int, string) {
	t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func wantCode(t *testing.T, err error, code connect.Code, parts ...string) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != code {
		t.Fatalf("got error %v, want code %s", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// short is for tests that wait until the time is over, of which some expect an
// answer before.
func short() Config { return Config{Timeout: 2 * time.Second} }
