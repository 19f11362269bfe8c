package manager

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
)

const (
	// maxMessage bounds an RPC; a report of a full node is the largest.
	maxMessage = 4 << 20
	// compressFrom is the size of answers from which compressing them is worth
	// its time.
	compressFrom = 16 << 10
	// undoTimeout is how much longer than Config.Timeout a caller may wait.
	undoTimeout = 2 * time.Second
	// releases is how many attachments of one report are detached at a time.
	releases = 8
)

// DefaultTimeout is long enough for a configuration API that restarts, and
// shorter than what runtimes wait for a plugin.
const DefaultTimeout = 10 * time.Second

// Config is what a Manager needs to know.
type Config struct {
	Defaults Defaults
	// Timeout bounds one request to the configuration API, retries included;
	// 0 means DefaultTimeout.
	Timeout time.Duration
}

// Manager implements contrail.manager.v1.Manager and the REST contract of
// /add_cni_info. It has no state; it is safe for concurrent use.
type Manager struct {
	log         *slog.Logger
	cfg         Config
	attachments configv1connect.AttachmentsClient
	nodes       configv1connect.NodesClient
	recovery    configv1connect.RecoveryClient
	registry    *prometheus.Registry
	metrics     *metrics
}

var _ managerv1connect.ManagerHandler = (*Manager)(nil)

// New returns a manager that works against a configuration API.
func New(log *slog.Logger, cfg Config, attachments configv1connect.AttachmentsClient, nodes configv1connect.NodesClient, recovery configv1connect.RecoveryClient) *Manager {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	registry := prometheus.NewRegistry()
	return &Manager{
		log: log, cfg: cfg, attachments: attachments, nodes: nodes, recovery: recovery,
		registry: registry, metrics: newMetrics(registry),
	}
}

// Handler serves the RPC, the REST contract and /metrics. It expects requests
// from internal/serve, which says who is calling.
func (m *Manager) Handler() http.Handler {
	mux := http.NewServeMux()
	path, rpc := managerv1connect.NewManagerHandler(m,
		connect.WithReadMaxBytes(maxMessage), connect.WithCompressMinBytes(compressFrom), connect.WithInterceptors(m.metrics.interceptor()))
	mux.Handle(path, rpc)
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	m.registerREST(mux)
	return mux
}

// Attach gives a container of the calling node its interface.
func (m *Manager) Attach(ctx context.Context, req *connect.Request[managerv1.AttachRequest]) (*connect.Response[managerv1.AttachResponse], error) {
	node, err := callerNode(serve.CallerOf(ctx))
	if err != nil {
		return nil, err
	}
	conf, err := parseConfiguration(req.Msg.NetworkConfiguration)
	if err != nil {
		return nil, invalid(err)
	}
	res, err := m.attach(ctx, &configv1.AttachmentKey{
		Node: node, ContainerId: req.Msg.ContainerId, Interface: req.Msg.Interface,
		BootId: req.Msg.BootId, Namespace: req.Msg.Namespace,
	}, conf, req.Msg.Sequence)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&managerv1.AttachResponse{Attachment: res.Attachment, Position: res.Position}), nil
}

// attach makes the attachment, or leaves nothing. sequence is 0 if the order of
// the node's requests is not known.
func (m *Manager) attach(ctx context.Context, key *configv1.AttachmentKey, conf *networkConfiguration, sequence uint64) (*configv1.AttachResponse, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	network, err := conf.request(m.cfg.Defaults)
	if err != nil {
		return nil, invalid(err)
	}
	res, doubt, err := call(ctx, m, "attach", m.attachments.Attach, &configv1.AttachRequest{Key: key, Network: network, Sequence: sequence})
	if err == nil {
		m.log.Info("attached", "node", key.Node, "container", key.ContainerId, "interface", key.Interface,
			"project", network.Project, "network", network.Network, "revision", res.Position.GetRevision())
		return res, nil
	}
	m.log.Warn("attach failed", "node", key.Node, "container", key.ContainerId, "interface", key.Interface,
		"project", network.Project, "network", network.Network, "error", err)
	if doubt {
		m.undo(ctx, key, sequence)
	}
	return nil, err
}

