package vrouter

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// collector reads the metrics when they are asked for.
type collector struct{ agent *Agent }

// metrics are those of the agent and of its process.
func (a *Agent) metrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// mapFills are as of the last count, which costs time where maps are full.
type mapFills struct {
	mu      sync.Mutex
	counted time.Time
	fills   []dataplane.MapFill
}

// recount is for how long a count of the maps' entries is good enough.
const recount = 30 * time.Second

func (f *mapFills) get(a *Agent) []dataplane.MapFill {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.counted) >= recount {
		fills, err := a.dataplane.MapFills()
		if err != nil {
			a.log.Warn("entries of the maps cannot be counted", "error", err)
			fills = f.fills // what was counted before is better than nothing
		}
		f.fills, f.counted = fills, time.Now()
	}
	return f.fills
}

// objectTable is what all reconcilers' tables have alike.
type objectTable interface {
	Name() string
	States() map[reconcile.State]int
	Failures() uint64
}

func (a *Agent) tables() []objectTable {
	return []objectTable{a.ports, a.policies, a.routes, a.macs, a.bridges, a.vnis, a.services, a.fabricServices, a.snats, a.probes}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("contrail_vrouter_"+name, help, labels, nil)
}

// Metrics of the agent.
var (
	descPorts      = describe("ports", "Ports of the node, by state.", "state")
	descObjects    = describe("objects", "Objects that the agent puts into the data plane, by table and state: applied, pending, or failed and tried again.", "table", "state")
	descFailures   = describe("apply_failures_total", "Attempts to put an object into the data plane, to remove it, or to read what is there, that failed, by table.", "table")
	descQueue      = describe("detach_queue", "Releases that the manager has not confirmed.")
	descJoined     = describe("manager_joined", "1 if the last report to the manager was accepted.")
	descSession    = describe("control_session", "1 if a control session is up.")
	descSessions   = describe("control_sessions", "Control sessions, by state: caught_up, behind, or bad (cut off from the store, or late).", "state")
	descChecks     = describe("health_checks", "Health checks of the node's ports, by state: passing, failing, or not_asked (which counts as before).", "state")
	descFlows      = describe("flows", "Flows found by the last walk through the table.")
	descMapUsed    = describe("map_entries", "Entries of a BPF map that refuses what it has no room for; counted at most every 30 s.", "map")
	descMapMax     = describe("map_max_entries", "Entries that a BPF map has room for.", "map")
	descDrops      = describe("drops_total", "Packets dropped, by reason (see drops.md) and interface index; 0 is former ports.", "reason", "interface")
	descDropBytes  = describe("drop_bytes_total", "Bytes dropped, likewise.", "reason", "interface")
	descPortBytes  = describe("port_bytes_total", "Bytes forwarded, by port and direction: from the container, or to it.", "port", "direction")
	descCollector  = describe("session_collector", "1 if a collector takes records of sessions.")
	descAcked      = describe("session_records_total", "Records of sessions that a collector has acknowledged.")
	descWaiting    = describe("session_records_waiting", "Records of sessions that are not sent yet.")
	descLost       = describe("session_records_lost_total", "What no collector will be told, by where it was lost: queue (ends and refusals, while no collector took them), ring (refusals and ends by policy, before the agent read them), or rate (refusals beyond the rate of a port).", "where")
	descPortLimit  = describe("port_rate_limit_bits", "Bits in a second that a port may send (from) or be sent (to), where there is a limit; what is more is in drops_total as egress-rate and ingress-rate.", "port", "direction")
	descPortFrames = describe("port_packets_total", "Packets forwarded, likewise.", "port", "direction")
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPorts, descObjects, descFailures, descQueue, descJoined, descSession, descSessions, descChecks,
		descFlows, descMapUsed, descMapMax, descDrops, descDropBytes, descPortBytes, descPortFrames, descPortLimit,
		descCollector, descAcked, descWaiting, descLost,
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
		if r := c.agent.registry.get(p.ID); r != nil && r.Egress.Rate != 0 {
			gauge(descPortLimit, float64(r.Egress.Rate), p.ID, "from")
		}
		if r := c.agent.registry.get(p.ID); r != nil && r.Ingress.Rate != 0 {
			gauge(descPortLimit, float64(r.Ingress.Rate), p.ID, "to")
		}
	}
	for state, n := range states {
		gauge(descPorts, float64(n), state)
	}
	for _, t := range c.agent.tables() {
		for state, n := range t.States() {
			gauge(descObjects, float64(n), t.Name(), string(state))
		}
		counter(descFailures, t.Failures(), t.Name())
	}
	status := c.agent.status()
	gauge(descQueue, float64(status.QueuedDetaches))
	gauge(descJoined, boolean(status.Ready))
	c.collectSessions(gauge)
	c.collectChecks(gauge)
	records := c.agent.recordState()
	gauge(descCollector, boolean(records.Collector != ""))
	gauge(descWaiting, float64(records.Waiting))
	counter(descAcked, records.Acknowledged)
	counter(descLost, records.LostRecords, "queue")
	counter(descLost, records.LostEvents, "ring")
	counter(descLost, records.OverRate, "rate")
	gauge(descFlows, float64(c.agent.flows.live.Load()))
	for _, m := range c.agent.fills.get(c.agent) {
		gauge(descMapUsed, float64(m.Used), m.Map)
		gauge(descMapMax, float64(m.Max), m.Map)
	}
	drops, err := c.agent.dataplane.Drops()
	if err != nil {
		return
	}
	for _, d := range drops {
		counter(descDrops, d.Packets, d.Reason.String(), strconv.Itoa(d.IfIndex))
		counter(descDropBytes, d.Bytes, d.Reason.String(), strconv.Itoa(d.IfIndex))
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
