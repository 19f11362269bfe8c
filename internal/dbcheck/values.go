package dbcheck

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// firstSecurityGroup is where the numbers begin that the system gives.
	firstSecurityGroup = 8_000_000
	// passageNumbers are those of the forwarding tables of services.
	passageNumbers = "passage"
	// bgpServices are the ports of the interfaces of a bgp-as-a-service.
	bgpServices = string(model.KindBGPAsAService)
	// instanceNumbers are those of routing instances that clients made.
	instanceNumbers = "routing-instance"
)

// addressOf is the address that an object has been given, if it is of a type
// that is given any.
func addressOf(o model.Object) (a netip.Addr, ok bool) {
	switch o := o.(type) {
	case *model.InstanceIP:
		return asAddress(o.InstanceIPAddress)
	case *model.FloatingIP:
		return asAddress(o.FloatingIPAddress)
	case *model.AliasIP:
		return asAddress(o.AliasIPAddress)
	}
	return netip.Addr{}, false
}

// mayHaveAddress tells whether objects of the type have addresses that are
// compared with the keys.
func mayHaveAddress(kind model.Kind) bool {
	return kind == model.KindInstanceIP || kind == model.KindFloatingIP || kind == model.KindAliasIP
}

// checkAddress compares an address in use with the object that has it.
func (c *checker) checkAddress(e store.Entry) error {
	_, a, err := e.Key.ParseAddress()
	if err != nil {
		return err
	}
	o, ok := c.objects[string(e.Value)]
	if !ok {
		c.add(e.Key, c.ownerless(e), "is had by %s, which does not exist", e.Value)
		return nil
	}
	if o.Object == nil || !mayHaveAddress(o.Entity.Kind) {
		return nil // a network's, by ip-alloc or as a gateway's
	}
	if have, ok := addressOf(o.Object); !ok || have != a {
		c.add(e.Key, nil, "is had by %s, whose address is %v", o.Entity, have)
	}
	return nil
}

// ownerless lets a thing rest whose owner is of no type that exists: the key
// has only the UUID.
func (c *checker) ownerless(e store.Entry) *Fix {
	f := c.fix(Rest, e.Key, "")
	for _, kind := range ownerKinds {
		f.guards = append(f.guards, store.Guard{Condition: store.Absent, Key: store.ObjectKey(model.Entity{Kind: kind, UUID: string(e.Value)})})
	}
	return f
}

// ownerKinds are the types that addresses, prefixes, numbers and labels are given to.
var ownerKinds = []model.Kind{
	model.KindInstanceIP, model.KindFloatingIP, model.KindAliasIP, model.KindVirtualNetwork, model.KindSecurityGroup,
	model.KindVirtualMachineInterface, model.KindTag, model.KindTagType, model.KindLogicalRouter,
	model.KindServiceInstance, model.KindBGPAsAService,
}

func (c *checker) checkAllocated(e store.Entry) error {
	network, a, err := e.Key.ParseAddress()
	if err != nil {
		return err
	}
	vn := model.Entity{Kind: model.KindVirtualNetwork, UUID: network}
	if !c.exists(vn) {
		c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(vn)), "is allocated by %s, which does not exist", vn)
		return nil
	}
	if _, ok := c.keys[store.AddressKey(string(e.Value), a)]; !ok {
		c.add(e.Key, c.fix(Delete, e.Key, "", store.AddressKey(string(e.Value), a)), "is allocated, and %s of %s is not in use", a, e.Value)
	}
	return nil
}

// checkOwner looks for the object that a key was given to.
func (c *checker) checkOwner(e store.Entry, kind model.Kind) {
	if !c.exists(model.Entity{Kind: kind, UUID: string(e.Value)}) {
		c.add(e.Key, c.ownerless(e), "is had by %s %s, which does not exist", kind, e.Value)
	}
}

