package compile

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// BGPServiceView is a bgp-router that follows from services, as classic clients
// know it: below the routing instance of a network one for the control nodes,
// bgpaas-server, and one for each task, or for all that share an address.
type BGPServiceView struct {
	Router *model.BGPRouter
	// Service that a task's follows from; zero for that of the control nodes.
	Service model.Entity
	// Network that the instance is of.
	Network model.Entity
	// Refs are to that of the control nodes.
	Refs []model.Reference
}

// bgpServiceSpace begins the ids of such routers, of version 8 (RFC 9562 section
// 5.8). Their last seven bytes are a digest of what they are of.
var bgpServiceSpace = [9]byte{0x62, 0x67, 0x70, 0x61, 0x61, 0x73, 0x80, 0x00, 0x80}

// IsBGPServiceView tells whether an id can be that of such a router.
func IsBGPServiceView(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && [9]byte(u[:9]) == bgpServiceSpace
}

func bgpServiceViewID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, " ")))
	var u uuid.UUID
	copy(u[:], bgpServiceSpace[:])
	copy(u[len(bgpServiceSpace):], sum[:])
	return u.String()
}

// BGPServiceViews are those of all services, of each service's network first that
// of the control nodes.
func BGPServiceViews(v *model.View) []BGPServiceView {
	var list []BGPServiceView
	seen := map[string]bool{}
	add := func(view BGPServiceView) {
		if id := view.Router.UUID; !seen[id] {
			seen[id] = true
			list = append(list, view)
		}
	}
	for o := range v.All(model.KindBGPAsAService) {
		service := o.(*model.BGPAsAService)
		for _, r := range v.References(service.UUID, model.KindVirtualMachineInterface) {
			vmi, ok := v.Find(r.To.UUID)
			network := networkOfInterface(v, r.To.UUID)
			if !ok || network == nil {
				continue
			}
			server := serverView(v, network)
			for _, s := range BGPServicesOf(v, r.To.UUID, network.UUID) {
				if s.UUID == service.UUID && s.Problem == "" {
					add(server)
					add(clientView(v, service, &s, vmi, network, server.Router))
				}
			}
		}
	}
	return list
}

func networkOfInterface(v *model.View, iface string) *model.VirtualNetwork {
	for r := range v.ReferenceSeq(iface, model.KindVirtualNetwork) {
		if vn, ok := model.Get[*model.VirtualNetwork](v, r.To.UUID); ok {
			return vn
		}
	}
	return nil
}

// below makes a router's meta, with rights and dates of what it follows from.
func belowInstance(v *model.View, of *model.Meta, network *model.VirtualNetwork, id, name string) model.Meta {
	parent := instanceEntity(v, network.UUID)
	m := viewMeta(of, id, append(instanceName(network.FQName), name))
	m.ParentType, m.ParentUUID = string(parent.Kind), parent.UUID
	return m
}

func serverView(v *model.View, network *model.VirtualNetwork) BGPServiceView {
	id := bgpServiceViewID("server", network.UUID)
	return BGPServiceView{
		Network: model.EntityOf(network),
		Router: &model.BGPRouter{
			Meta: belowInstance(v, &network.Meta, network, id, "bgpaas-server"),
			BGPRouterParameters: &model.BgpRouterParams{
				RouterType: "bgpaas-server", AutonomousSystem: new(ASN(v)), Port: new(int64(179)),
			},
		},
	}
}

func clientView(v *model.View, o *model.BGPAsAService, s *BGPService, vmi model.Object, network *model.VirtualNetwork, server *model.BGPRouter) BGPServiceView {
	id, name := bgpServiceViewID("client", s.UUID, s.Interface), vmi.GetMeta().Name()
	if s.Shared {
		id, name = bgpServiceViewID("client", s.UUID, network.UUID), o.Name()
	}
	address := s.Clients()[0]
	p := &model.BgpRouterParams{
		RouterType: "bgpaas-client", AutonomousSystem: new(int64(s.AS)), Address: address.String(),
		AddressFamilies: &model.AddressFamilies{Family: s.Families},
	}
	if address.Is4() {
		p.Identifier = address.String()
	}
	if s.LocalAS != 0 {
		p.LocalAutonomousSystem = new(int64(s.LocalAS))
	}
	if s.Hold != 0 {
		p.HoldTime = new(int64(s.Hold))
	}
	if s.Disabled {
		p.AdminDown = new(true)
	}
	if !s.Shared { // each interface has another
		p.SourcePort = new(int64(s.Port))
	}
	if !s.Suppressed {
		p.GatewayAddress, p.Ipv6GatewayAddress = textOf(s.Gateway4), textOf(s.Gateway6)
	}
	view := BGPServiceView{
		Network: model.EntityOf(network), Service: model.EntityOf(o),
		Router: &model.BGPRouter{Meta: belowInstance(v, &o.Meta, network, id, name), BGPRouterParameters: p},
	}
	view.Refs = []model.Reference{{From: model.EntityOf(view.Router), To: model.EntityOf(server), Attr: s.peering(o, id)}}
	return view
}

// peering is the session as a reference between two routers has it.
func (s *BGPService) peering(o *model.BGPAsAService, id string) json.RawMessage {
	attributes := model.BgpSessionAttributes{}
	if o.BgpaasSessionAttributes != nil {
		attributes = *o.BgpaasSessionAttributes
	}
	text, err := json.Marshal(model.BgpPeeringAttributes{Session: []model.BgpSession{{UUID: id, Attributes: []model.BgpSessionAttributes{attributes}}}})
	if err != nil {
		panic(fmt.Sprintf("encode attributes of bgp-as-a-service %s: %v", o.UUID, err)) // they were decoded
	}
	return text
}

func textOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// BGPServiceViewsOf are those for which f says yes.
func BGPServiceViewsOf(v *model.View, f func(*BGPServiceView) bool) []BGPServiceView {
	return slices.DeleteFunc(BGPServiceViews(v), func(w BGPServiceView) bool { return !f(&w) })
}