// undo takes back an attachment whose request may have been carried out though
// its answer was lost. It tries once: what stays is released by DEL, which
// every runtime sends after a failed ADD, or by the node's next report.
func (m *Manager) undo(ctx context.Context, key *configv1.AttachmentKey, sequence uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if _, err := m.attachments.Detach(ctx, connect.NewRequest(&configv1.DetachRequest{Key: key, Sequence: sequence})); err != nil {
		m.log.Warn("undo of attach failed", "node", key.Node, "container", key.ContainerId, "interface", key.Interface, "error", err)
	}
}

// Detach takes an interface of the calling node back. Detaching what does not
// exist is success, and is remembered by the store.
func (m *Manager) Detach(ctx context.Context, req *connect.Request[managerv1.DetachRequest]) (*connect.Response[managerv1.DetachResponse], error) {
	node, err := callerNode(serve.CallerOf(ctx))
	if err != nil {
		return nil, err
	}
	res, err := m.detach(ctx, &configv1.AttachmentKey{
		Node: node, ContainerId: req.Msg.ContainerId, Interface: req.Msg.Interface,
		BootId: req.Msg.BootId, Namespace: req.Msg.Namespace,
	}, req.Msg.Sequence)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&managerv1.DetachResponse{Existed: res.Existed, Position: res.Position}), nil
}

func (m *Manager) detach(ctx context.Context, key *configv1.AttachmentKey, sequence uint64) (*configv1.DetachResponse, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	res, _, err := call(ctx, m, "detach", m.attachments.Detach, &configv1.DetachRequest{Key: key, Sequence: sequence})
	if err != nil {
		m.log.Warn("detach failed", "node", key.Node, "container", key.ContainerId, "interface", key.Interface, "error", err)
		return nil, err
	}
	m.log.Info("detached", "node", key.Node, "container", key.ContainerId, "interface", key.Interface, "existed", res.Existed)
	return res, nil
}

