package control

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/model"
)

// peering is what the graph says of the BGP router that this control node is,
// and of its peers. It is never changed.
type peering struct {
	config peeringConfig
	peers  map[string]bgp.PeerConfig // by bgp-router
	// refused are routers that cannot be peers, with the reason.
	refused map[string]string
	// addPaths is how many paths of a route are taken of a peer, 0 for one.
	addPaths int
}

// peeringConfig is what the router itself is; another one is a new start.
type peeringConfig struct {
	AS                     uint32
	RouterID, ClusterID    netip.Addr
	Listen                 netip.AddrPort
	RestartTime, LongLived time.Duration
	AlwaysCompareMED       bool
}

// fabricInstance is the parent of the routers that peer over the fabric.
const fabricInstance = "default-domain:default-project:ip-fabric:__default__"

// defaultFamilies are those of a router that names none.
var defaultFamilies = []string{"route-target", "inet-vpn", "inet6-vpn", "e-vpn"}

// isRouterChange tells whether a change may make another peering.
func isRouterChange(changes model.Changes) bool {
	for e := range changes.Objects {
		if e.Kind == model.KindBGPRouter || e.Kind == model.KindGlobalSystemConfig {
			return true
		}
	}
	for e := range changes.References {
		if e.From.Kind == model.KindBGPRouter {
			return true
		}
	}
	return false
}

// peeringOf is that of the bgp-router with a name; nil when there is none.
func peeringOf(v *model.View, name string, addPaths int) *peering {
	if name == "" {
		return nil
	}
	o, ok := v.ByName(model.KindBGPRouter, append(strings.Split(fabricInstance, ":"), name))
	if !ok || o.(*model.BGPRouter).BGPRouterParameters == nil {
		return nil
	}
	own := o.(*model.BGPRouter)
	p := &peering{peers: map[string]bgp.PeerConfig{}, refused: map[string]string{}, addPaths: addPaths}
	if err := p.readOwn(v, own.BGPRouterParameters); err != nil {
		p.refused[name] = err.Error()
		return p
	}
	for _, r := range v.References(own.UUID, model.KindBGPRouter) {
		p.readPeer(v, own, r.To.UUID, r.Attr)
	}
	for _, r := range v.BackReferences(own.UUID, model.KindBGPRouter) {
		p.readPeer(v, own, r.From.UUID, r.Attr)
	}
	return p
}

