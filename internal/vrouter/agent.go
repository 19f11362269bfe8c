package vrouter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
	"github.com/contrail-mesos/contrail/internal/vrouter/records"
)

// Config of an agent. All fields are needed unless said otherwise.
type Config struct {
	// Name of the node, for people; the UUID comes from the credentials.
	Name string
	// RunDir holds the socket and the token, StateDir the ports and the queue.
	RunDir, StateDir string
	// Underlay is the device that carries the tunnels, Address the node's own
	// on it.
	Underlay string
	Address  netip.Addr
	// Manager and Control are host:port; of other control nodes these tell.
	Manager string
	Control []string
	// NATRefuse are prefixes of IPv4 that no task reaches by link-local services and
	// SNAT, beside the addresses of nodes and controllers that are known.
	NATRefuse []netip.Prefix
	// Collectors are host:port; without any no records of sessions are made.
	Collectors  []string
	Credentials *ctls.Credentials
	// PortAPI and Introspect are host:port on loopback; empty ones are not opened.
	PortAPI, Introspect string
	// TokenFile holds the bearer token of both; default RunDir/agent.token.
	TokenFile string
	// PortAPIOpen answers on PortAPI without a token, for old clients.
	PortAPIOpen bool
}

// Files of a node.
const (
	socketName = "agent.sock"
	tokenName  = "agent.token"
	portsName  = "ports"
	queueName  = "detach-queue"
	healthName = "health.json"
)

// Dataplane is what the agent needs of package dataplane.
type Dataplane interface {
	Maps
	records.Source
	Guard(ifindex int) error
	PutPort(dataplane.Port) error
	DeletePort(ifindex int) error
	KnownPolicies() (map[int]dataplane.Policy, error)
	PutPolicies(map[int]dataplane.Policy, map[dataplane.SetID]*dataplane.Set) error
	DeletePolicy(ifindex int) error
	Routes() (map[dataplane.RouteKey]dataplane.NextHop, error)
	PutRoute(dataplane.RouteKey, dataplane.NextHop) error
	PutRoutes(map[dataplane.RouteKey]dataplane.NextHop) error
	DeleteRoute(dataplane.RouteKey) error
	SweepNextHops() error
	PutVNI(vni, vrf uint32) error
	DeleteVNI(vni uint32) error
	Services() (map[dataplane.ServiceKey]dataplane.Service, error)
	PutService(dataplane.ServiceKey, dataplane.Service) error
	DeleteService(dataplane.ServiceKey) error
	MACs() (map[dataplane.MACKey]dataplane.NextHop, error)
	PutMACs(map[dataplane.MACKey]dataplane.NextHop) error
	DeleteMAC(dataplane.MACKey) error
	PutBridge(vrf uint32, b dataplane.Bridge) error
	DeleteBridge(vrf uint32) error
	SweepFlows(now time.Duration, ages dataplane.Ages) (removed, live int, err error)
	Probes() (map[netip.Addr]dataplane.Probe, error)
	PutProbe(alias netip.Addr, p dataplane.Probe) error
	DeleteProbe(alias netip.Addr) error
	AttachProber(ifindex int) error
	FabricServices() (dataplane.FabricServices, error)
	SetFabricServices(dataplane.FabricServices) error
	SNATs() (map[int]uint32, error)
	PutSNAT(ifindex int, network uint32) error
	DeleteSNAT(ifindex int) error
	NATPorts() dataplane.NATPorts
	NATProblem() error
}

