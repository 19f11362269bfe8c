//go:build net

package vrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// controllers speak the contracts of the manager and of a control node over
// mutual TLS, with the store in memory.
type controllers struct {
	controlv1connect.UnimplementedControlHandler

	mu          sync.Mutex
	nodes       map[string]*managerv1.ReportRequest
	attachments map[string]*configv1.Attachment // by node, container, interface
	tombstones  map[string]uint64               // the same with the namespace; sequences
	networks    map[string]uint32
	hosts       map[uint32]int
	revision    uint64
	labels      uint32
	changed     chan struct{}
	up          map[string]bool
	// floating are the addresses that ports have in other networks, policies what
	// they have instead of none, by interface; sets are what these name.
	floating map[string]*controlv1.ForeignAddress
	policies map[string]*controlv1.PortPolicy
	sets     []*controlv1.ControlMessage
	// before is called at the start of Attach; it may block or refuse.
	before func(context.Context) error

	servers []*httptest.Server
	// sessions are ended by cut.
	sessions map[int]context.CancelFunc
	next     int
}

func newControllers() *controllers {
	return &controllers{
		nodes: map[string]*managerv1.ReportRequest{}, attachments: map[string]*configv1.Attachment{},
		tombstones: map[string]uint64{}, networks: map[string]uint32{}, hosts: map[uint32]int{}, revision: 100,
		labels: 16, changed: make(chan struct{}), up: map[string]bool{}, sessions: map[int]context.CancelFunc{},
		floating: map[string]*controlv1.ForeignAddress{}, policies: map[string]*controlv1.PortPolicy{},
	}
}

type nodeKey struct{}

// serve answers on l, with the credentials of a manager or a controller.
func (c *controllers) serve(l net.Listener, credentials *ctls.Credentials) {
	mux := http.NewServeMux()
	mux.Handle(managerv1connect.NewManagerHandler(c))
	mux.Handle(controlv1connect.NewControlHandler(c))
	server := &httptest.Server{
		Listener: l, EnableHTTP2: true, TLS: credentials.Server(),
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := ctls.PeerIdentity(r.TLS)
			if err != nil || id.Role != ctls.RoleNode {
				http.Error(w, "not a node", http.StatusForbidden)
				return
			}
			mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nodeKey{}, id.Node)))
		})},
	}
	server.StartTLS()
	c.servers = append(c.servers, server)
}

// stop ends the sessions and all connections.
func (c *controllers) stop() {
	c.mu.Lock()
	for _, cancel := range c.sessions {
		cancel()
	}
	c.mu.Unlock()
	for _, server := range c.servers {
		server.CloseClientConnections()
		server.Close()
	}
	c.servers = nil
}

func (c *controllers) commit() *typesv1.Position {
	c.revision++
	close(c.changed)
	c.changed = make(chan struct{})
	return c.position()
}

func (c *controllers) position() *typesv1.Position {
	return &typesv1.Position{Epoch: 1, Revision: c.revision}
}

func placeOf(node, container, ifname string) string { return node + "/" + container + "/" + ifname }

// networkOf takes the network from the label, as the manager does.
func networkOf(configuration []byte) (string, error) {
	var conf struct {
		Args struct {
			Mesos struct {
				NetworkInfo struct {
					Labels struct {
						Labels []struct{ Key, Value string }
					}
				} `json:"network_info"`
			} `json:"org.apache.mesos"`
		}
	}
	if err := json.Unmarshal(configuration, &conf); err != nil {
		return "", err
	}
	for _, l := range conf.Args.Mesos.NetworkInfo.Labels.Labels {
		if l.Key == "networks" {
			if l.Value == "" {
				return "", errors.New(`label networks: "" is no name`)
			}
			return l.Value, nil
		}
	}
	return "default", nil
}

func (c *controllers) Attach(ctx context.Context, r *connect.Request[managerv1.AttachRequest]) (*connect.Response[managerv1.AttachResponse], error) {
	node := ctx.Value(nodeKey{}).(string)
	c.mu.Lock()
	before := c.before
	c.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	network, err := networkOf(r.Msg.GetNetworkConfiguration())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[node] == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("node has not joined"))
	}
	place := placeOf(node, r.Msg.GetContainerId(), r.Msg.GetInterface())
	if detached, ok := c.tombstones[place+"/"+r.Msg.GetNamespace()]; ok && r.Msg.GetSequence() <= detached {
		return nil, connect.NewError(connect.CodeAlreadyExists, errors.New("attachment was detached"))
	}
	old := c.attachments[place]
	if old != nil && old.GetKey().GetNamespace() == r.Msg.GetNamespace() {
		return connect.NewResponse(&managerv1.AttachResponse{Attachment: old, Position: c.position()}), nil
	}
	a := c.make(node, network, r.Msg)
	if old != nil {
		a.InterfaceId, a.Addresses, a.Mac = old.GetInterfaceId(), old.GetAddresses(), old.GetMac()
	}
	c.attachments[place] = a
	position := c.commit()
	a.Revision = position.GetRevision()
	return connect.NewResponse(&managerv1.AttachResponse{Attachment: a, Position: position}), nil
}

