package validate

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/model"
)

func (c *checker) virtualNetwork(o *model.VirtualNetwork) {
	for _, own := range []struct {
		path string
		list *model.RouteTargetList
	}{{"import_route_target_list", o.ImportRouteTargetList}, {"export_route_target_list", o.ExportRouteTargetList}} {
		if own.list == nil || o.RouteTargetList == nil {
			continue
		}
		for i, t := range own.list.RouteTarget {
			if slices.Contains(o.RouteTargetList.RouteTarget, t) {
				c.bad(at("%s.route_target[%d]", own.path, i), t, "a target that is not in route_target_list, which is for both directions")
			}
		}
	}
	c.provider(o)
	if p := o.ProviderProperties; p != nil && p.SegmentationID != nil && p.PhysicalNetwork == "" {
		c.bad("provider_properties.physical_network", nil, "the physical network that segmentation_id is of")
	}
}

// provider checks the networks that belong together: a network is on one
// provider network at most, which may have many on it.
func (c *checker) provider(o *model.VirtualNetwork) {
	own := model.ValueOr(o.IsProviderNetwork, false)
	refs := c.to(model.KindVirtualNetwork)
	if len(refs) > 1 && !own {
		c.bad("virtual_network_refs", c.nameOf(refs[1]), "one provider network at most")
	}
	for _, r := range refs {
		found, ok := c.Neighbours.Find(model.KindVirtualNetwork, r.To.UUID)
		other, _ := found.(*model.VirtualNetwork)
		switch {
		case r.To.UUID == o.UUID:
			c.bad("virtual_network_refs", c.nameOf(r), "another network than itself")
		case !ok:
		case own && model.ValueOr(other.IsProviderNetwork, false):
			c.bad("virtual_network_refs", c.nameOf(r), "a network that is none of a provider, as this one is")
		case !own && !model.ValueOr(other.IsProviderNetwork, false):
			c.bad("virtual_network_refs", c.nameOf(r), "a provider network, such as ip-fabric")
		}
	}
}

func (c *checker) virtualMachineInterface(o *model.VirtualMachineInterface) {
	if networks := c.to(model.KindVirtualNetwork); len(networks) > 1 {
		c.bad("virtual_network_refs", c.nameOf(networks[1]), "one network; an interface is in one")
	}
	pairs := o.VirtualMachineInterfaceAllowedAddressPairs
	if !model.ValueOr(o.PortSecurityEnabled, true) && pairs != nil && len(pairs.AllowedAddressPair) > 0 {
		c.bad("virtual_machine_interface_allowed_address_pairs", len(pairs.AllowedAddressPair), "none, as port_security_enabled is false and every address may be used")
	}
	if b := o.VirtualMachineInterfaceBindings; b != nil {
		for i, p := range b.KeyValuePair {
			if p.Key == "profile" && p.Value != "" && !json.Valid([]byte(p.Value)) {
				c.bad(at("virtual_machine_interface_bindings.key_value_pair[%d].value", i), p.Value, "JSON, as the key is profile")
			}
		}
	}
	p := o.VirtualMachineInterfaceProperties
	if p == nil {
		p = &model.VirtualMachineInterfacePropertiesType{}
	}
	if m := p.InterfaceMirror; m != nil && m.MirrorTo == nil {
		c.bad("virtual_machine_interface_properties.interface_mirror.mirror_to", nil, "where to mirror to")
	}
	c.subInterface(o, value(p.SubInterfaceVLANTag))
	c.portTuple(o, p.ServiceInterfaceType)
}

func vlanOf(o model.Object) int64 {
	vmi, ok := o.(*model.VirtualMachineInterface)
	if !ok || vmi.VirtualMachineInterfaceProperties == nil {
		return 0
	}
	return value(vmi.VirtualMachineInterfaceProperties.SubInterfaceVLANTag)
}

