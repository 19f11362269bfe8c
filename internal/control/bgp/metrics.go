package bgp

import "github.com/prometheus/client_golang/prometheus"

// Collector returns the speaker's metrics. They are read from the tables when
// they are asked for.
func (s *Speaker) Collector() prometheus.Collector { return collector{s} }

type collector struct{ *Speaker }

var (
	descUp = prometheus.NewDesc("contrail_bgp_peer_up",
		"1 while the session with a BGP peer is established.", []string{"peer"}, nil)
	descFlaps = prometheus.NewDesc("contrail_bgp_peer_flaps_total",
		"How often the session with a BGP peer was lost.", []string{"peer"}, nil)
	descRoutes = prometheus.NewDesc("contrail_bgp_peer_routes",
		"Routes that a BGP peer has announced and that count, by family.", []string{"peer", "family"}, nil)
	descStale = prometheus.NewDesc("contrail_bgp_peer_stale_routes",
		"Routes of a BGP peer's earlier session that graceful restart keeps, by family.", []string{"peer", "family"}, nil)
	descUpdates = prometheus.NewDesc("contrail_bgp_peer_updates",
		"UPDATE messages of the present session with a BGP peer, by direction.", []string{"peer", "direction"}, nil)
	descFaults = prometheus.NewDesc("contrail_bgp_peer_faults",
		"What was wrong in the present session with a BGP peer: updates taken as withdrawals (malformed), attributes left out (discarded), updates that are loops or lead back here (rejected), paths of a route beyond the number that is taken (excess).",
		[]string{"peer", "kind"}, nil)
	descTable = prometheus.NewDesc("contrail_bgp_routes",
		"Destinations in the BGP tables, by family.", []string{"family"}, nil)
	descSets = prometheus.NewDesc("contrail_bgp_attribute_sets",
		"Different sets of attributes that BGP routes have.", nil, nil)
)

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descFlaps, descRoutes, descStale, descUpdates, descFaults, descTable, descSets} {
		out <- d
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, p := range c.Peers() {
		up := 0.0
		if p.State == Established {
			up = 1
		}
		gauge(descUp, up, p.Name)
		out <- prometheus.MustNewConstMetric(descFlaps, prometheus.CounterValue, float64(p.Flaps), p.Name)
		for _, f := range p.Families {
			gauge(descRoutes, float64(f.Routes), p.Name, f.Family.String())
			gauge(descStale, float64(f.Stale), p.Name, f.Family.String())
		}
		n := p.Counters
		gauge(descUpdates, float64(n.UpdatesIn), p.Name, "in")
		gauge(descUpdates, float64(n.UpdatesOut), p.Name, "out")
		gauge(descFaults, float64(n.Malformed), p.Name, "malformed")
		gauge(descFaults, float64(n.Discarded), p.Name, "discarded")
		gauge(descFaults, float64(n.Rejected), p.Name, "rejected")
		gauge(descFaults, float64(n.Excess), p.Name, "excess")
	}
	c.rib.mu.Lock()
	var sizes [numFam]int
	for i, t := range c.rib.tables {
		sizes[i] = t.size
	}
	sets := len(c.rib.pool)
	c.rib.mu.Unlock()
	for i, n := range sizes {
		gauge(descTable, float64(n), families[i].String())
	}
	gauge(descSets, float64(sets))
}
