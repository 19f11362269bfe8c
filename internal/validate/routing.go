package validate

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// asTrans stands for AS numbers that do not fit into two bytes (RFC 6793
// section 9); nobody has it.
const asTrans = 23456

func (c *checker) asn(path string, n *int64) {
	if n != nil && *n == asTrans {
		c.bad(path, *n, "an AS number; 23456 stands for others")
	}
}

// holdTime knows RFC 4271 section 4.2.
func (c *checker) holdTime(path string, n *int64) {
	if t := value(n); t == 1 || t == 2 {
		c.bad(path+".hold_time", t, "0, or at least 3 seconds")
	}
}

// authentication never shows a key in a message.
func (c *checker) authentication(path string, a *model.AuthenticationData) {
	if len(a.KeyItems) == 0 {
		c.bad(path+".key_items", nil, "at least one key")
	}
	seen := map[int64]bool{}
	for i, k := range a.KeyItems {
		if k.Key == "" || len(k.Key) > 80 { // what TCP_MD5SIG takes
			c.bad(at("%s.key_items[%d].key", path, i), at("a key of %d bytes", len(k.Key)), "1 to 80 bytes")
		}
		if id := value(k.KeyID); seen[id] {
			c.bad(at("%s.key_items[%d].key_id", path, i), id, "each key_id once")
		}
		seen[value(k.KeyID)] = true
	}
}

func (c *checker) bgpRouter(o *model.BGPRouter) {
	for _, r := range c.to(model.KindBGPRouter) {
		if r.To.UUID == o.UUID {
			c.bad("bgp_router_refs", c.nameOf(r), "another router than itself")
		}
	}
	p := o.BGPRouterParameters
	if p == nil {
		return
	}
	const path = "bgp_router_parameters"
	c.asn(path+".autonomous_system", p.AutonomousSystem)
	c.asn(path+".local_autonomous_system", p.LocalAutonomousSystem)
	c.holdTime(path, p.HoldTime)
	// RFC 6286 section 2.1: any four bytes but zero.
	if a, err := netip.ParseAddr(p.Identifier); err == nil && (!a.Is4() || a.IsUnspecified()) {
		c.bad(path+".identifier", p.Identifier, "a router id in the form of an IPv4 address that is not 0.0.0.0")
	}
	if a, err := netip.ParseAddr(p.Ipv6GatewayAddress); err == nil && !a.Is6() {
		c.bad(path+".ipv6_gateway_address", p.Ipv6GatewayAddress, "an IPv6 address")
	}
	if strings.HasPrefix(p.RouterType, "bgpaas-") {
		return // made from sessions of workloads, which say the rest
	}
	if p.AutonomousSystem == nil {
		c.bad(path+".autonomous_system", nil, "an AS number from 1 to 4294967294")
	}
	if p.Address == "" {
		c.bad(path+".address", nil, "the address that the router speaks from")
	}
}

func (c *checker) bgpAsAService(o *model.BGPAsAService) {
	c.asn("autonomous_system", o.AutonomousSystem)
	if model.ValueOr(o.BgpaasShared, false) && o.BgpaasIPAddress == "" {
		c.bad("bgpaas_ip_address", nil, "an address, as bgpaas_shared is true")
	}
	if a, err := netip.ParseAddr(o.BgpaasIPAddress); err == nil && (a.IsUnspecified() || a.IsMulticast() || a.IsLoopback()) {
		c.bad("bgpaas_ip_address", o.BgpaasIPAddress, "an address that an interface can have")
	}
	s := o.BgpaasSessionAttributes
	if s == nil {
		return
	}
	const path = "bgpaas_session_attributes"
	c.asn(path+".local_autonomous_system", s.LocalAutonomousSystem)
	if s.AuthData != nil && len(s.AuthData.KeyItems) > 0 {
		c.bad(path+".auth_data", "a key", "none: a TCP MD5 signature holds for the addresses of the connection, which the node translates. Who speaks is known by the interface")
	}
	if s.AddressFamilies != nil {
		for i, f := range s.AddressFamilies.Family {
			c.taskFamily(at("%s.address_families.family[%d]", path, i), f)
		}
	}
	for i, f := range s.FamilyAttributes {
		at := at("%s.family_attributes[%d]", path, i)
		c.taskFamily(at+".address_family", f.AddressFamily)
		if f.PrefixLimit != nil && value(f.PrefixLimit.Maximum) > maxTaskPrefixes {
			c.bad(at+".prefix_limit.maximum", *f.PrefixLimit.Maximum, "at most %d routes from a task", maxTaskPrefixes)
		}
	}
}

