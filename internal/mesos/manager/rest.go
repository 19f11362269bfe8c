package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const (
	// maxBody bounds a REST request, as the configuration API does.
	maxBody = 1_024_000
	// defaultInterface is meant where a foreign body names none.
	defaultInterface = "eth0"
	// foreignNamespace stands for the namespace of a container that a foreign
	// plugin asked for: its body does not say.
	foreignNamespace = "foreign"
)

// cniInfo is the body of /add_cni_info and /del_cni_info. Two forms are in use:
// the CNI network configuration itself with cid and cmd added, and an object
// of cid, cmd and args, where args is the whole network configuration as a
// string. Interface is ours; without it eth0 is meant.
type cniInfo struct {
	ContainerID string          `json:"cid"`
	Command     string          `json:"cmd"`
	Interface   string          `json:"ifname"`
	Args        json.RawMessage `json:"args"`

	configuration *networkConfiguration
	// body is the request itself, which is part of the answer.
	body map[string]json.RawMessage
}

func (m *Manager) registerREST(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", m.restHome)
	mux.HandleFunc("POST /add_cni_info", m.rest("add_cni_info", m.restAdd))
	mux.HandleFunc("POST /del_cni_info", m.rest("del_cni_info", m.restDelete))
	mux.HandleFunc("GET /get_cni_info", m.rest("get_cni_info", m.restGet))
	mux.HandleFunc("GET /get_cni_info/{id}", m.rest("get_cni_info", m.restGet))
}

// rest turns a handler that returns an answer into one of HTTP: JSON, or the
// bare text of the error, as the configuration API answers.
func (m *Manager) rest(operation string, handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := handle(r)
		m.metrics.observe(operation, start, err)
		if err != nil {
			http.Error(w, messageOf(err), statusOf(err))
			return
		}
		writeJSON(w, answer)
	}
}

func writeJSON(w http.ResponseWriter, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, "encode answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // a caller that left needs no answer
}

// httpError is an error with a status of its own.
type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

func statusOf(err error) int {
	if e := (*httpError)(nil); errors.As(err, &e) {
		return e.status
	}
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted, connect.CodeFailedPrecondition, connect.CodeResourceExhausted:
		return http.StatusConflict
	case connect.CodeUnavailable, connect.CodeCanceled:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

func messageOf(err error) string {
	if e := (*connect.Error)(nil); errors.As(err, &e) {
		return e.Message()
	}
	return err.Error()
}

func readCNIInfo(r *http.Request, command string) (*cniInfo, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, &httpError{http.StatusUnsupportedMediaType, "Unable to parse publish request"}
	}
	data, err := io.ReadAll(r.Body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &httpError{http.StatusRequestEntityTooLarge, fmt.Sprintf("body has more than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, invalid(fmt.Errorf("read body: %w", err))
	}
	info, err := parseCNIInfo(data)
	if err != nil {
		return nil, invalid(err)
	}
	if info.Command != "" && !strings.EqualFold(info.Command, command) {
		return nil, invalid(fmt.Errorf("cmd: %q does not belong to %s; use %s, or the other path", cut(info.Command), r.URL.Path, command))
	}
	return info, nil
}

func parseCNIInfo(data []byte) (*cniInfo, error) {
	info := &cniInfo{}
	if err := json.Unmarshal(data, &info.body); err != nil {
		return nil, fmt.Errorf("body is no JSON object: %w; see the contract of add_cni_info", err)
	}
	if err := json.Unmarshal(data, info); err != nil {
		return nil, fmt.Errorf("body: %w; cid, cmd and ifname are strings", err)
	}
	configuration := data
	if len(info.Args) > 0 && info.Args[0] == '"' {
		var text string
		if err := json.Unmarshal(info.Args, &text); err != nil {
			return nil, fmt.Errorf("args: %w", err)
		}
		configuration = []byte(text)
	}
	var err error
	info.configuration, err = parseConfiguration(configuration)
	if info.Interface == "" {
		info.Interface = defaultInterface
	}
	return info, err
}

// restNode is the node a REST request is about. A node speaks for itself, and
// a body that names another one is refused; an administrator (unix socket,
// token, open listener) says which node by contrail.cluster-name.
func (m *Manager) restNode(ctx context.Context, info *cniInfo) (*configv1.Node, error) {
	caller := serve.CallerOf(ctx)
	named := info.configuration.clusterName()
	switch {
	case caller.Role == ctls.RoleNode:
		node, err := m.nodeNamed(ctx, caller.Node)
		if err != nil {
			return nil, err
		}
		if named != "" && named != node.Id && named != node.Name {
			return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf(
				"contrail.cluster-name: %q is not the calling node %s; name the node that the certificate belongs to, or leave it out", cut(named), node.Name))
		}
		return node, nil
	case !caller.IsAdmin():
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("caller is %q; use a node's certificate", caller.Role))
	case named == "":
		return nil, invalid(errors.New("contrail.cluster-name is missing; name the node that the container runs on (see `contrail node list`)"))
	default:
		return m.nodeNamed(ctx, named)
	}
}