func (c *controllers) make(node, network string, r *managerv1.AttachRequest) *configv1.Attachment {
	vrf := c.networks[network]
	if vrf == 0 {
		vrf = uint32(len(c.networks) + 1)
		c.networks[network] = vrf
	}
	c.hosts[vrf]++
	c.labels++
	host := c.hosts[vrf] + 2
	return &configv1.Attachment{
		Key: &configv1.AttachmentKey{
			Node: node, ContainerId: r.GetContainerId(), Interface: r.GetInterface(), BootId: r.GetBootId(), Namespace: r.GetNamespace(),
		},
		VirtualMachineId: uuid.NewString(), InterfaceId: uuid.NewString(), NetworkId: uuid.NewString(),
		NetworkFqName: []string{"default-domain", "mesos-default", network},
		Vrf:           vrf, Label: c.labels, Mtu: 1468,
		Mac: fmt.Sprintf("02:00:00:00:%02x:%02x", vrf, host),
		Addresses: []*configv1.Address{{
			Address: fmt.Sprintf("10.%d.0.%d", 32+vrf, host), PrefixLength: 20,
			Gateway: fmt.Sprintf("10.%d.0.1", 32+vrf), DnsServer: fmt.Sprintf("10.%d.0.2", 32+vrf),
		}},
	}
}

func (c *controllers) Detach(ctx context.Context, r *connect.Request[managerv1.DetachRequest]) (*connect.Response[managerv1.DetachResponse], error) {
	node := ctx.Value(nodeKey{}).(string)
	c.mu.Lock()
	defer c.mu.Unlock()
	place := placeOf(node, r.Msg.GetContainerId(), r.Msg.GetInterface())
	old := c.attachments[place]
	namespace := r.Msg.GetNamespace()
	existed := old != nil && (namespace == "" || namespace == old.GetKey().GetNamespace())
	if existed {
		namespace = old.GetKey().GetNamespace()
		delete(c.attachments, place)
	}
	c.tombstones[place+"/"+namespace] = r.Msg.GetSequence()
	return connect.NewResponse(&managerv1.DetachResponse{Existed: existed, Position: c.commit()}), nil
}

func (c *controllers) Report(ctx context.Context, r *connect.Request[managerv1.ReportRequest]) (*connect.Response[managerv1.ReportResponse], error) {
	node := ctx.Value(nodeKey{}).(string)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[node] = r.Msg
	response := &managerv1.ReportResponse{Mtu: 1468}
	live := map[string]bool{}
	for _, k := range r.Msg.GetLive() {
		live[placeOf(k.GetNode(), k.GetContainerId(), k.GetInterface())] = true
	}
	for place, a := range c.attachments {
		if a.GetKey().GetBootId() == "" {
			continue // bound by a client of the API, not by a node
		}
		if r.Msg.GetSince() == nil || a.GetKey().GetNode() != node || live[place] || a.GetRevision() > r.Msg.GetSince().GetRevision() {
			continue
		}
		delete(c.attachments, place)
		response.Released = append(response.Released, a.GetKey())
	}
	response.Position = c.commit()
	return connect.NewResponse(response), nil
}

// setBefore has Attach call f first.
func (c *controllers) setBefore(f func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = f
}

// remove takes an attachment out of the graph, as a client of the API would.
func (c *controllers) remove(place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.attachments, place)
	c.commit()
}

func (c *controllers) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.attachments)
}

func (c *controllers) isUp(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up[id]
}

func (c *controllers) Session(ctx context.Context, stream *connect.BidiStream[controlv1.AgentMessage, controlv1.ControlMessage]) error {
	node := ctx.Value(nodeKey{}).(string)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.next++
	number := c.next
	c.sessions[number] = cancel
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.sessions, number)
	}()
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("session does not begin with hello"))
	}
	go func() {
		defer cancel()
		for {
			m, err := stream.Receive()
			if err != nil {
				return
			}
			if p := m.GetPortStatus(); p != nil {
				c.mu.Lock()
				c.up[p.GetInterfaceId()] = p.GetState() == controlv1.PortStatus_STATE_UP
				c.mu.Unlock()
			}
		}
	}()
	return c.push(ctx, node, stream)
}

func (c *controllers) portOf(a *configv1.Attachment) *controlv1.Port {
	port := portOf(a)
	if f := c.floating[a.GetInterfaceId()]; f != nil {
		port.Foreign = []*controlv1.ForeignAddress{f}
	}
	if p := c.policies[a.GetInterfaceId()]; p != nil {
		port.Policy = p
	}
	return port
}