// Agent is a node's vRouter agent.
type Agent struct {
	log    *slog.Logger
	config Config
	node   string // UUID
	bootID string

	dataplane Dataplane
	links     hostLinks
	registry  *registry
	files     portFiles
	queue     *detachQueue
	manager   *manager
	routing   *routing
	sessions  *sessions
	ports     *reconcile.Table[int, dataplane.Port]
	policies  *reconcile.Table[int, portPolicy]
	routes    *reconcile.Table[dataplane.RouteKey, dataplane.NextHop]
	// vnis are the VRFs of VXLAN network identifiers.
	vnis     *reconcile.Table[uint32, uint32]
	services *reconcile.Table[dataplane.ServiceKey, dataplane.Service]
	bgp      bgpServices
	// fabricServices and snats are NAT to the fabric; fabricNAT is what they need.
	fabricServices *reconcile.Table[string, dataplane.FabricServices]
	snats          *reconcile.Table[int, uint32]
	fabricNAT      *fabricState
	// probes are the ways by which health checks reach ports, by alias.
	probes *reconcile.Table[netip.Addr, dataplane.Probe]
	health *healthChecks
	// macs and bridges are layer 2 of VRFs.
	macs    *reconcile.Table[dataplane.MACKey, dataplane.NextHop]
	bridges *reconcile.Table[uint32, dataplane.Bridge]
	flows   flowCount
	fills   mapFills
	// records tells of sessions; nil if nobody is told.
	records *records.Exporter
	// words are what control nodes were told last.
	words     map[string]portWord
	wordsLock sync.Mutex
	// reportNow has a report made before its time.
	reportNow chan struct{}
}

// New makes an agent over an open data plane. It must be called in the network
// namespace of the node, and reads the ports that an earlier agent left.
func New(log *slog.Logger, config Config, plane Dataplane) (*Agent, error) {
	links, err := newKernelLinks()
	if err != nil {
		return nil, err
	}
	return newAgent(log, config, plane, links)
}

