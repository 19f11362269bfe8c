package vrouter

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// introspectHandler shows the tables of the data plane, and those of the agent
// with the status of each object.
func (a *Agent) introspectHandler() http.Handler {
	mux := http.NewServeMux()
	paths := []string{"/metrics"}
	ask := func(path string, value func(context.Context, url.Values) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := value(r.Context(), r.URL.Query())
			w.Header().Set(vrouterapi.HeaderNode, a.config.Name)
			reply(w, v, err)
		})
	}
	show := func(path string, value func(context.Context, url.Values) (any, error)) {
		paths = append(paths, path)
		ask(path, value)
	}
	whole := func(path string, value func() any) {
		show(path, func(context.Context, url.Values) (any, error) { return value(), nil })
	}
	a.showTables(show)
	a.answerQuestions(ask)
	a.showObjects(show)
	whole("/status", func() any { return a.status() })
	whole("/graph", func() any { return map[string]any{"ports": a.routing.graphPorts()} })
	whole("/health", func() any { return map[string]any{"checks": a.health.States()} })
	whole("/sessions", func() any { return map[string]any{"sessions": a.sessions.all()} })
	whole("/records", func() any { return a.recordState() })
	whole("/queue", func() any { return map[string]any{"detaches": a.queue.pending()} })
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics(), promhttp.HandlerOpts{}))
	slices.Sort(paths)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string][]string{"tables": paths}, nil)
	})
	return mux
}

// shower adds a path to the introspection.
type shower = func(path string, value func(context.Context, url.Values) (any, error))

// looker adds what a look at the maps finds.
func (a *Agent) looker(show shower) func(path string, of func(*look) (any, error)) {
	return func(path string, of func(*look) (any, error)) {
		show(path, func(_ context.Context, q url.Values) (any, error) {
			l, err := a.look(q)
			if err != nil {
				return nil, err
			}
			return of(l)
		})
	}
}

// answerQuestions adds what has no answer without parameters, and is no table.
func (a *Agent) answerQuestions(ask shower) {
	question := a.looker(ask)
	question(vrouterapi.PathTrace, func(l *look) (any, error) { return l.trace() })
	question(vrouterapi.PathTraceArrival, func(l *look) (any, error) { return l.traceArrival() })
}

// showTables adds what is in the maps.
func (a *Agent) showTables(show shower) {
	table := a.looker(show)
	table(vrouterapi.PathVifs, func(l *look) (any, error) { return l.vifs() })
	table(vrouterapi.PathRoutes, func(l *look) (any, error) { return l.routes() })
	table(vrouterapi.PathNextHops, func(l *look) (any, error) { return l.nextHops() })
	table(vrouterapi.PathLabels, func(l *look) (any, error) { return l.labels() })
	table(vrouterapi.PathVNIs, func(l *look) (any, error) { return l.vnis() })
	table(vrouterapi.PathFlows, func(l *look) (any, error) { return l.flows() })
	table(vrouterapi.PathRules, func(l *look) (any, error) { return l.rules() })
	table(vrouterapi.PathDrops, func(l *look) (any, error) { return l.drops() })
	table(vrouterapi.PathVRFs, func(l *look) (any, error) { return l.vrfs() })
	table(vrouterapi.PathStats, func(l *look) (any, error) { return l.stats() })
	show(vrouterapi.PathFabric, func(context.Context, url.Values) (any, error) { return a.showFabric() })
	show(vrouterapi.PathObjects, func(ctx context.Context, q url.Values) (any, error) {
		l, err := a.look(q)
		if err != nil {
			return nil, err
		}
		return l.objects(ctx)
	})
}

// objectState is an object of the data plane: what the agent wants it to be, what
// it is in the maps, and how it is on its way.
type objectState[K comparable, V any] struct {
	Key K `json:"key"`
	// Port is the UUID of the one that the object is of.
	Port   string        `json:"port,omitempty"`
	Wanted *V            `json:"wanted,omitempty"`
	There  *V            `json:"there,omitempty"`
	Status portapi.State `json:"status"`
}

// portState is a port of the node; those that are in the maps alone have no id.
type portState struct {
	portapi.Port
	Wanted *dataplane.Port `json:"wanted,omitempty"`
	There  *dataplane.Port `json:"there,omitempty"`
}

// showObjects adds what the agent puts into the maps.
func (a *Agent) showObjects(show shower) {
	show("/ports", func(ctx context.Context, _ url.Values) (any, error) {
		ports, err := a.portStates(ctx)
		return map[string]any{"ports": ports}, err
	})
	ofPort := func() func(int) string {
		names := a.portNames()
		return func(ifindex int) string { return names[ifindex] }
	}
	showTable(show, a.policies, cmp.Compare[int], ofPort)
	showTable(show, a.routes, dataplane.RouteKey.Compare, nil)
	showTable(show, a.macs, dataplane.MACKey.Compare, nil)
	showTable(show, a.bridges, cmp.Compare[uint32], nil)
	showTable(show, a.vnis, cmp.Compare[uint32], nil)
	showTable(show, a.probes, netip.Addr.Compare, nil)
	showTable(show, a.snats, cmp.Compare[int], ofPort)
	showTable(show, a.services, dataplane.ServiceKey.Compare, func() func(dataplane.ServiceKey) string {
		name := ofPort()
		return func(k dataplane.ServiceKey) string { return name(k.IfIndex) }
	})
}

// showTable adds the table of a reconciler, under its name. ports makes what
// tells the port of an object; nil for none.
func showTable[K comparable, V any](show shower, t *reconcile.Table[K, V], compare func(a, b K) int, ports func() func(K) string) {
	show("/"+t.Name(), func(ctx context.Context, _ url.Values) (any, error) {
		entries, err := t.Entries(ctx)
		if err != nil {
			return nil, err
		}
		slices.SortFunc(entries, func(a, b reconcile.Entry[K, V]) int { return compare(a.Key, b.Key) })
		port := func(K) string { return "" }
		if ports != nil {
			port = ports()
		}
		list := make([]objectState[K, V], 0, len(entries))
		for _, e := range entries {
			list = append(list, objectState[K, V]{e.Key, port(e.Key), e.Desired, e.There, stateOf(e.Status)})
		}
		return map[string]any{t.Name(): list}, nil
	})
}

func (a *Agent) portStates(ctx context.Context) ([]portState, error) {
	entries, err := a.ports.Entries(ctx)
	if err != nil {
		return nil, err
	}
	byIndex := make(map[int]reconcile.Entry[int, dataplane.Port], len(entries))
	for _, e := range entries {
		byIndex[e.Key] = e
	}
	list := []portState{}
	for _, p := range a.portList() {
		e := byIndex[p.HostIndex]
		delete(byIndex, p.HostIndex)
		list = append(list, portState{p, e.Desired, e.There})
	}
	for ifindex, e := range byIndex {
		lost := portapi.Port{HostIndex: ifindex, Status: stateOf(e.Status)}
		if e.There != nil {
			lost.HostInterface = e.There.Name
		}
		list = append(list, portState{lost, e.Desired, e.There})
	}
	slices.SortFunc(list, func(x, y portState) int { return cmp.Compare(x.HostIndex, y.HostIndex) })
	return list, nil
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

func invalid(format string, args ...any) error {
	return &portapi.Error{Kind: portapi.KindInvalid, Message: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &portapi.Error{Kind: portapi.KindNotFound, Message: fmt.Sprintf(format, args...)}
}