// restAdd answers when the attachment exists, with the request and the
// attachment beside it.
func (m *Manager) restAdd(r *http.Request) (any, error) {
	info, err := readCNIInfo(r, "ADD")
	if err != nil {
		return nil, err
	}
	node, err := m.restNode(r.Context(), info)
	if err != nil {
		return nil, err
	}
	res, err := m.attach(r.Context(), &configv1.AttachmentKey{
		Node: node.Id, ContainerId: info.ContainerID, Interface: info.Interface,
		BootId: node.BootId, Namespace: foreignNamespace,
	}, info.configuration, 0)
	if err != nil {
		return nil, err
	}
	if info.body["attachment"], err = protojson.Marshal(res.Attachment); err != nil {
		return nil, fmt.Errorf("encode attachment: %w", err)
	}
	return info.body, nil
}

// restDelete takes back every interface of the container; the contract's body
// names none. The one that ADD would have made is detached in any case: if the
// DEL overtook it, the store must remember.
func (m *Manager) restDelete(r *http.Request) (any, error) {
	info, err := readCNIInfo(r, "DEL")
	if err != nil {
		return nil, err
	}
	node, err := m.restNode(r.Context(), info)
	if err != nil {
		return nil, err
	}
	interfaces := map[string]bool{info.Interface: true}
	if _, one := info.body["ifname"]; !one {
		listed, _, err := call(r.Context(), m, "list", m.attachments.List, &configv1.ListRequest{Node: node.Id})
		if err != nil {
			return nil, err
		}
		for _, a := range listed.Attachments {
			if a.Key.GetContainerId() == info.ContainerID {
				interfaces[a.Key.Interface] = true
			}
		}
	}
	for ifname := range interfaces {
		// Of any boot and namespace.
		key := &configv1.AttachmentKey{Node: node.Id, ContainerId: info.ContainerID, Interface: ifname}
		if _, err := m.detach(r.Context(), key, 0); err != nil {
			return nil, err
		}
	}
	return info.body, nil
}

// restGet lists attachments by container id, those of the calling node for a
// node, all for an administrator.
func (m *Manager) restGet(r *http.Request) (any, error) {
	caller := serve.CallerOf(r.Context())
	request := &configv1.ListRequest{}
	switch {
	case caller.Role == ctls.RoleNode:
		request.Node = caller.Node
	case !caller.IsAdmin():
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("caller is %q; use a node's certificate", caller.Role))
	}
	listed, _, err := call(r.Context(), m, "list", m.attachments.List, request)
	if err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	containers := map[string][]json.RawMessage{}
	for _, a := range listed.Attachments {
		if id != "" && a.Key.GetContainerId() != id {
			continue
		}
		data, err := protojson.Marshal(a)
		if err != nil {
			return nil, fmt.Errorf("encode attachment: %w", err)
		}
		containers[a.Key.GetContainerId()] = append(containers[a.Key.GetContainerId()], data)
	}
	if id != "" && len(containers) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("container %q has no attachment", cut(id)))
	}
	return containers, nil
}

func (m *Manager) restHome(w http.ResponseWriter, r *http.Request) {
	base := "http://" + r.Host
	if r.TLS != nil {
		base = "https://" + r.Host
	}
	type link struct {
		Rel    string `json:"rel"`
		Href   string `json:"href"`
		Name   string `json:"name"`
		Method string `json:"method"`
	}
	type entry struct {
		Link link `json:"link"`
	}
	answer := struct {
		Href  string  `json:"href"`
		Links []entry `json:"links"`
	}{Href: base}
	for _, l := range []struct{ method, name string }{
		{"POST", "add_cni_info"}, {"POST", "del_cni_info"}, {"GET", "get_cni_info"}, {"GET", "metrics"},
	} {
		answer.Links = append(answer.Links, entry{link{"action", base + "/" + l.name, l.name, l.method}})
	}
	writeJSON(w, answer)
}
