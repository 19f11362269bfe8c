package vrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// listen opens the agent's listeners.
func (a *Agent) listen() (map[string]*serve.Server, error) {
	servers := map[string]*serve.Server{}
	local, err := serve.Listen(a.log, serve.Config{Unix: filepath.Join(a.config.RunDir, socketName)}, a.localHandler())
	if err != nil {
		return nil, err
	}
	servers["agent socket"] = local
	if a.config.PortAPI != "" {
		cfg := serve.Config{Bearer: a.config.PortAPI, BearerFile: a.config.TokenFile}
		if a.config.PortAPIOpen {
			if cfg, err = openListener(a.config.PortAPI); err != nil {
				return nil, err
			}
			a.log.Warn("port API answers everyone on this node", "address", a.config.PortAPI)
		}
		if servers["port API"], err = serve.Listen(a.log, cfg, a.portAPIHandler()); err != nil {
			return nil, err
		}
	}
	if a.config.Introspect != "" {
		cfg := serve.Config{Bearer: a.config.Introspect, BearerFile: a.config.TokenFile}
		if servers["introspect"], err = serve.Listen(a.log, cfg, a.introspectHandler()); err != nil {
			return nil, err
		}
	}
	return servers, nil
}

// openListener hands a listener over that asks for no token.
func openListener(address string) (serve.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return serve.Config{}, fmt.Errorf("--port-api-open with --port-api %s: want a loopback address", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return serve.Config{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	defer l.Close()
	// A descriptor of its own, which nobody here closes: serve takes it over.
	fd := -1
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		var dupErr error
		err = raw.Control(func(original uintptr) { fd, dupErr = unix.FcntlInt(original, unix.F_DUPFD_CLOEXEC, 3) })
		err = errors.Join(err, dupErr)
	}
	if err != nil {
		return serve.Config{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	return serve.Config{Open: []int{fd}}, nil
}

// localHandler is the unix socket's API (package portapi).
func (a *Agent) localHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+portapi.PathAttach, func(w http.ResponseWriter, r *http.Request) {
		// The second document may be long in coming: nothing else bounds it.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(portapi.AttachTimeout))
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, portapi.MaxBody))
		var request portapi.AttachRequest
		if err := body.Decode(&request); err != nil {
			reply(w, nil, badRequest(err))
			return
		}
		answer, err := a.attach(r.Context(), request, func() (string, error) {
			var ready portapi.AttachReady
			if err := body.Decode(&ready); err != nil {
				return "", badRequest(err)
			}
			return ready.HostInterface, nil
		})
		reply(w, answer, err)
	})
	mux.HandleFunc("POST "+portapi.PathDetach, func(w http.ResponseWriter, r *http.Request) {
		var request portapi.DetachRequest
		if !readRequest(w, r, &request) {
			return
		}
		// A plugin that is killed while it waits does not take its word back.
		err := a.detach(context.WithoutCancel(r.Context()), request)
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("GET "+portapi.PathPorts, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, portapi.PortList{Ports: a.portList()}, nil)
	})
	mux.HandleFunc("GET "+portapi.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, a.status(), nil)
	})
	mux.Handle("GET /", a.introspectHandler())
	return mux
}

func readRequest(w http.ResponseWriter, r *http.Request, into any) bool {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, portapi.MaxBody))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		reply(w, nil, badRequest(err))
		return false
	}
	return true
}

func badRequest(err error) error {
	return &portapi.Error{Kind: portapi.KindInvalid, Message: "request to the vRouter agent: " + err.Error()}
}

func reply(w http.ResponseWriter, answer any, err error) {
	code := http.StatusOK
	if err != nil {
		var known *portapi.Error
		if !errors.As(err, &known) {
			known = &portapi.Error{Kind: portapi.KindInternal, Message: err.Error()}
		}
		answer, code = known, statusOf(known.Kind)
	}
	writeJSON(w, code, answer)
}

func statusOf(kind string) int {
	switch kind {
	case portapi.KindInvalid:
		return http.StatusBadRequest
	case portapi.KindNotFound:
		return http.StatusNotFound
	case portapi.KindConflict:
		return http.StatusConflict
	case portapi.KindExhausted:
		return http.StatusInsufficientStorage
	case portapi.KindUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func writeJSON(w http.ResponseWriter, code int, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, "encode answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(data, '\n'))
}

func (a *Agent) portList() []portapi.Port {
	records, _ := a.registry.all()
	ports := make([]portapi.Port, 0, len(records))
	for _, r := range records {
		p := portapi.Port{
			ID:            r.ID,
			ContainerID:   r.ContainerID,
			Interface:     r.Interface,
			Namespace:     r.Namespace,
			HostInterface: r.HostInterface,
			HostIndex:     r.HostIndex,
			Network:       strings.Join(r.NetworkName, ":"),
			VRF:           r.VRF,
			Label:         r.Label,
			MAC:           r.MAC,
			Addresses:     r.Addresses,
			DisplayName:   r.DisplayName,
			Revision:      r.Revision,
		}
		s, desired := a.ports.StatusOf(r.HostIndex)
		if !desired {
			s = reconcile.Status{State: reconcile.Pending}
		}
		p.Status = stateOf(s)
		ports = append(ports, p)
	}
	return ports
}

func stateOf(s reconcile.Status) portapi.State {
	state := portapi.State{State: string(s.State), Since: s.Since}
	if s.Err != nil {
		state.Error = s.Err.Error()
	}
	return state
}

func (a *Agent) status() portapi.Status {
	records, _ := a.registry.all()
	status := portapi.Status{
		Node: a.node, Name: a.config.Name, Address: a.config.Address.String(), BootID: a.bootID,
		Ports: len(records), QueuedDetaches: len(a.queue.pending()),
	}
	for _, failing := range a.health.AllFailing() {
		status.FailingChecks += len(failing)
	}
	a.manager.mu.Lock()
	defer a.manager.mu.Unlock()
	status.Ready, status.MTU = a.manager.joined, a.manager.mtu
	if !status.Ready {
		status.Message = "the node has not joined yet"
		if a.manager.lastErr != nil {
			status.Message = a.manager.explain(a.manager.lastErr).Error()
		}
	}
	return status
}
