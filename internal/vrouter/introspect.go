package vrouter

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// routeState is a route as it is shown.
type routeState struct {
	VRF     uint32            `json:"vrf"`
	Prefix  string            `json:"prefix"`
	NextHop dataplane.NextHop `json:"next_hop"`
	Status  portapi.State     `json:"status"`
}

// vniState is a VXLAN network identifier as it is shown.
type vniState struct {
	VNI    uint32        `json:"vni"`
	VRF    uint32        `json:"vrf"`
	Status portapi.State `json:"status"`
}

// serviceState is a BGP service of a port as it is shown.
type serviceState struct {
	dataplane.ServiceKey
	Port string `json:"port"`
	dataplane.Service
	Status portapi.State `json:"status"`
}

// dropState is a drop counter as it is shown.
type dropState struct {
	dataplane.Drop
	Help string `json:"help"`
	Port string `json:"port,omitempty"`
}

// introspectHandler shows every table with the status of its objects.
func (a *Agent) introspectHandler() http.Handler {
	mux := http.NewServeMux()
	show := func(path string, value func() (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			v, err := value()
			reply(w, v, err)
		})
	}
	show("/{$}", func() (any, error) {
		return map[string][]string{"tables": {"/status", "/ports", "/graph", "/policies", "/routes", "/macs", "/bridges", "/vnis", "/services", "/health", "/drops", "/sessions", "/queue", "/metrics"}}, nil
	})
	show("/status", func() (any, error) { return a.status(), nil })
	show("/ports", func() (any, error) { return map[string]any{"ports": a.portList()}, nil })
	show("/graph", func() (any, error) { return map[string]any{"ports": a.routing.graphPorts()}, nil })
	show("/policies", func() (any, error) { return map[string]any{"policies": a.policyList()}, nil })
	show("/routes", func() (any, error) { return map[string]any{"routes": a.routeList()}, nil })
	show("/macs", func() (any, error) { return map[string]any{"macs": a.macList()}, nil })
	show("/bridges", func() (any, error) { return map[string]any{"bridges": a.bridgeList()}, nil })
	show("/vnis", func() (any, error) { return map[string]any{"vnis": a.vniList()}, nil })
	show("/services", func() (any, error) { return map[string]any{"services": a.serviceList()}, nil })
	show("/health", func() (any, error) { return map[string]any{"checks": a.health.States()}, nil })
	show("/drops", func() (any, error) {
		drops, err := a.dropList()
		return map[string]any{"drops": drops}, err
	})
	show("/sessions", func() (any, error) { return map[string]any{"sessions": a.sessions.all()}, nil })
	show("/queue", func() (any, error) { return map[string]any{"detaches": a.queue.pending()}, nil })
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{a})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// policyState is the policy of a port as it is shown.
type policyState struct {
	Port string `json:"port"`
	// Known: it has come, with all the sets that it names.
	Known    bool               `json:"known"`
	Identity dataplane.Identity `json:"identity"`
	// Sets are the ids of those that there are.
	Sets   map[string]string `json:"sets"`
	Status portapi.State     `json:"status"`
}

func (a *Agent) policyList() []policyState {
	records, _ := a.registry.all()
	list := make([]policyState, 0, len(records))
	for _, r := range records {
		p, known := a.policies.Get(r.HostIndex)
		s, _ := a.policies.StatusOf(r.HostIndex)
		state := policyState{Port: r.ID, Known: known, Identity: p.Identity, Sets: map[string]string{}, Status: stateOf(s)}
		for kind, id := range p.Sets {
			if id != (dataplane.SetID{}) {
				state.Sets[dataplane.PolicySet(kind).String()] = id.String()
			}
		}
		list = append(list, state)
	}
	return list
}

func (a *Agent) routeList() []routeState {
	objects := a.routes.Objects()
	slices.SortFunc(objects, func(x, y reconcile.Object[dataplane.RouteKey, dataplane.NextHop]) int {
		return cmp.Or(cmp.Compare(x.Key.VRF, y.Key.VRF), x.Key.Prefix.Addr().Compare(y.Key.Prefix.Addr()),
			cmp.Compare(x.Key.Prefix.Bits(), y.Key.Prefix.Bits()))
	})
	routes := make([]routeState, 0, len(objects))
	for _, o := range objects {
		routes = append(routes, routeState{o.Key.VRF, o.Key.Prefix.String(), o.Value, stateOf(o.Status)})
	}
	return routes
}

func (a *Agent) vniList() []vniState {
	vnis := []vniState{}
	for _, o := range a.vnis.Objects() {
		vnis = append(vnis, vniState{o.Key, o.Value, stateOf(o.Status)})
	}
	slices.SortFunc(vnis, func(x, y vniState) int { return cmp.Compare(x.VNI, y.VNI) })
	return vnis
}