func (c *checker) checkNumber(e store.Entry) error {
	kind, n, err := e.Key.ParseNumber()
	if err != nil {
		return err
	}
	o, ok := c.objects[string(e.Value)]
	if !ok && model.IsUUID(string(e.Value)) { // else it is reserved
		c.add(e.Key, c.ownerless(e), "is had by %s, which does not exist", e.Value)
	}
	if !ok {
		return nil
	}
	var have *int64
	switch v := o.Object.(type) {
	case *model.VirtualNetwork:
		have = v.VirtualNetworkNetworkID
		if kind != string(model.KindVirtualNetwork) {
			return nil // such as the number of its VXLAN
		}
	case *model.SecurityGroup:
		have = v.SecurityGroupID
	case *model.ServiceInstance:
		if kind == passageNumbers && n != compile.PassageNumber(v.UUID, false) && n != compile.PassageNumber(v.UUID, true) {
			c.add(e.Key, nil, "is had by %s, whose numbers are others", o.Entity)
		}
		return nil
	case *model.BGPAsAService:
		if kind == bgpServices && !c.isReferenceNumber(o.Entity, n) {
			c.add(e.Key, c.fix(Rest, e.Key, "", o.entry.Key), "is had by %s, none of whose interfaces has it", o.Entity)
		}
		return nil
	case *model.RoutingInstance:
		have = new(int64(compile.InstanceNumber(v.UUID)))
	default:
		return nil
	}
	if model.ValueOr(have, 0) != int64(n) {
		c.add(e.Key, nil, "is had by %s, whose number is %d", o.Entity, model.ValueOr(have, 0))
	}
	return nil
}

// isReferenceNumber tells whether a reference from a service to an interface has
// a number.
func (c *checker) isReferenceNumber(service model.Entity, n uint32) bool {
	for _, vmi := range c.targets(c.objects[service.UUID], model.KindVirtualMachineInterface) {
		var value struct{ Number uint32 }
		e, ok := c.keys[store.RefKey(model.Edge{From: service, To: vmi.Entity})]
		if ok && json.Unmarshal(e.Value, &value) == nil && value.Number == n {
			return true
		}
	}
	return false
}

// needsReferenceNumber looks for the key of the number of a reference.
func (c *checker) needsReferenceNumber(e store.Entry, service string, n uint32) {
	k := store.NumberKey(bgpServices, n)
	switch holder, ok := c.keys[k]; {
	case n == 0:
	case !ok:
		c.add(e.Key, c.fix(Put, k, service, e.Key), "its number %d is not in use", n)
	case string(holder.Value) != service:
		c.add(e.Key, nil, "its number %d is had by %s", n, holder.Value)
	}
}

func (c *checker) checkLabel(e store.Entry) error {
	node, n, err := e.Key.ParseNumber()
	if err != nil {
		return err
	}
	binding := store.BindingKey(string(e.Value))
	vmi := model.Entity{Kind: model.KindVirtualMachineInterface, UUID: string(e.Value)}
	b, ok := c.binding(string(e.Value))
	switch {
	case !c.exists(vmi):
		c.add(e.Key, c.fix(Rest, e.Key, "", store.ObjectKey(vmi)), "is had by %s, which does not exist", vmi)
	case !ok: // its container may run with it
		c.add(e.Key, nil, "is had by %s, which is not bound to a node", vmi)
	case b.Node != node || b.Label != n:
		c.add(e.Key, c.fix(Rest, e.Key, "", binding), "is had by interface %s, which is bound to node %s with label %d", e.Value, b.Node, b.Label)
	}
	return nil
}

func (c *checker) binding(vmi string) (b model.Binding, ok bool) {
	e, ok := c.keys[store.BindingKey(vmi)]
	return b, ok && json.Unmarshal(e.Value, &b) == nil
}