func (p *peering) readOwn(v *model.View, own *model.BgpRouterParams) error {
	address, err := netip.ParseAddr(own.Address)
	if err != nil {
		return fmt.Errorf("bgp_router_parameters.address %q is no address; set the one that this controller speaks from", own.Address)
	}
	c := &p.config
	c.AS = uint32(model.ValueOr(own.AutonomousSystem, compile.ASN(v)))
	c.Listen = netip.AddrPortFrom(address.Unmap(), uint16(model.ValueOr(own.Port, 0)))
	if c.Listen.Port() == 0 {
		c.Listen = netip.AddrPortFrom(address.Unmap(), 179)
	}
	c.RouterID = address.Unmap()
	if own.Identifier != "" {
		if c.RouterID, err = netip.ParseAddr(own.Identifier); err != nil {
			return fmt.Errorf("bgp_router_parameters.identifier %q is no address", own.Identifier)
		}
	}
	if n := uint32(model.ValueOr(own.ClusterID, 0)); n != 0 {
		c.ClusterID = netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	if o, ok := v.ByName(model.KindGlobalSystemConfig, []string{"default-global-system-config"}); ok {
		system := o.(*model.GlobalSystemConfig)
		c.AlwaysCompareMED = model.ValueOr(system.BGPAlwaysCompareMED, false)
		if g := system.GracefulRestartParameters; g != nil && model.ValueOr(g.Enable, false) && model.ValueOr(g.BGPHelperEnable, false) {
			c.RestartTime = time.Duration(model.ValueOr(g.RestartTime, 300)) * time.Second
			c.LongLived = time.Duration(model.ValueOr(g.LongLivedRestartTime, 300)) * time.Second
			if c.RestartTime == 0 {
				c.LongLived = 0
			}
		}
	}
	return nil
}

// readPeer reads a router at the other end of a reference. Control nodes are no
// peers of each other: all know the same graph.
func (p *peering) readPeer(v *model.View, own *model.BGPRouter, id string, attr json.RawMessage) {
	router, ok := model.Get[*model.BGPRouter](v, id)
	if !ok {
		return
	}
	name := router.FQName[len(router.FQName)-1]
	params := router.BGPRouterParameters
	if params == nil {
		p.refused[name] = "it has no bgp_router_parameters; set address and autonomous_system"
		return
	}
	if params.RouterType == "control-node" || strings.HasPrefix(params.RouterType, "bgpaas-") {
		return
	}
	address, err := netip.ParseAddr(params.Address)
	if err != nil {
		p.refused[name] = fmt.Sprintf("bgp_router_parameters.address %q is no address", params.Address)
		return
	}
	c := bgp.PeerConfig{
		Addr: address.Unmap(), Port: uint16(model.ValueOr(params.Port, 0)), LocalAddr: p.config.Listen.Addr(),
		AS:       uint32(model.ValueOr(params.AutonomousSystem, 0)),
		LocalAS:  uint32(model.ValueOr(own.BGPRouterParameters.LocalAutonomousSystem, 0)),
		Client:   p.config.ClusterID.IsValid(),
		Hold:     time.Duration(lowest(model.ValueOr(own.BGPRouterParameters.HoldTime, 0), model.ValueOr(params.HoldTime, 0))) * time.Second,
		Disabled: model.ValueOr(params.AdminDown, false) || model.ValueOr(own.BGPRouterParameters.AdminDown, false),
		Password: firstKey(params.AuthData, own.BGPRouterParameters.AuthData),
		// A control node of another cluster tells who is behind its routes.
		Trusted: params.RouterType == "external-control-node", AddPaths: p.addPaths,
	}
	if c.LocalAddr.Is4() != c.Addr.Is4() {
		c.LocalAddr = netip.Addr{}
	}
	families := common(familiesOf(own.BGPRouterParameters.AddressFamilies), familiesOf(params.AddressFamilies))
	for _, s := range sessionAttributes(attr, own) {
		families = applySession(&c, families, &s)
	}
	ownAS := p.config.AS
	if c.LocalAS != 0 {
		ownAS = c.LocalAS
	}
	c.Client = c.Client && c.AS == ownAS
	for _, f := range families {
		if family, err := bgp.ParseFamily(f); err == nil { // others of the model are not exchanged
			c.Families = append(c.Families, family)
		}
	}
	p.peers[name] = c
}

// sessionAttributes are those of a peering that are meant for our side.
func sessionAttributes(attr json.RawMessage, own *model.BGPRouter) []model.BgpSessionAttributes {
	var peering model.BgpPeeringAttributes
	if len(attr) == 0 || json.Unmarshal(attr, &peering) != nil {
		return nil
	}
	var list []model.BgpSessionAttributes
	for _, s := range peering.Session {
		for _, a := range s.Attributes {
			if a.BGPRouter == "" || a.BGPRouter == own.UUID || a.BGPRouter == own.FQName[len(own.FQName)-1] || a.BGPRouter == model.FQString(own.FQName) {
				list = append(list, a)
			}
		}
	}
	// What is for both sides first, so that what is for ours decides.
	slices.SortStableFunc(list, func(a, b model.BgpSessionAttributes) int { return min(len(a.BGPRouter), 1) - min(len(b.BGPRouter), 1) })
	return list
}

// applySession changes a peer's configuration as the attributes of the session
// say, and returns its families.
func applySession(c *bgp.PeerConfig, families []string, s *model.BgpSessionAttributes) []string {
	if s.AddressFamilies != nil && len(s.AddressFamilies.Family) > 0 {
		families = common(families, s.AddressFamilies.Family)
	}
	if n := model.ValueOr(s.HoldTime, 0); n > 0 {
		c.Hold = time.Duration(n) * time.Second
	}
	if n := model.ValueOr(s.LocalAutonomousSystem, 0); n > 0 {
		c.LocalAS = uint32(n)
	}
	if key := firstKey(s.AuthData); key != "" {
		c.Password = key
	}
	c.Disabled = c.Disabled || model.ValueOr(s.AdminDown, false)
	c.ASOverride = c.ASOverride || model.ValueOr(s.AsOverride, false)
	c.Passive = c.Passive || model.ValueOr(s.Passive, false)
	if s.PrivateAsAction != "" {
		c.PrivateAS = privateAS[s.PrivateAsAction]
	}
	if s.RouteOriginOverride != nil {
		c.Origin = originOf(s.RouteOriginOverride)
	}
	if n := model.ValueOr(s.LoopCount, 0); n > 0 {
		c.AllowOwnAS = uint8(n)
	}
	for _, f := range s.FamilyAttributes {
		if n := model.ValueOr(f.LoopCount, 0); n > 0 {
			c.AllowOwnAS = max(c.AllowOwnAS, uint8(n))
		}
		if l := f.PrefixLimit; l != nil && model.ValueOr(l.Maximum, 0) > 0 {
			c.MaxPrefixes += int(*l.Maximum)
			c.RestartAfter = max(c.RestartAfter, time.Duration(model.ValueOr(l.IdleTimeout, 0))*time.Second)
		}
	}
	return families
}

// privateAS are the values of private_as_action.
var privateAS = map[string]bgp.PrivateAS{"remove": bgp.RemovePrivate, "remove-all": bgp.RemoveAllPrivate, "replace-all": bgp.ReplaceAllPrivate}

// originOf is the origin that all routes of a peer get, if any.
func originOf(o *model.RouteOriginOverride) bgp.Optional {
	switch {
	case o == nil || !model.ValueOr(o.OriginOverride, false):
		return bgp.Optional{}
	case o.Origin == "EGP":
		return bgp.Some(uint32(bgp.OriginEGP))
	case o.Origin == "INCOMPLETE":
		return bgp.Some(uint32(bgp.OriginIncomplete))
	}
	return bgp.Some(uint32(bgp.OriginIGP))
}

func familiesOf(list *model.AddressFamilies) []string {
	if list == nil || len(list.Family) == 0 {
		return defaultFamilies
	}
	return list.Family
}

func common(a, b []string) []string {
	var both []string
	for _, f := range a {
		if slices.Contains(b, f) && !slices.Contains(both, f) {
			both = append(both, f)
		}
	}
	return both
}

// lowest is the lower of two that are set, 0 if none is.
func lowest(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// firstKey is the first password that any of the settings has.
func firstKey(settings ...*model.AuthenticationData) string {
	for _, s := range settings {
		if s != nil && s.KeyType == "md5" && len(s.KeyItems) > 0 {
			return s.KeyItems[0].Key
		}
	}
	return ""
}
