package control

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func (s *Server) registerIntrospection(mux *http.ServeMux) {
	mux.HandleFunc("GET /sessions", admin(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.tables.showSessions()) }))
	mux.HandleFunc("GET /vrfs", admin(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.tables.showVRFs()) }))
	mux.HandleFunc("GET /routes", admin(s.routes))
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

func (s *Server) routes(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("vrf")
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		http.Error(w, "vrf: "+strconv.Quote(text)+" is no number; GET /vrfs lists them", http.StatusBadRequest)
		return
	}
	routes, ok := s.tables.showRoutes(uint32(number))
	if !ok {
		http.Error(w, "no vrf "+text+"; GET /vrfs lists them", http.StatusNotFound)
		return
	}
	writeJSON(w, routes)
}

type shownSession struct {
	Node    string    `json:"node"`
	Name    string    `json:"name"`
	BootID  string    `json:"boot_id"`
	Since   time.Time `json:"since"`
	Ports   int       `json:"ports"`
	Waiting []string  `json:"waiting_ports"`
	Held    []string  `json:"held_ports"`
	VRFs    []uint32  `json:"vrfs"`
	Sent    uint64    `json:"messages_sent"`
	Behind  uint64    `json:"changes_behind"`
}

func (t *tables) showSessions() []shownSession {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := []shownSession{}
	for s := range t.sessions {
		x := shownSession{
			Node: s.node.id, BootID: s.bootID, Since: s.since, Ports: len(s.node.ports), Sent: s.sent,
			Held: slices.Sorted(maps.Keys(s.node.early)), VRFs: slices.Sorted(maps.Keys(s.node.vrfs)),
			Behind: s.ports.table.last - s.ports.at,
		}
		if s.node.record != nil {
			x.Name = s.node.record.Name
		}
		for _, c := range s.vrfs {
			x.Behind += c.table.last - c.at
		}
		for iface, p := range s.node.ports {
			if p.waiting {
				x.Waiting = append(x.Waiting, iface)
			}
		}
		slices.Sort(x.Waiting)
		shown = append(shown, x)
	}
	slices.SortFunc(shown, func(a, b shownSession) int { return strings.Compare(a.Node, b.Node) })
	return shown
}

type shownVRF struct {
	Number      uint32           `json:"vrf"`
	Network     string           `json:"network"`
	Name        string           `json:"name"`
	Import      []compile.Target `json:"import"`
	Export      []compile.Target `json:"export"`
	Routes      int              `json:"routes"`
	Subscribers int              `json:"subscribers"`
}

func (t *tables) showVRFs() []shownVRF {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := []shownVRF{}
	for _, number := range slices.Sorted(maps.Keys(t.vrfs)) {
		v := t.vrfs[number]
		shown = append(shown, shownVRF{v.Number, v.Network, v.Name, v.Import, v.Export, v.table.size, len(v.table.readers)})
	}
	return shown
}

type shownRoute struct {
	Prefix        string `json:"prefix"`
	NextHop       string `json:"next_hop"`
	Label         uint32 `json:"label"`
	Interface     string `json:"interface"`
	OriginNetwork uint32 `json:"origin_network"`
}

func (t *tables) showRoutes(number uint32) ([]shownRoute, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.vrfs[number]
	if !ok {
		return nil, false
	}
	shown := []shownRoute{}
	for _, key := range slices.Sorted(maps.Keys(v.table.rows)) {
		r := v.table.rows[key]
		m := new(controlv1.ControlMessage)
		if r.gone || proto.Unmarshal(r.body, m) != nil {
			continue
		}
		for _, p := range m.GetRoute().GetPaths() {
			shown = append(shown, shownRoute{key, p.NextHop, p.Label, p.InterfaceId, p.OriginNetwork})
		}
	}
	return shown, true
}

// metrics of a control node.
type metrics struct {
	held, dropped, duplicates prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		held:       counter("contrail_control_held_reports_total", "Reports of ports that the graph does not bind to the reporting node."),
		dropped:    counter("contrail_control_dropped_reports_total", "Such reports that were not kept because the node had too many."),
		duplicates: counter("contrail_control_duplicate_sessions_total", "Sessions refused because the node has another live one."),
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
	registry.MustRegister(m.held, m.dropped, m.duplicates,
		gauge("contrail_control_sessions", "Live sessions of agents.", func() int { return len(t.sessions) }),
		gauge("contrail_control_ports", "Interfaces that the graph binds to nodes.", func() int { return len(t.ports) }),
		gauge("contrail_control_vrfs", "Forwarding tables.", func() int { return len(t.vrfs) }),
		gauge("contrail_control_revision", "Revision of the store that the tables stand at.", func() int { return int(t.position.Revision) }),
		gauge("contrail_control_routes", "Routes in all forwarding tables.", func() int {
			n := 0
			for _, v := range t.vrfs {
				n += v.table.size
			}
			return n
		}))
}
