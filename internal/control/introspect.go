package control

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// registerIntrospection shows the tables as JSON, for `contrail control` and
// for whoever looks with curl.
func (s *Server) registerIntrospection(mux *http.ServeMux) {
	show := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, admin(func(w http.ResponseWriter, r *http.Request) {
			answer, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			writeJSON(w, answer)
		}))
	}
	t := s.tables
	show("/agents", func(*http.Request) (any, error) { return t.showAgents(), nil })
	show("/controllers", func(*http.Request) (any, error) { return s.exchange.show(), nil })
	show("/peers", func(*http.Request) (any, error) { return t.showPeers(), nil })
	show("/instances", func(*http.Request) (any, error) { return t.showInstances(), nil })
	show("/imports", func(r *http.Request) (any, error) { return t.showImports(r.URL.Query().Get("network")) })
	show("/routes", func(r *http.Request) (any, error) { return t.showRoutes(r.URL.Query().Get("network")) })
	show("/explain", func(r *http.Request) (any, error) {
		return t.explain(r.URL.Query().Get("prefix"), r.URL.Query().Get("network"))
	})
	show("/health", func(*http.Request) (any, error) { return t.showHealth(), nil })
	show("/policy", func(r *http.Request) (any, error) { return s.showPolicy(r.URL.Query().Get("interface")) })
	serve.RegisterProfiles(mux)
	mux.HandleFunc("GET /metrics", admin(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP))
}

// admin lets in administrators and other controllers: the tables show what
// every tenant runs.
func admin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c := serve.CallerOf(r.Context()); !c.IsAdmin() && c.Role != ctls.RoleController {
			http.Error(w, "only the administrator may look here; use the control node's unix socket", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// metrics of a control node.
type metrics struct {
	held, dropped, duplicates, resumed, snapshots, stuck, alarmed, refusedRoutes prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		held:          counter("contrail_control_held_reports_total", "Reports of ports that the graph does not bind to the reporting node."),
		dropped:       counter("contrail_control_dropped_reports_total", "Such reports that were not kept because the node had too many."),
		duplicates:    counter("contrail_control_duplicate_sessions_total", "Sessions refused because the node has another live one."),
		alarmed:       counter("contrail_control_held_reports_overdue_total", "Reports held for more than 10 s: a node claims a port that is not its own."),
		resumed:       counter("contrail_control_tables_resumed_total", "Tables that agents went on with from where their last session ended."),
		snapshots:     counter("contrail_control_tables_sent_total", "Tables that agents were sent from the beginning."),
		refusedRoutes: counter("contrail_control_bgp_task_refused_routes_total", "Routes that tasks announced by BGP and may not: not their prefix, or another next hop."),
		stuck:         counter("contrail_control_stuck_sessions_total", "Sessions ended because the agent did not read."),
	}
}

func (m *metrics) register(registry *prometheus.Registry, t *tables) {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			t.mu.Lock()
			defer t.mu.Unlock()
			return float64(value())
		})
	}
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(m.held, m.dropped, m.duplicates, m.resumed, m.snapshots, m.stuck, m.alarmed, m.refusedRoutes,
		gauge("contrail_control_sessions", "Live sessions of agents.", func() int { return len(t.sessions) }),
		gauge("contrail_control_ports", "Interfaces that the graph binds to nodes.", func() int { return len(t.ports) }),
		gauge("contrail_control_vrfs", "Forwarding tables.", func() int { return t.rib.Stats().VRFs }),
		gauge("contrail_control_revision", "Revision of the store that the tables stand at.", func() int { return int(t.position.Revision) }),
		gauge("contrail_control_foreign_agents", "Nodes whose agent has a session with another control node, and none here.", func() int {
			n := 0
			for _, x := range t.nodes {
				if x.session == nil && x.live() {
					n++
				}
			}
			return n
		}),
		gauge("contrail_control_held_reports", "Reports that are held now: of ports that the graph does not bind to the reporting node.", func() int {
			n := 0
			for _, x := range t.nodes {
				n += len(x.early)
			}
			return n
		}),
		gauge("contrail_control_cut_off", "1 while the store does not answer and agents are told so.", func() int {
			if t.cutOff {
				return 1
			}
			return 0
		}),
		gauge("contrail_control_stale_nodes", "Nodes with interfaces whose agent had a session and has none.", func() int {
			n := 0
			for _, x := range t.nodes {
				if x.lost && len(x.ports) > 0 {
					n++
				}
			}
			return n
		}),
		gauge("contrail_control_routes", "Routes in all forwarding tables.", func() int { return t.rib.Stats().Routes }),
		gauge("contrail_control_paths", "Paths of all routes, each counted once however many tables import it.", func() int { return t.rib.Stats().Paths }),
		gauge("contrail_control_bgp_imported_routes", "Routes of BGP peers that a network wants.", func() int { return t.rib.Stats().External }),
		gauge("contrail_control_bgp_exported_routes", "Routes that BGP peers are told.", func() int { return t.border.out }),
		newSpeakerCollector(t),
		gauge("contrail_control_path_attributes", "Different sets of attributes that the paths have.", func() int { return t.rib.Stats().Attributes }))
}

// newSpeakerCollector has the metrics of the BGP speaker, while there is one.
func newSpeakerCollector(t *tables) prometheus.Collector { return &speakerCollector{t} }

type speakerCollector struct{ tables *tables }

// Describe implements prometheus.Collector.
func (c *speakerCollector) Describe(to chan<- *prometheus.Desc) {
	(*bgp.Speaker)(nil).Collector().Describe(to)
}

// Collect implements prometheus.Collector.
func (c *speakerCollector) Collect(to chan<- prometheus.Metric) {
	c.tables.mu.Lock()
	speaker := c.tables.border.state.speaker
	c.tables.mu.Unlock()
	if speaker != nil {
		speaker.Collector().Collect(to)
	}
}