func newAgent(log *slog.Logger, config Config, plane Dataplane, links hostLinks) (*Agent, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	identity, err := config.Credentials.Identity()
	if err != nil {
		return nil, err
	}
	if identity.Role != ctls.RoleNode {
		return nil, fmt.Errorf("--tls-dir: the certificate is that of %s, want a node's", identity)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	if config.TokenFile == "" {
		config.TokenFile = filepath.Join(config.RunDir, tokenName)
	}
	a := &Agent{
		log:       log,
		config:    config,
		node:      identity.Node,
		bootID:    strings.TrimSpace(string(boot)),
		dataplane: plane,
		links:     links,
		registry:  newRegistry(),
		files:     portFiles{filepath.Join(config.StateDir, portsName)},
		reportNow: make(chan struct{}, 1),
	}
	if err := a.connect(); err != nil {
		return nil, err
	}
	a.queue = newDetachQueue(log, filepath.Join(config.StateDir, queueName), a.bootID, a.manager.detach)
	a.makeTables()
	a.makeRecords()
	a.makeHealth()
	a.loadHealth()
	return a, a.loadPorts()
}

func (c Config) validate() error {
	switch {
	case c.Name == "":
		return errors.New("--name is missing: the node's name")
	case c.Credentials == nil:
		return errors.New("--tls-dir is missing: the node's certificate says who it is")
	case c.Manager == "":
		return errors.New("--manager is missing: the host:port of the Mesos manager")
	case !c.Address.Is4():
		return fmt.Errorf("--address %s: want the node's IPv4 address on the underlay", c.Address)
	case slices.ContainsFunc(c.NATRefuse, func(p netip.Prefix) bool { return !p.Addr().Is4() }):
		return fmt.Errorf("--nat-refuse %v: want prefixes of IPv4", c.NATRefuse)
	case !filepath.IsAbs(c.RunDir) || !filepath.IsAbs(c.StateDir):
		return fmt.Errorf("--run-dir %q and --state-dir %q: want absolute paths", c.RunDir, c.StateDir)
	}
	return nil
}

// connect makes the clients; nothing is sent yet.
func (a *Agent) connect() error {
	client, base, err := serve.Client(a.config.Manager, a.config.Credentials, false, ctls.RoleManager)
	if err != nil {
		return err
	}
	a.manager = &manager{address: a.config.Manager, client: managerv1connect.NewManagerClient(client, base)}
	a.routing = newRouting(a.log, a.config.Address)
	a.sessions = &sessions{
		log: a.log, node: a.node, bootID: a.bootID, configured: a.config.Control, dial: dialWith(a.config.Credentials),
		routing: a.routing, ports: a.portWords, sequence: &sequence{}, changed: make(chan struct{}, 1),
	}
	for _, address := range rank(a.node, a.config.Control) {
		client, err := a.sessions.dial(address)
		if err != nil {
			return err
		}
		a.sessions.peers = append(a.sessions.peers, &controlPeer{address: address, client: client, state: sessionState{Peer: address}})
	}
	return nil
}

func (a *Agent) makeTables() {
	a.ports = reconcile.New(a.log, portTarget{a.dataplane}, reconcile.Options[int, dataplane.Port]{
		Name:    "ports",
		Equal:   dataplane.Port.Equal,
		Resync:  time.Minute,
		Applied: func(int, dataplane.Port) { a.registry.touch() },
	})
	a.policies = reconcile.New(a.log, policyTarget{a.dataplane}, reconcile.Options[int, portPolicy]{
		Name:  "policies",
		Equal: func(x, y portPolicy) bool { return x.Policy == y.Policy },
		// What is not known of a port that there is says nothing.
		MayDelete: func(ifindex int) bool { return !a.registry.usesInterface(ifindex) },
		Resync:    time.Minute,
		Applied:   func(int, portPolicy) { a.registry.touch() },
	})
	a.routes = reconcile.New(a.log, routeTarget{a.dataplane}, reconcile.Options[dataplane.RouteKey, dataplane.NextHop]{
		Name:      "routes",
		Equal:     func(x, y dataplane.NextHop) bool { return x == y },
		MayDelete: a.routing.mayDelete,
		Resync:    time.Minute,
	})
	a.vnis = reconcile.New(a.log, vniTarget{a.dataplane}, reconcile.Options[uint32, uint32]{
		Name:      "vnis",
		Equal:     func(x, y uint32) bool { return x == y },
		MayDelete: a.routing.mayDeleteVNI,
		Resync:    time.Minute,
	})
	a.services = reconcile.New(a.log, serviceTarget{a.dataplane}, reconcile.Options[dataplane.ServiceKey, dataplane.Service]{
		Name:      "services",
		Equal:     func(x, y dataplane.Service) bool { return x == y },
		MayDelete: a.mayDeleteService,
		Resync:    time.Minute,
	})
	a.fabricNAT = newFabricState(a.log, a.config)
	a.fabricServices = reconcile.New(a.log, fabricTarget{a.dataplane}, reconcile.Options[string, dataplane.FabricServices]{
		Name:      "fabric",
		Equal:     dataplane.FabricServices.Equal,
		MayDelete: func(string) bool { return false },
		Resync:    time.Minute,
	})
	a.snats = reconcile.New(a.log, snatTarget{a.dataplane}, reconcile.Options[int, uint32]{
		Name:      "snat",
		Equal:     func(x, y uint32) bool { return x == y },
		MayDelete: func(int) bool { return a.fabricNAT.portsKnown.Load() },
		Resync:    time.Minute,
	})
	a.sessions.bgpChanged = a.registry.touch
	a.macs = reconcile.New(a.log, macTarget{a.dataplane}, reconcile.Options[dataplane.MACKey, dataplane.NextHop]{
		Name:      "macs",
		Equal:     func(x, y dataplane.NextHop) bool { return x == y },
		MayDelete: func(k dataplane.MACKey) bool { return a.routing.mayDelete(dataplane.RouteKey{VRF: k.VRF}) },
		Resync:    time.Minute,
	})
	a.bridges = reconcile.New(a.log, bridgeTarget{a.dataplane}, reconcile.Options[uint32, dataplane.Bridge]{
		Name:      "bridges",
		Equal:     func(x, y dataplane.Bridge) bool { return x == y },
		MayDelete: a.routing.mayDeleteBridge,
		Resync:    time.Minute,
	})
	a.routing.routes, a.routing.macs = a.routes, a.macs
	a.routing.usesVRF = a.registry.usesVRF
	a.routing.portsChanged = a.registry.touch
	a.routing.newEpoch = func() {
		select {
		case a.reportNow <- struct{}{}:
		default:
		}
	}
}

// loadPorts brings back the ports of an earlier agent. They are desired from
// the start, so the data plane's own are adopted, not removed. A port whose
// interface has gone is not: after a reboot its index may be any device's.
// runLinks detaches it.
func (a *Agent) loadPorts() error {
	records, err := a.files.load()
	if err != nil && records == nil {
		return err
	}
	if err != nil {
		a.log.Error("some port files cannot be read; their containers are released if nothing else knows them", "error", err)
	}
	links, err := a.links.all()
	if err != nil {
		return err
	}
	for _, r := range records {
		port, complete, err := r.port()
		if err != nil {
			a.log.Error("port file is not used", "port", r.ID, "error", err)
			continue
		}
		if r.isClassic() && !a.exists(r, links) {
			r.HostIndex, complete = 0, false
		}
		a.registry.put(r)
		if complete && a.exists(r, links) {
			a.ports.Set(r.HostIndex, port)
		}
	}
	return nil
}

// exists tells whether a port's interface is there.
func (a *Agent) exists(r *record, links map[int]string) bool {
	return r.HostIndex != 0 && r.BootID == a.bootID && links[r.HostIndex] == r.HostInterface
}

// Run does everything until ctx ends. Forwarding goes on afterwards.
func (a *Agent) Run(ctx context.Context) error {
	group := lifecycle.New(a.log)
	group.Add("ports", a.ports.Run)
	group.Add("policies", a.policies.Run)
	group.Add("routes", a.routes.Run)
	group.Add("vnis", a.vnis.Run)
	group.Add("services", a.services.Run)
	group.Add("fabric", a.fabricServices.Run)
	group.Add("SNAT", a.snats.Run)
	group.Add("names of services", a.runFabric)
	group.Add("probes", a.probes.Run)
	group.Add("health checks", a.runHealth)
	group.Add("macs", a.macs.Run)
	group.Add("bridges", a.bridges.Run)
	group.Add("links", a.runLinks)
	group.Add("graph", a.runGraph)
	group.Add("flows", a.runFlows)
	if a.records != nil {
		group.Add("records of sessions", a.records.Run)
	}
	group.Add("detach queue", func(ctx context.Context) error { return a.queue.run(ctx, a.received) })
	group.Add("reports", a.runReports)
	group.Add("control sessions", a.sessions.run)
	servers, err := a.listen()
	if err != nil {
		return err
	}
	for name, server := range servers {
		group.Add(name, server.Run)
	}
	a.log.Info("vrouter agent starts", "node", a.node, "name", a.config.Name, "address", a.config.Address,
		"manager", a.config.Manager, "control", a.config.Control)
	return group.Wait(ctx)
}

// portTarget makes ports real.
type portTarget struct{ plane Dataplane }

func (t portTarget) List(context.Context) (map[int]dataplane.Port, error) { return t.plane.Ports() }

func (t portTarget) Put(_ context.Context, _ int, p dataplane.Port) error { return t.plane.PutPort(p) }

func (t portTarget) Delete(_ context.Context, ifindex int) error { return t.plane.DeletePort(ifindex) }

// routeTarget makes routes real.
type routeTarget struct{ plane Dataplane }

func (t routeTarget) List(context.Context) (map[dataplane.RouteKey]dataplane.NextHop, error) {
	return t.plane.Routes()
}

func (t routeTarget) Put(_ context.Context, k dataplane.RouteKey, n dataplane.NextHop) error {
	return t.plane.PutRoute(k, n)
}

func (t routeTarget) PutAll(_ context.Context, routes map[dataplane.RouteKey]dataplane.NextHop) error {
	return t.plane.PutRoutes(routes)
}

func (t routeTarget) Delete(_ context.Context, k dataplane.RouteKey) error {
	return t.plane.DeleteRoute(k)
}

// vniTarget makes VXLAN network identifiers real.
type vniTarget struct{ plane Dataplane }

func (t vniTarget) List(context.Context) (map[uint32]uint32, error) { return t.plane.VNIs() }

func (t vniTarget) Put(_ context.Context, vni, vrf uint32) error { return t.plane.PutVNI(vni, vrf) }

func (t vniTarget) Delete(_ context.Context, vni uint32) error { return t.plane.DeleteVNI(vni) }