func (c *checker) checkBinding(e store.Entry) error {
	s, err := e.Key.Split(1)
	if err != nil {
		return err
	}
	var b model.Binding
	if err := json.Unmarshal(e.Value, &b); err != nil {
		return err
	}
	vmi := model.Entity{Kind: model.KindVirtualMachineInterface, UUID: s[0]}
	machine := model.Entity{Kind: model.KindVirtualMachine, UUID: b.Machine}
	if b.Interface != s[0] {
		c.add(e.Key, nil, "says that it is of interface %q", b.Interface)
		return nil
	}
	if !c.exists(vmi) {
		c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(vmi)), "binds %s, which does not exist", vmi)
		return nil
	}
	if !c.exists(machine) {
		c.add(e.Key, nil, "binds %s to %s, which does not exist", vmi, machine)
	}
	if !c.exists(model.Entity{Kind: model.KindVirtualRouter, UUID: b.Node}) {
		c.add(e.Key, nil, "binds %s to node %s, which has no virtual-router", vmi, b.Node)
	}
	label := store.LabelKey(b.Node, b.Label)
	switch holder, ok := c.keys[label]; {
	case !ok:
		c.add(e.Key, c.fix(Put, label, s[0], e.Key), "its label %d on node %s is not in use", b.Label, b.Node)
	case string(holder.Value) != s[0]:
		c.add(e.Key, nil, "its label %d on node %s is had by interface %s", b.Label, b.Node, holder.Value)
	}
	return nil
}

func (c *checker) checkMAC(e store.Entry) error {
	s, err := e.Key.Split(2)
	if err != nil {
		return err
	}
	vmi := model.Entity{Kind: model.KindVirtualMachineInterface, UUID: string(e.Value)}
	network := model.Entity{Kind: model.KindVirtualNetwork, UUID: s[0]}
	ref := store.RefKey(model.Edge{From: vmi, To: network})
	o, ok := c.objects[vmi.UUID]
	_, linked := c.keys[ref]
	switch {
	case !ok || o.Entity != vmi:
		c.add(e.Key, c.fix(Delete, e.Key, "", store.ObjectKey(vmi)), "is had by %s, which does not exist", vmi)
	case !linked:
		c.add(e.Key, c.fix(Delete, e.Key, "", ref, o.entry.Key), "is had by %s, which is not in network %s", vmi, s[0])
	case o.Object != nil && !slices.ContainsFunc(macsOf(o.Object), func(m string) bool { return sameMAC(m, s[1]) }):
		c.add(e.Key, c.fix(Delete, e.Key, "", o.entry.Key), "is had by %s, which has another", vmi)
	}
	return nil
}

func macsOf(o model.Object) []string {
	vmi, ok := o.(*model.VirtualMachineInterface)
	if !ok || vmi.VirtualMachineInterfaceMACAddresses == nil {
		return nil
	}
	return vmi.VirtualMachineInterfaceMACAddresses.MACAddress
}

// checkValues looks for the keys that stand for what an object has been given.
func (c *checker) checkValues(o *object) {
	if a, ok := addressOf(o.Object); ok && o.GetMeta().ParentType != string(model.KindInstanceIP) {
		c.needsAddress(o, a) // else it is that of the parent
	}
	switch v := o.Object.(type) {
	case *model.VirtualNetwork:
		c.needsNumber(o, string(model.KindVirtualNetwork), model.ValueOr(v.VirtualNetworkNetworkID, 0), 1)
	case *model.SecurityGroup:
		c.needsNumber(o, string(model.KindSecurityGroup), model.ValueOr(v.SecurityGroupID, 0), firstSecurityGroup)
	case *model.VirtualMachineInterface:
		c.needsMACs(o)
	case *model.ServiceInstance:
		for _, onRight := range []bool{false, true} {
			c.needsNumber(o, passageNumbers, int64(compile.PassageNumber(v.UUID, onRight)), 1)
		}
	case *model.RoutingInstance:
		c.needsNumber(o, instanceNumbers, int64(compile.InstanceNumber(v.UUID)), 1)
	}
}