func portOf(a *configv1.Attachment) *controlv1.Port {
	return &controlv1.Port{
		InterfaceId: a.GetInterfaceId(), VirtualMachineId: a.GetVirtualMachineId(), NetworkId: a.GetNetworkId(),
		Vrf: a.GetVrf(), Label: a.GetLabel(), Mac: a.GetMac(), Addresses: []string{a.GetAddresses()[0].GetAddress()},
		Revision: a.GetRevision(), Namespace: a.GetKey().GetNamespace(),
		Policy: &controlv1.PortPolicy{Network: a.GetVrf()},
	}
}

// desired is what a node is to know.
func (c *controllers) desired(node string) (ports map[string]*controlv1.Port, routes map[uint32]map[string]*controlv1.Route) {
	ports, routes = map[string]*controlv1.Port{}, map[uint32]map[string]*controlv1.Route{}
	for _, a := range c.attachments {
		if a.GetKey().GetNode() == node {
			ports[a.GetInterfaceId()] = c.portOf(a)
			routes[a.GetVrf()] = map[string]*controlv1.Route{}
			if f := c.floating[a.GetInterfaceId()]; f != nil {
				routes[f.GetVrf()] = map[string]*controlv1.Route{}
			}
		}
	}
	for _, a := range c.attachments {
		reach := func(vrf uint32, address string) {
			if routes[vrf] == nil {
				return
			}
			prefix := address + "/32"
			routes[vrf][prefix] = &controlv1.Route{Vrf: vrf, Prefix: prefix, Paths: []*controlv1.Path{{
				NextHop: c.nodes[a.GetKey().GetNode()].GetAddress(), Label: a.GetLabel(), InterfaceId: a.GetInterfaceId(), OriginNetwork: a.GetVrf(),
			}}}
		}
		reach(a.GetVrf(), a.GetAddresses()[0].GetAddress())
		if f := c.floating[a.GetInterfaceId()]; f != nil {
			reach(f.GetVrf(), f.GetAddress())
		}
	}
	return ports, routes
}

func (c *controllers) push(ctx context.Context, node string, stream *connect.BidiStream[controlv1.AgentMessage, controlv1.ControlMessage]) error {
	sentPorts, sentRoutes := map[string]*controlv1.Port{}, map[uint32]map[string]*controlv1.Route{}
	portsClosed, sentSets := false, 0
	keepAlive := time.NewTicker(time.Second)
	defer keepAlive.Stop()
	for {
		c.mu.Lock()
		changed, position := c.changed, c.position()
		ports, routes := c.desired(node)
		sets := c.sets
		c.mu.Unlock()
		var batch []*controlv1.ControlMessage
		add := func(m *controlv1.ControlMessage) { m.Position = position; batch = append(batch, m) }
		for _, m := range sets[sentSets:] {
			add(proto.CloneOf(m))
		}
		sentSets = len(sets)
		for _, id := range slices.Sorted(maps.Keys(ports)) {
			if !proto.Equal(sentPorts[id], ports[id]) {
				add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: ports[id]}})
			}
		}
		for id := range sentPorts {
			if ports[id] == nil {
				add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_PortGone{PortGone: &controlv1.PortGone{InterfaceId: id}}})
			}
		}
		if !portsClosed {
			portsClosed = true
			add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Ports{Ports: true}}}})
		}
		for vrf, table := range routes {
			for prefix, route := range table {
				if !proto.Equal(sentRoutes[vrf][prefix], route) {
					add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Route{Route: route}})
				}
			}
			for prefix := range sentRoutes[vrf] {
				if table[prefix] == nil {
					add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_RouteGone{RouteGone: &controlv1.RouteGone{Vrf: vrf, Prefix: prefix}}})
				}
			}
			if sentRoutes[vrf] == nil {
				add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Vrf{Vrf: vrf}}}})
			}
		}
		for vrf := range sentRoutes {
			if routes[vrf] == nil {
				add(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_VrfGone{VrfGone: &controlv1.VrfGone{Vrf: vrf}}})
			}
		}
		sentPorts, sentRoutes = ports, routes
		add(&controlv1.ControlMessage{Complete: true, Body: &controlv1.ControlMessage_KeepAlive{KeepAlive: &controlv1.KeepAlive{}}})
		for _, m := range batch {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-keepAlive.C:
		}
	}
}

// bind puts a port into the graph without an attachment, as the classic API does.
func (c *controllers) bind(node, network string) (port *controlv1.Port, place string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.make(node, network, &managerv1.AttachRequest{ContainerId: uuid.NewString(), Interface: "eth0"})
	place = placeOf(node, a.GetKey().GetContainerId(), "eth0")
	c.attachments[place] = a
	a.Revision = c.commit().GetRevision()
	return portOf(a), place
}