func (a *Agent) serviceList() []serviceState {
	names := a.portNames()
	list := []serviceState{}
	for _, o := range a.services.Objects() {
		list = append(list, serviceState{o.Key, names[o.Key.IfIndex], o.Value, stateOf(o.Status)})
	}
	slices.SortFunc(list, func(x, y serviceState) int {
		return cmp.Or(cmp.Compare(x.IfIndex, y.IfIndex), x.Client.Compare(y.Client), x.Server.Compare(y.Server))
	})
	return list
}

// portNames are the ids of ports by interface index.
func (a *Agent) portNames() map[int]string {
	records, _ := a.registry.all()
	names := map[int]string{}
	for _, r := range records {
		names[r.HostIndex] = r.ID
	}
	return names
}

func (a *Agent) dropList() ([]dropState, error) {
	drops, err := a.dataplane.Drops()
	if err != nil {
		return nil, err
	}
	names := a.portNames()
	list := make([]dropState, 0, len(drops))
	for _, d := range drops {
		list = append(list, dropState{d, d.Reason.Help(), names[d.IfIndex]})
	}
	return list, nil
}

// collector reads the metrics when they are asked for.
type collector struct{ agent *Agent }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("contrail_vrouter_"+name, help, labels, nil)
}

// Metrics of the agent.
var (
	descPorts      = describe("ports", "Ports of the node, by state.", "state")
	descRoutes     = describe("routes", "Routes of the node, by state.", "state")
	descQueue      = describe("detach_queue", "Releases that the manager has not confirmed.")
	descJoined     = describe("manager_joined", "1 if the last report to the manager was accepted.")
	descSession    = describe("control_session", "1 if a control session is up.")
	descSessions   = describe("control_sessions", "Control sessions, by state: caught_up, behind, or bad (cut off from the store, or late).", "state")
	descChecks     = describe("health_checks", "Health checks of the node's ports, by state: passing, failing, or not_asked (which counts as before).", "state")
	descFlows      = describe("flows", "Flows found by the last walk through the table.")
	descDrops      = describe("drops_total", "Packets dropped, by reason and interface index; 0 is former ports.", "reason", "interface")
	descPortBytes  = describe("port_bytes_total", "Bytes forwarded, by port and direction.", "port", "direction")
	descPortFrames = describe("port_packets_total", "Packets forwarded, by port and direction.", "port", "direction")
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPorts, descRoutes, descQueue, descJoined, descSession, descSessions, descChecks, descFlows, descDrops, descPortBytes, descPortFrames,
	} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	states := map[string]int{}
	for _, p := range c.agent.portList() {
		states[p.Status.State]++
		counters, err := c.agent.dataplane.Counters(p.HostIndex)
		if err != nil {
			continue // not plugged
		}
		counter(descPortBytes, counters.FromBytes, p.ID, "from")
		counter(descPortBytes, counters.ToBytes, p.ID, "to")
		counter(descPortFrames, counters.FromPackets, p.ID, "from")
		counter(descPortFrames, counters.ToPackets, p.ID, "to")
	}
	for state, n := range states {
		gauge(descPorts, float64(n), state)
	}
	routes := map[reconcile.State]int{}
	for _, o := range c.agent.routes.Objects() {
		routes[o.Status.State]++
	}
	for state, n := range routes {
		gauge(descRoutes, float64(n), string(state))
	}
	status := c.agent.status()
	gauge(descQueue, float64(status.QueuedDetaches))
	gauge(descJoined, boolean(status.Ready))
	c.collectSessions(gauge)
	c.collectChecks(gauge)
	gauge(descFlows, float64(c.agent.flows.live.Load()))
	drops, err := c.agent.dataplane.Drops()
	if err != nil {
		return
	}
	for _, d := range drops {
		counter(descDrops, d.Packets, d.Reason.String(), strconv.Itoa(d.IfIndex))
	}
}

func (c *collector) collectSessions(gauge func(*prometheus.Desc, float64, ...string)) {
	states := map[string]int{"caught_up": 0, "behind": 0, "bad": 0}
	connected := false
	for _, s := range c.agent.sessions.all() {
		connected = connected || s.Connected
		switch {
		case !s.Connected:
		case s.Bad != "":
			states["bad"]++
		case s.CaughtUp:
			states["caught_up"]++
		default:
			states["behind"]++
		}
	}
	gauge(descSession, boolean(connected))
	for state, n := range states {
		gauge(descSessions, float64(n), state)
	}
}

func (c *collector) collectChecks(gauge func(*prometheus.Desc, float64, ...string)) {
	states := map[string]int{"passing": 0, "failing": 0, "not_asked": 0}
	for _, s := range c.agent.health.States() {
		switch {
		case s.Left != "":
			states["not_asked"]++
		case s.Failing:
			states["failing"]++
		default:
			states["passing"]++
		}
	}
	for state, n := range states {
		gauge(descChecks, float64(n), state)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
