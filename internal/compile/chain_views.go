package compile

import (
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// ServiceView is the routing instance on one side of a service of a chain, as
// classic clients know it: a child of the network at that end, which has the
// routes through the service. It is for those who may read the service.
type ServiceView struct {
	Instance   *model.RoutingInstance
	References []model.Reference
	// From are the networks and services of its chain, of which it tells.
	From []model.Entity
}

// serviceSpace begins the ids of such routing instances, of version 8 (RFC 9562
// section 5.8). Their last seven bytes are a digest of what they are of.
var serviceSpace = [9]byte{0x63, 0x68, 0x61, 0x69, 0x6e, 0x73, 0x80, 0x00, 0x80}

// IsServiceView tells whether an id can be that of a service's routing
// instance.
func IsServiceView(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && [9]byte(u[:9]) == serviceSpace
}

// id is the same for all who have the same chain.
func (c *Chain) id() string {
	return model.DerivedUUID(append([]string{"chain", c.Ends[left], c.Ends[right]}, c.Services...)...)
}

func (c *Chain) entities() []model.Entity {
	list := []model.Entity{{Kind: model.KindVirtualNetwork, UUID: c.Ends[left]}, {Kind: model.KindVirtualNetwork, UUID: c.Ends[right]}}
	for _, id := range c.Services {
		list = append(list, model.Entity{Kind: model.KindServiceInstance, UUID: id})
	}
	return list
}

func (c *Chain) viewID(service string, at side) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{c.id(), service, at.String()}, " ")))
	var u uuid.UUID
	copy(u[:], serviceSpace[:])
	copy(u[len(serviceSpace):], sum[:])
	return u.String()
}

// NetworkOf is the network below which a view of a routing instance with the id
// is, if there is one. That of a service does not tell; it is looked for where
// policies lead through services.
func (w *Views) NetworkOf(id string) string {
	if !IsServiceView(id) {
		return NetworkOfInstance(id)
	}
	for policy := range w.v.AllStored(model.KindNetworkPolicy) {
		if p := linkPolicies.get(w.g, policy.UUID); p == nil || len(p.Chains) == 0 {
			continue
		}
		for r := range w.v.BackReferenceSeq(policy.UUID, model.KindVirtualNetwork) {
			if w.hasServiceView(r.From.UUID, id) {
				return r.From.UUID
			}
		}
	}
	return ""
}

func (w *Views) hasServiceView(network, id string) bool {
	n := networkChains.get(w.g, network)
	if n == nil {
		return false
	}
	for i := range n.Chains {
		c := &n.Chains[i]
		if slices.ContainsFunc(c.Services, func(s string) bool { return c.viewID(s, c.sideOf(network)) == id }) {
			return true
		}
	}
	return false
}

// viewName is the fq_name of a service's routing instance.
func (c *Chain) viewName(network *model.VirtualNetwork, s *service) []string {
	return append(slices.Clone(network.FQName), "service-"+c.id()+"-"+strings.ReplaceAll(s.From.Name, ":", "_"))
}

// servicesOf are the routing instances of services below a network.
func (w *Views) servicesOf(vn *model.VirtualNetwork) []ServiceView {
	n := networkChains.get(w.g, vn.UUID)
	if n == nil {
		return nil
	}
	var list []ServiceView
	for i := range n.Chains {
		c := &n.Chains[i]
		at := c.sideOf(vn.UUID)
		for _, id := range c.Services {
			if view, ok := w.serviceView(c, vn, id, at); ok {
				list = append(list, view)
			}
		}
	}
	return list
}

// serviceView is the routing instance on a side of a service: the way from the
// network at that end to the one at the other.
func (w *Views) serviceView(c *Chain, vn *model.VirtualNetwork, id string, at side) (ServiceView, bool) {
	s := services.get(w.g, id)
	o, exists := get[*model.ServiceInstance](w.g, model.KindServiceInstance, id)
	other, ok := get[*model.VirtualNetwork](w.g, model.KindVirtualNetwork, c.Ends[at.other()])
	if s == nil || !exists || !ok {
		return ServiceView{}, false
	}
	m := viewMeta(&vn.Meta, c.viewID(id, at), c.viewName(vn, s))
	m.ParentType, m.Perms2 = string(model.KindVirtualNetwork), o.Perms2
	view := ServiceView{Instance: &model.RoutingInstance{Meta: m, RoutingInstanceIsDefault: new(false)}, From: c.entities()}
	info := &model.ServiceChainInfo{
		ServiceChainID: c.id(), ServiceInstance: s.From.Name, SourceRoutingInstance: instanceText(vn),
		RoutingInstance: instanceText(other),
	}
	if next, more := c.next(id, at.other()); more {
		if behind := services.get(w.g, next); behind != nil {
			info.RoutingInstance = model.FQString(c.viewName(vn, behind))
		}
	}
	routes := c.routesThrough(w.g, id, at.other())
	for _, p := range *subnets.get(w.g, other.UUID) {
		info.Prefix = append(info.Prefix, p.String())
	}
	if len(routes) > 0 {
		info.ServiceChainAddress = routes[0].Address.String()
		view.Instance.ServiceChainInformation = info
	}
	if c.first(at) == id {
		view.References = []model.Reference{{From: model.EntityOf(view.Instance), To: instanceEntity(w.v, vn.UUID)}}
	}
	return view, true
}

// instanceText is the name of a network's own routing instance.
func instanceText(vn *model.VirtualNetwork) string {
	return model.FQString(instanceName(vn.FQName))
}