// subInterface checks a VLAN on an interface: it has a primary interface,
// which is none itself, and is the only one there with its tag.
func (c *checker) subInterface(o *model.VirtualMachineInterface, tag int64) {
	const path = "virtual_machine_interface_properties.sub_interface_vlan_tag"
	refs := c.to(model.KindVirtualMachineInterface)
	for _, r := range refs {
		if r.To.UUID == o.UUID {
			c.bad("virtual_machine_interface_refs", c.nameOf(r), "another interface than itself")
			return
		}
	}
	if tag == 0 {
		return
	}
	if len(refs) != 1 {
		c.bad(path, tag, "exactly one reference to the primary interface in virtual_machine_interface_refs; there are %d", len(refs))
		return
	}
	primary := refs[0].To
	if found, ok := c.Neighbours.Find(primary.Kind, primary.UUID); ok && vlanOf(found) != 0 {
		c.bad("virtual_machine_interface_refs", c.nameOf(refs[0]), "a primary interface; this one is a sub-interface itself")
		return
	}
	for _, back := range c.Neighbours.BackReferences(primary, model.KindVirtualMachineInterface) {
		other, ok := c.Neighbours.Find(back.From.Kind, back.From.UUID)
		if ok && back.From.UUID != o.UUID && vlanOf(other) == tag {
			c.bad(path, tag, "a tag that no other sub-interface of %s has; %s has it", c.nameOf(refs[0]), other.GetMeta().Name())
		}
	}
}

// portTuple checks that the interfaces of one instance of a service have one
// place each.
func (c *checker) portTuple(o *model.VirtualMachineInterface, place string) {
	const path = "virtual_machine_interface_properties.service_interface_type"
	for _, r := range c.to(model.KindPortTuple) {
		if place == "" {
			c.bad(path, nil, "management, left, right or other with a number, as the interface is in port-tuple %s", c.nameOf(r))
			continue
		}
		for _, back := range c.Neighbours.BackReferences(r.To, model.KindVirtualMachineInterface) {
			found, _ := c.Neighbours.Find(back.From.Kind, back.From.UUID)
			other, ok := found.(*model.VirtualMachineInterface)
			if ok && other.UUID != o.UUID && other.VirtualMachineInterfaceProperties != nil && other.VirtualMachineInterfaceProperties.ServiceInterfaceType == place {
				c.bad(path, place, "a place that no other interface of port-tuple %s has; %s has it", c.nameOf(r), other.Name())
			}
		}
	}
}

func (c *checker) floatingIP(o *model.FloatingIP) {
	c.family("floating_ip_address_family", o.FloatingIPAddressFamily, o.FloatingIPAddress)
	c.sameFamily("floating_ip_fixed_ip_address", o.FloatingIPFixedIPAddress, o.FloatingIPAddress)
	if o.FloatingIPPortMappings == nil {
		if model.ValueOr(o.FloatingIPPortMappingsEnable, false) {
			c.bad("floating_ip_port_mappings", nil, "at least one mapping, as floating_ip_port_mappings_enable is true")
		}
		return
	}
	list := o.FloatingIPPortMappings.PortMappings
	once(c, "floating_ip_port_mappings.port_mappings", list, func(m *model.PortMap) string {
		return m.Protocol + " " + strconv.FormatInt(value(m.SrcPort), 10)
	}, "each protocol and src_port once")
	for i, m := range list {
		path := at("floating_ip_port_mappings.port_mappings[%d]", i)
		if !hasPorts(m.Protocol) {
			c.bad(path+".protocol", m.Protocol, "a protocol with ports: TCP or UDP")
		}
		if value(m.SrcPort) == 0 {
			c.bad(path+".src_port", number(m.SrcPort), "a port from 1 to 65535")
		}
		if value(m.DstPort) == 0 {
			c.bad(path+".dst_port", number(m.DstPort), "a port from 1 to 65535")
		}
	}
}

func (c *checker) sameFamily(path, text, other string) {
	a, err := netip.ParseAddr(text)
	b, err2 := netip.ParseAddr(other)
	if err == nil && err2 == nil && a.BitLen() != b.BitLen() {
		c.bad(path, text, "an address of the family of %s", other)
	}
}