// Report joins the calling node and, given the position that the node had seen
// before it looked, releases what no longer lives there.
func (m *Manager) Report(ctx context.Context, req *connect.Request[managerv1.ReportRequest]) (*connect.Response[managerv1.ReportResponse], error) {
	node, err := callerNode(serve.CallerOf(ctx))
	if err != nil {
		return nil, err
	}
	joined, _, err := call(ctx, m, "join", m.nodes.Join, &configv1.JoinRequest{
		Node: node, Name: req.Msg.Name, Address: req.Msg.Address,
		FabricMtu: req.Msg.FabricMtu, BootId: req.Msg.BootId,
	})
	if err != nil {
		m.log.Warn("join failed", "node", node, "name", req.Msg.Name, "error", err)
		return nil, err
	}
	res := &managerv1.ReportResponse{Mtu: joined.Mtu, Position: joined.Position, Awaited: joined.Awaited}
	if req.Msg.Since == nil {
		return connect.NewResponse(res), nil
	}
	if joined.Awaited || len(req.Msg.Running) > 0 {
		if err := m.settle(ctx, node, req.Msg, res); err != nil {
			return nil, err
		}
	}
	if res.Awaited {
		return connect.NewResponse(res), nil // its next report follows at once
	}
	listed, _, err := call(ctx, m, "list", m.attachments.List, &configv1.ListRequest{Node: node})
	if err != nil {
		return nil, err
	}
	dead := notLive(node, req.Msg, listed)
	if err := m.release(ctx, dead, res); err != nil && !isSettling(err) {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// settle has the store learn what the node runs: after a restore it may not
// know all of it.
func (m *Manager) settle(ctx context.Context, node string, report *managerv1.ReportRequest, res *managerv1.ReportResponse) error {
	settled, _, err := call(ctx, m, "settle", m.recovery.Settle, &configv1.SettleRequest{
		Node: node, BootId: report.BootId, Seen: report.Since,
		Running: report.Running, Live: report.Live, Adding: report.Adding,
	})
	if err != nil {
		m.log.Warn("report after a restore failed", "node", node, "error", err)
		return err
	}
	for _, k := range settled.Adopted {
		m.log.Info("adopted after a restore", "node", node, "container", k.ContainerId, "interface", k.Interface)
	}
	for _, k := range settled.Released {
		m.metrics.released.Inc()
		m.log.Info("released by report after a restore", "node", node, "container", k.ContainerId, "interface", k.Interface)
	}
	res.Released, res.Drop, res.Conflicts = settled.Released, settled.Drop, settled.Conflicts
	res.Awaited = settled.Awaited
	if later(settled.Position, res.Position) {
		res.Position = settled.Position
	}
	return nil
}

// release detaches keys and records them, with the newest position, in res.
// A failure leaves the rest to the node's next report.
func (m *Manager) release(ctx context.Context, keys []*configv1.AttachmentKey, res *managerv1.ReportResponse) error {
	var group errgroup.Group
	group.SetLimit(releases)
	answers := make([]*configv1.DetachResponse, len(keys))
	for i, key := range keys {
		group.Go(func() (err error) {
			answers[i], _, err = call(ctx, m, "detach", m.attachments.Detach, &configv1.DetachRequest{Key: key})
			return err
		})
	}
	err := group.Wait()
	for i, answer := range answers {
		if answer == nil {
			continue
		}
		m.metrics.released.Inc()
		m.log.Info("released by report", "node", keys[i].Node, "container", keys[i].ContainerId, "interface", keys[i].Interface)
		res.Released = append(res.Released, keys[i])
		if later(answer.Position, res.Position) {
			res.Position = answer.Position
		}
	}
	return err
}

func later(a, b *typesv1.Position) bool {
	return a.GetEpoch() > b.GetEpoch() || a.GetEpoch() == b.GetEpoch() && a.GetRevision() > b.GetRevision()
}

// notLive picks the attachments of a node that its own report proves dead:
//
//   - Only those as old as what the node had seen before it looked, in the same
//     epoch of the store: the report cannot know of later ones, and after a
//     restore nothing is judged by what was seen before.
//   - An attachment of another boot of the node is dead: no namespace outlives
//     the kernel.
//   - Else it is dead if the report does not have its container and interface.
//     The namespace is not compared, since an ADD under way may be replacing it.
//   - What has no container was bound by a client of the API in the classic way:
//     no report of containers says anything about it.
//   - An attachment of a foreign plugin has no namespace that the report could
//     have; only the boot says something about it.
func notLive(node string, report *managerv1.ReportRequest, listed *configv1.ListResponse) []*configv1.AttachmentKey {
	if report.Since.Epoch != listed.Position.GetEpoch() {
		return nil
	}
	type endpoint struct{ container, ifname string }
	live := make(map[endpoint]bool, len(report.Live))
	for _, k := range report.Live {
		if k.BootId == "" || k.BootId == report.BootId {
			live[endpoint{k.ContainerId, k.Interface}] = true
		}
	}
	var dead []*configv1.AttachmentKey
	for _, a := range listed.Attachments {
		k := a.Key
		if k.GetNode() != node || k.GetContainerId() == "" || a.Revision > report.Since.Revision {
			continue
		}
		if sameBoot := k.BootId == "" || k.BootId == report.BootId; sameBoot &&
			(k.Namespace == foreignNamespace || live[endpoint{k.ContainerId, k.Interface}]) {
			continue
		}
		dead = append(dead, k)
	}
	return dead
}

// nodeNamed finds a node by UUID or name.
func (m *Manager) nodeNamed(ctx context.Context, name string) (*configv1.Node, error) {
	listed, _, err := call(ctx, m, "list nodes", m.nodes.List, &configv1.ListNodesRequest{})
	if err != nil {
		return nil, err
	}
	for _, n := range listed.Nodes {
		if n.Id == name || n.Name == name {
			return n, nil
		}
	}
	return nil, connect.NewError(connect.CodeFailedPrecondition,
		fmt.Errorf("node %q has not joined; start its vRouter agent, or see `contrail node list`", cut(name)))
}
