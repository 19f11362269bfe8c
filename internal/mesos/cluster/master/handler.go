package master

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/api/contrail/mesos/v1/mesosclusterv1connect"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Handler serves everything: the v1 APIs, the legacy endpoints, both also under
// /master, and the service for agents. Requests come through serve: agents
// have a node's certificate; schedulers and readers those of services or the
// administrator's.
func (m *Master) Handler() http.Handler {
	routes := map[string]http.HandlerFunc{
		"/api/v1/scheduler": allowed(m.scheduler, ctls.RoleMarathon),
		"/api/v1":           reading(m.operator),
		"/state":            reading(m.legacy(m.legacyState)),
		"/slaves":           reading(m.legacy(m.legacySlaves)),
		"/tasks":            reading(m.legacy(m.legacyTasks)),
		"/frameworks":       reading(m.legacy(m.legacyFrameworks)),
		"/flags":            reading(m.legacy(m.legacyFlags)),
		"/teardown":         allowed(m.legacyTeardown),
		"/version":          m.legacy(m.legacyVersion),
		"/health":           empty,
		"/redirect":         m.redirect,
	}
	rpcPath, rpc := mesosclusterv1connect.NewClusterHandler(cluster{m}, connect.WithReadMaxBytes(maxCall))
	metrics := reading(m.legacy(m.legacyMetrics))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, rpcPath) {
			rpc.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/metrics/snapshot" {
			metrics(w, r)
			return
		}
		path := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/master"), "/")
		route, ok := routes[path]
		if !ok && strings.HasPrefix(path, "/slaves/") {
			// Mesos routes by the longest prefix; some clients name the agent so.
			route, ok = routes["/slaves"]
		}
		if !ok {
			codec.WriteError(w, codec.Errorf(http.StatusNotFound, "404 Not Found."))
			return
		}
		route(w, r)
	})
}

// allowed lets the administrator and the roles in.
func allowed(next http.HandlerFunc, roles ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller := serve.CallerOf(r.Context())
		for _, role := range append(roles, ctls.RoleAdmin) {
			if caller.Role == role {
				next(w, r)
				return
			}
		}
		codec.WriteError(w, codec.Errorf(http.StatusForbidden, "%s may not use %s", caller, r.URL.Path))
	}
}

// reading lets in those who may see the cluster's state.
func reading(next http.HandlerFunc) http.HandlerFunc {
	return allowed(next, ctls.RoleController, ctls.RoleManager, ctls.RoleMarathon, ctls.RoleMaster)
}

func empty(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
}

func (m *Master) redirect(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Location", "//"+net.JoinHostPort(m.cfg.Hostname, strconv.Itoa(int(m.info.GetPort()))))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// legacyTeardown is POST /teardown with frameworkId.
func (m *Master) legacyTeardown(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		codec.WriteError(w, codec.Errorf(http.StatusMethodNotAllowed,
			"405 Method Not Allowed. Expecting one of { 'POST' }, but received '%s'.", r.Method))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as Mesos reads it
	}
	id := r.PostFormValue("frameworkId")
	if id == "" {
		codec.WriteError(w, codec.Errorf(http.StatusBadRequest, "Missing 'frameworkId' query parameter"))
		return
	}
	m.mu.Lock()
	err := m.teardown(id, time.Now())
	m.mu.Unlock()
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	empty(w, r)
}