func (c *checker) networkIPAM(o *model.NetworkIPAM) {
	m := o.NetworkIPAMMgmt
	if m == nil {
		return
	}
	servers := m.IPAMDNSServer
	switch m.IPAMDNSMethod {
	case "virtual-dns-server":
		if servers == nil || servers.VirtualDNSServerName == "" {
			c.bad("network_ipam_mgmt.ipam_dns_server.virtual_dns_server_name", nil, "a virtual DNS server as domain:name, as ipam_dns_method is virtual-dns-server")
			return
		}
		if name := servers.VirtualDNSServerName; !isFQName(name, 2) {
			c.bad("network_ipam_mgmt.ipam_dns_server.virtual_dns_server_name", name, "a virtual DNS server as domain:name")
		}
	case "tenant-dns-server":
		if servers == nil || servers.TenantDNSServerAddress == nil || len(servers.TenantDNSServerAddress.IPAddress) == 0 {
			c.bad("network_ipam_mgmt.ipam_dns_server.tenant_dns_server_address.ip_address", nil, "at least one address, as ipam_dns_method is tenant-dns-server")
		}
	}
}

// logicalRouter checks that a network is joined in one way only, and that
// there is one way out at most.
func (c *checker) logicalRouter(o *model.LogicalRouter) {
	if text := o.VXLANNetworkIdentifier; text != "" {
		if n, err := strconv.Atoi(text); err != nil || n < 1 || n > 16777215 {
			c.bad("vxlan_network_identifier", text, "a number from 1 to 16777215")
		}
	}
	joined := map[string]bool{}
	external := 0
	for _, r := range c.to(model.KindVirtualNetwork) {
		joined[r.To.UUID] = true
		if attribute[model.LogicalRouterVirtualNetworkType](r).LogicalRouterVirtualNetworkType != "InternalVirtualNetwork" {
			if external++; external > 1 {
				c.bad("virtual_network_refs", c.nameOf(r), "one external gateway; give the others the type InternalVirtualNetwork")
			}
		}
	}
	for _, r := range c.to(model.KindVirtualMachineInterface) {
		for _, back := range c.Neighbours.BackReferences(r.To, model.KindLogicalRouter) {
			if back.From.UUID != o.UUID {
				c.bad("virtual_machine_interface_refs", c.nameOf(r), "an interface of no other router; it is one of logical-router %s", back.From.UUID)
			}
		}
		for _, vn := range c.Neighbours.References(r.To, model.KindVirtualNetwork) {
			if joined[vn.To.UUID] {
				c.bad("virtual_machine_interface_refs", c.nameOf(r), "an interface of another network; %s is joined by virtual_network_refs", c.nameOf(vn))
			}
		}
	}
}

func (c *checker) logicalInterface(o *model.LogicalInterface) {
	if o.LogicalInterfaceVLANTag == nil {
		return
	}
	for _, sibling := range c.Neighbours.Children(o.ParentUUID, model.KindLogicalInterface) {
		other := sibling.(*model.LogicalInterface)
		if other.UUID != o.UUID && other.LogicalInterfaceVLANTag != nil && *other.LogicalInterfaceVLANTag == *o.LogicalInterfaceVLANTag {
			c.bad("logical_interface_vlan_tag", *o.LogicalInterfaceVLANTag, "a tag that no other logical interface of the parent has; %s has it", other.Name())
		}
	}
}

func (c *checker) physicalInterface(o *model.PhysicalInterface) {
	for _, r := range c.to(model.KindPhysicalInterface) {
		if r.To.UUID == o.UUID {
			c.bad("physical_interface_refs", c.nameOf(r), "another interface than itself")
		}
	}
}

func (c *checker) multicastPolicy(o *model.MulticastPolicy) {
	if o.MulticastSourceGroups == nil {
		return
	}
	for i, g := range o.MulticastSourceGroups.MulticastSourceGroup {
		path := at("multicast_source_groups.multicast_source_group[%d]", i)
		if a, err := netip.ParseAddr(g.GroupAddress); err != nil || !a.IsMulticast() {
			c.bad(path+".group_address", g.GroupAddress, "a multicast address such as 224.1.1.1")
		}
		c.sameFamily(path+".source_address", g.SourceAddress, g.GroupAddress)
		if g.Action == "" {
			c.bad(path+".action", nil, "pass or deny")
		}
	}
}
