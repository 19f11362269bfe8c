package configapi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/contrail-mesos/contrail/api/usageapi"
	"github.com/contrail-mesos/contrail/internal/model"
)

// metrics of the configuration API, all named contrail_config_*.
type metrics struct {
	registry  *prometheus.Registry
	attaches  *prometheus.CounterVec
	writes    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	early     prometheus.Counter
	requests  *prometheus.CounterVec
	latency   *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		attaches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_attachments_total",
			Help: "Requests to attach and detach, by operation and result.",
		}, []string{"operation", "result"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_writes_total",
			Help: "Transactions that changed something, by operation.",
		}, []string{"operation"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_conflicts_total",
			Help: "Transactions that were decided anew because others got in between, by what they met on.",
		}, []string{"space"}),
		early: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "contrail_config_early_reuse_total",
			Help: "Addresses, labels and numbers given out before the end of their rest because nothing else was free.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_requests_total",
			Help: "Requests that were answered, by type of object, operation and HTTP status.",
		}, []string{"type", "operation", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "contrail_config_request_seconds",
			Help:    "Time from a request to the end of its answer, by type of object and operation.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}, []string{"type", "operation"}),
	}
	m.registry.MustRegister(m.attaches, m.writes, m.conflicts, m.early, m.requests, m.latency,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// shownSubnets bounds the series by subnet: the fullest ones are shown.
const shownSubnets = 1000

// state is what is counted only when somebody looks.
type state struct {
	api                              *API
	objects, references              *prometheus.Desc
	bindings, nodes                  *prometheus.Desc
	revision, inFlight               *prometheus.Desc
	size, used, free, resting, total *prometheus.Desc
	hidden                           *prometheus.Desc
}

func newState(a *API) *state {
	desc := prometheus.NewDesc
	subnet := []string{"network", "subnet"}
	return &state{
		api:        a,
		objects:    desc("contrail_config_objects", "Objects in the store, by type.", []string{"type"}, nil),
		references: desc("contrail_config_references", "References between objects in the store.", nil, nil),
		bindings:   desc("contrail_config_bindings", "Interfaces that are bound to a node.", nil, nil),
		nodes:      desc("contrail_config_nodes", "Nodes that have joined.", nil, nil),
		revision:   desc("contrail_config_revision", "Revision of the store that reads see.", nil, nil),
		inFlight:   desc("contrail_config_requests_in_flight", "Requests being answered, by operation; watch counts the watchers.", []string{"operation"}, nil),
		size:       desc("contrail_config_subnet_addresses", "Addresses that a subnet can give out; the 1000 fullest subnets are shown.", subnet, nil),
		used:       desc("contrail_config_subnet_addresses_used", "Addresses of a subnet in use.", subnet, nil),
		free:       desc("contrail_config_subnet_addresses_free", "Addresses of a subnet that are free and not at rest.", subnet, nil),
		resting:    desc("contrail_config_subnet_addresses_resting", "Addresses of a subnet that were released and rest.", subnet, nil),
		total:      desc("contrail_config_addresses", "Addresses of all subnets, by state: used, free or resting.", []string{"state"}, nil),
		hidden:     desc("contrail_config_subnets_not_shown", "Subnets beyond the 1000 that are shown one by one.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.objects, s.references, s.bindings, s.nodes, s.revision, s.inFlight,
		s.size, s.used, s.free, s.resting, s.total, s.hidden,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		for i := range labels { // a name from elsewhere must not spoil the whole answer
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	var networks []networkRef
	s.api.graph.View(func(v *model.View) {
		for _, t := range model.Types() {
			if n := v.Count(t.Kind); n > 0 {
				gauge(s.objects, float64(n), string(t.Kind))
			}
		}
		gauge(s.references, float64(v.CountReferences()))
		gauge(s.bindings, float64(v.CountBindings()))
		gauge(s.nodes, float64(v.CountNodes()))
		gauge(s.revision, float64(v.Position().Revision))
		networks = networksWithSubnets(v, everything)
	})
	running := map[string]int{"watch": 0}
	for _, r := range s.api.calls.inFlight() {
		operation, _, _ := r.about()
		running[operation]++
	}
	for operation, n := range running {
		gauge(s.inFlight, float64(n), operation)
	}
	s.collectSubnets(gauge, networks)
}

func (s *state) collectSubnets(gauge func(*prometheus.Desc, float64, ...string), networks []networkRef) {
	type entry struct {
		network string
		usageapi.Subnet
	}
	var all []entry
	var used, free, resting float64
	counted := map[[2]string]bool{}
	for _, n := range networks {
		for i, u := range s.api.subnetUsage(n) {
			all = append(all, entry{model.FQString(n.fqName), u})
			// Networks of one flat IPAM share its addresses.
			if place := [2]string{n.subnets[i].scope, u.Prefix}; !counted[place] {
				counted[place] = true
				used, free, resting = used+float64(u.Used), free+float64(u.Free), resting+float64(u.Resting)
			}
		}
	}
	gauge(s.total, used, "used")
	gauge(s.total, free, "free")
	gauge(s.total, resting, "resting")
	if len(all) > shownSubnets {
		fullness := func(e entry) float64 { return 1 - float64(e.Free)/float64(max(e.Size, 1)) }
		slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(fullness(b), fullness(a)) })
	}
	gauge(s.hidden, float64(max(0, len(all)-shownSubnets)))
	shown := map[[2]string]bool{}
	for _, e := range all[:min(len(all), shownSubnets)] {
		labels := [2]string{e.network, e.Prefix}
		if shown[labels] {
			continue // a series twice would spoil the whole answer
		}
		shown[labels] = true
		gauge(s.size, float64(e.Size), e.network, e.Prefix)
		gauge(s.used, float64(e.Used), e.network, e.Prefix)
		gauge(s.free, float64(e.Free), e.network, e.Prefix)
		gauge(s.resting, float64(e.Resting), e.network, e.Prefix)
	}
}
