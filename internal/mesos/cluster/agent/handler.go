package agent

import (
	"net/http"
	"strings"

	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Handler serves the executor API, the operator API and the legacy endpoints;
// all also under /slave(1). Requests come through serve.
//
// On the unix socket there are, as in Mesos, the two APIs only, that of
// executors only under /slave(1): this is what MESOS_SLAVE_PID tells them.
// Elsewhere callers show a certificate; executors are not among them.
func (a *Agent) Handler() http.Handler {
	routes := map[string]http.HandlerFunc{
		"/api/v1/executor":    a.ready(a.serveExecutor),
		"/api/v1":             a.ready(a.serveOperator),
		"/state":              a.ready(legacy(a.legacyState)),
		"/containers":         a.ready(legacy(a.legacyContainers)),
		"/monitor/statistics": a.ready(legacy(a.legacyStatistics)),
		"/flags":              legacy(a.legacyFlags),
		"/version":            legacy(a.legacyVersion),
		"/files/browse":       a.browse,
		"/files/read":         a.read,
		"/files/download":     a.download,
		"/metrics/snapshot":   a.ready(legacy(a.legacyMetrics)),
		"/health":             health,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, own := strings.CutPrefix(r.URL.Path, "/slave(1)")
		path = strings.TrimSuffix(path, "/")
		caller := serve.CallerOf(r.Context())
		api := path == "/api/v1" || path == "/api/v1/executor" && own
		if caller.Via == "unix" && !api || path == "/api/v1/executor" && caller.Via != "unix" || !mayRead(caller) {
			codec.WriteError(w, codec.Errorf(http.StatusForbidden, "403 Forbidden."))
			return
		}
		route, ok := routes[path]
		if !ok {
			codec.WriteError(w, codec.Errorf(http.StatusNotFound, "404 Not Found."))
			return
		}
		route(w, r)
	})
}

// mayRead says who sees tasks and sandboxes: the administrator and the parts of
// the cluster that look after them.
func mayRead(caller serve.Caller) bool {
	switch caller.Role {
	case ctls.RoleAdmin, ctls.RoleManager, ctls.RoleMaster, ctls.RoleController, ctls.RoleMarathon:
		return true
	}
	return false
}

// ready holds requests off until the agent knows what it runs.
func (a *Agent) ready(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-a.recovered:
			next(w, r)
		default:
			codec.WriteError(w, codec.Errorf(http.StatusServiceUnavailable, "Agent has not finished recovery"))
		}
	}
}

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}