func (c *checker) needsNumber(o *object, kind string, n, first int64) {
	if n < first {
		return
	}
	k := store.NumberKey(kind, uint32(n))
	switch holder, ok := c.keys[k]; {
	case !ok:
		c.add(o.entry.Key, c.fix(Put, k, o.Entity.UUID, o.entry.Key), "its number %d is not in use", n)
	case string(holder.Value) != o.Entity.UUID:
		c.add(o.entry.Key, nil, "its number %d is had by %s", n, holder.Value)
	}
}

// needsAddress looks for the key of an object's address. Where there is none,
// it says in which scope one is missing.
func (c *checker) needsAddress(o *object, a netip.Addr) {
	for _, k := range c.had[o.Entity.UUID] {
		if _, have, err := k.ParseAddress(); err == nil && have == a {
			return
		}
	}
	scopes, sure := c.scopesOf(o)
	for _, scope := range scopes {
		if holder, ok := c.keys[store.AddressKey(scope, a)]; ok {
			c.add(o.entry.Key, nil, "its address %s is had by %s", a, holder.Value)
			return
		}
	}
	if len(scopes) == 1 && sure {
		k := store.AddressKey(scopes[0], a)
		c.add(o.entry.Key, c.fix(Put, k, o.Entity.UUID, o.entry.Key), "its address %s is not in use in %s", a, scopes[0])
		return
	}
	c.add(o.entry.Key, nil, "its address %s is in use nowhere", a)
}

// scopesOf are the scopes that an address may be of: that of its network (a
// floating or alias IP's is its pool's), or of an IPAM. sure says that there is
// no other.
func (c *checker) scopesOf(o *object) (scopes []string, sure bool) {
	networks := c.targets(o, model.KindVirtualNetwork)
	if o.Entity.Kind != model.KindInstanceIP {
		networks = c.networkOfPool(o)
	}
	sure = len(networks) > 0 || o.Entity.Kind == model.KindInstanceIP
	for _, network := range networks {
		scopes = append(scopes, model.FQString(network.GetMeta().FQName))
		for _, ipam := range c.targets(network, model.KindNetworkIPAM) {
			if n, ok := ipam.Object.(*model.NetworkIPAM); ok && n.IPAMSubnetMethod == "flat-subnet" {
				scopes, sure = append(scopes, ipamScope(ipam)), false
			}
		}
	}
	for _, ipam := range c.targets(o, model.KindNetworkIPAM) {
		scopes, sure = append(scopes, ipamScope(ipam)), false
	}
	return scopes, sure
}

// networkOfPool is the network whose pool a floating or alias IP is from.
func (c *checker) networkOfPool(o *object) []*object {
	pool, ok := c.objects[o.GetMeta().ParentUUID]
	if !ok || pool.Object == nil {
		return nil
	}
	network, ok := c.objects[pool.GetMeta().ParentUUID]
	if !ok || network.Object == nil || network.Entity.Kind != model.KindVirtualNetwork {
		return nil
	}
	return []*object{network}
}

func ipamScope(o *object) string {
	return string(model.KindNetworkIPAM) + ":" + model.FQString(o.GetMeta().FQName)
}

func (c *checker) needsMACs(o *object) {
	for _, network := range c.targets(o, model.KindVirtualNetwork) {
		for _, text := range macsOf(o.Object) {
			mac, err := net.ParseMAC(text)
			if err != nil {
				continue
			}
			k := store.MACKey(network.Entity.UUID, mac.String())
			switch holder, ok := c.keys[k]; {
			case !ok:
				c.add(o.entry.Key, c.fix(Put, k, o.Entity.UUID, o.entry.Key), "its MAC address %s is not in use in network %s", mac, network.Entity.UUID)
			case string(holder.Value) != o.Entity.UUID:
				c.add(o.entry.Key, nil, "its MAC address %s in network %s is had by %s", mac, network.Entity.UUID, holder.Value)
			}
		}
	}
}