// maxTaskPrefixes bounds the routes of a family that a task may announce: they are
// kept by every control node.
const maxTaskPrefixes = 10_000

// taskFamily refuses families that are for routers.
func (c *checker) taskFamily(path, family string) {
	if family != "inet" && family != "inet6" {
		c.bad(path, family, "inet or inet6; others are for routers")
	}
}

func (c *checker) routeTable(o *model.RouteTable) {
	if o.Routes == nil {
		return
	}
	for i, r := range o.Routes.Route {
		if r.NextHop == "" {
			c.bad(at("routes.route[%d].next_hop", i), nil, "an address, or a service instance as domain:project:name")
		} else if _, err := netip.ParseAddr(r.NextHop); err != nil && !isFQName(r.NextHop, 3) {
			c.bad(at("routes.route[%d].next_hop", i), r.NextHop, "an address, or a service instance as domain:project:name")
		}
	}
}

func (c *checker) routeAggregate(o *model.RouteAggregate) {
	if o.AggregateRouteEntries == nil {
		return
	}
	list := o.AggregateRouteEntries.Route
	once(c, "aggregate_route_entries.route", list, itself, "each prefix once")
	hop, err := netip.ParseAddr(o.AggregateRouteNexthop)
	if o.AggregateRouteNexthop != "" && err != nil {
		c.bad("aggregate_route_nexthop", o.AggregateRouteNexthop, "an IPv4 or IPv6 address")
		return
	}
	for i, text := range list {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			c.bad(at("aggregate_route_entries.route[%d]", i), text, "a prefix such as 10.0.0.0/8")
		case hop.IsValid() && p.Addr().BitLen() != hop.BitLen():
			c.bad(at("aggregate_route_entries.route[%d]", i), text, "a prefix of the family of aggregate_route_nexthop, which is %s", hop)
		}
	}
}

// routeSources are where a route can come from.
var routeSources = []string{"bgp", "xmpp", "static", "service-chain", "aggregate", "interface", "interface-static", "service-interface", "bgpaas", "local"}

func (c *checker) routingPolicy(o *model.RoutingPolicy) {
	if o.RoutingPolicyEntries == nil {
		return
	}
	for i, t := range o.RoutingPolicyEntries.Term {
		path := at("routing_policy_entries.term[%d]", i)
		if t.TermActionList == nil || t.TermActionList.Action == "" && t.TermActionList.Update == nil {
			c.bad(path+".term_action_list.action", nil, "accept, reject or next, or an update")
		}
		if m := t.TermMatchCondition; m != nil {
			c.match(path+".term_match_condition", m)
		}
		if t.TermActionList != nil && t.TermActionList.Update != nil {
			c.update(path+".term_action_list.update", t.TermActionList.Update)
		}
	}
}

func (c *checker) match(path string, m *model.TermMatchConditionType) {
	once(c, path+".protocol", m.Protocol, itself, "each source once")
	for i, p := range m.Protocol {
		if !slices.Contains(routeSources, p) {
			c.bad(at("%s.protocol[%d]", path, i), p, "one of "+strings.Join(routeSources, ", "))
		}
	}
	for i, p := range m.Prefix {
		if p.Prefix == "" {
			c.bad(at("%s.prefix[%d].prefix", path, i), nil, "a prefix such as 10.0.0.0/8")
		}
	}
	patterns := append(slices.Clone(m.CommunityList), m.ExtcommunityList...)
	for _, text := range append(patterns, m.Community) {
		if _, err := regexp.Compile(text); err != nil {
			c.bad(path+".community_list", text, "a community, or a regular expression for some")
		}
	}
}

func (c *checker) update(path string, u *model.ActionUpdateType) {
	if u.Community != nil && u.Community.Set != nil && (u.Community.Add != nil || u.Community.Remove != nil) {
		c.bad(path+".community.set", u.Community.Set.Community, "set alone, or add and remove")
	}
	if u.Extcommunity != nil && u.Extcommunity.Set != nil && (u.Extcommunity.Add != nil || u.Extcommunity.Remove != nil) {
		c.bad(path+".extcommunity.set", u.Extcommunity.Set.Community, "set alone, or add and remove")
	}
}
