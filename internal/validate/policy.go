package validate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

const wantProtocol = "any, a number from 0 to 255, or a name such as tcp, udp, icmp or icmp6"

// protocol checks the name or number of an IP protocol.
func (c *checker) protocol(path, text string) {
	if _, ok := compile.ParseProtocol(text); !ok {
		c.bad(path, text, wantProtocol)
	}
}

// hasPorts tells whether ports mean something for a protocol.
func hasPorts(protocol string) bool {
	p, ok := compile.ParseProtocol(protocol)
	return ok && p.HasPorts()
}

func isICMP(protocol string) bool {
	p, ok := compile.ParseProtocol(protocol)
	return ok && p.IsICMP()
}

// ports checks a range of ports.
func (c *checker) ports(path string, p *model.PortType) {
	if c.hasEnds(path, p) {
		if _, err := compile.ParsePorts(*p); err != nil {
			c.bad(path, *p, "%v", err)
		}
	}
}

// portsOf checks a range of ports of a protocol. For ICMP the ends of those of
// the destination are a type and a code, and those of the source say nothing.
func (c *checker) portsOf(protocol, path, side string, p *model.PortType) {
	switch {
	case !isICMP(protocol):
		c.ports(path, p)
	case c.hasEnds(path, p) && side == "dst":
		if _, _, err := compile.ParseICMP(*p); err != nil {
			c.bad(path, *p, "%v", err)
		}
	}
}

func (c *checker) hasEnds(path string, p *model.PortType) bool {
	switch {
	case p.StartPort == nil:
		c.bad(path+".start_port", nil, "a port from 0 to 65535, or -1 for any")
	case p.EndPort == nil:
		c.bad(path+".end_port", nil, "a port from 0 to 65535, or -1 for any")
	}
	return p.StartPort != nil && p.EndPort != nil
}

func (c *checker) networkPolicy(o *model.NetworkPolicy) {
	c.rules("network_policy_entries", o.NetworkPolicyEntries, func(path string, r *model.PolicyRuleType) {
		if r.Direction == "" {
			c.bad(path+".direction", nil, "> or <>")
		}
		for i := range r.SrcAddresses {
			c.policyAddress(at("%s.src_addresses[%d]", path, i), &r.SrcAddresses[i])
		}
		for i := range r.DstAddresses {
			c.policyAddress(at("%s.dst_addresses[%d]", path, i), &r.DstAddresses[i])
		}
		c.policyAction(path, r)
	})
}

func (c *checker) securityGroup(o *model.SecurityGroup) {
	c.rules("security_group_entries", o.SecurityGroupEntries, func(path string, r *model.PolicyRuleType) {
		local := 0
		for _, side := range []struct {
			name string
			list []model.AddressType
		}{{"src_addresses", r.SrcAddresses}, {"dst_addresses", r.DstAddresses}} {
			here := false
			for i := range side.list {
				a := &side.list[i]
				c.groupAddress(at("%s.%s[%d]", path, side.name, i), a)
				here = here || a.SecurityGroup == "local"
			}
			if here {
				local++
				if len(side.list) > 1 {
					c.bad(path+"."+side.name, side.list, "the local side alone")
				}
			}
		}
		if local != 1 {
			c.bad(path+".src_addresses", r.SrcAddresses, `exactly one side with security_group "local": src_addresses for what leaves, dst_addresses for what arrives`)
		}
		if a := r.ActionList; a != nil && a.SimpleAction != "" && a.SimpleAction != "pass" {
			c.bad(path+".action_list.simple_action", a.SimpleAction, "pass, as the rules of security groups only allow")
		}
	})
}

// rules checks what the rules of policies and of security groups have in
// common, and each by more.
func (c *checker) rules(property string, e *model.PolicyEntriesType, more func(path string, r *model.PolicyRuleType)) {
	if e == nil {
		return
	}
	list := property + ".policy_rule"
	once(c, list, e.PolicyRule, func(r *model.PolicyRuleType) string { return strings.ToLower(r.RuleUUID) }, "rules with a rule_uuid of their own each; leave it out for a new one")
	for i := range e.PolicyRule {
		r := &e.PolicyRule[i]
		path := at("%s[%d]", list, i)
		if r.Protocol == "" {
			c.bad(path+".protocol", nil, wantProtocol)
		} else {
			c.protocol(path+".protocol", r.Protocol)
		}
		for _, side := range []struct {
			name  string
			ports []model.PortType
			from  []model.AddressType
		}{{"src", r.SrcPorts, r.SrcAddresses}, {"dst", r.DstPorts, r.DstAddresses}} {
			for j := range side.ports {
				c.portsOf(r.Protocol, at("%s.%s_ports[%d]", path, side.name, j), side.name, &side.ports[j])
			}
			if len(side.from) == 0 {
				c.bad(path+"."+side.name+"_addresses", nil, "at least one address")
			}
			for j := range side.from {
				c.ethertype(at("%s.%s_addresses[%d]", path, side.name, j), &side.from[j], r.Ethertype)
			}
		}
		more(path, r)
	}
}

// ethertype compares the family of a rule's prefixes with its own.
func (c *checker) ethertype(path string, a *model.AddressType, ethertype string) {
	check := func(path string, s *model.SubnetType) {
		addr, err := netip.ParseAddr(s.IPPrefix)
		if err == nil && (ethertype == "IPv4" && !addr.Is4() || ethertype == "IPv6" && !addr.Is6()) {
			c.bad(path+".ip_prefix", s.IPPrefix, "an address of the rule's ethertype, which is %s", ethertype)
		}
	}
	if a.Subnet != nil {
		check(path+".subnet", a.Subnet)
	}
	for i := range a.SubnetList {
		check(at("%s.subnet_list[%d]", path, i), &a.SubnetList[i])
	}
}

// set lists the fields of an address that are set.
func set(a *model.AddressType) []string {
	var names []string
	for name, is := range map[string]bool{
		"network_policy": a.NetworkPolicy != "", "security_group": a.SecurityGroup != "", "subnet": a.Subnet != nil,
		"subnet_list": len(a.SubnetList) > 0, "virtual_network": a.VirtualNetwork != "",
	} {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// policyAddress checks one side of a policy rule. Networks need not exist: a
// policy may be written before them.
func (c *checker) policyAddress(path string, a *model.AddressType) {
	switch names := set(a); {
	case len(names) != 1:
		c.bad(path, *a, "exactly one of virtual_network, subnet, subnet_list, network_policy and security_group")
	case names[0] == "virtual_network" && a.VirtualNetwork != "any" && a.VirtualNetwork != "local" && !isFQName(a.VirtualNetwork, 3):
		c.bad(path+".virtual_network", a.VirtualNetwork, "any, local, or a network as domain:project:name")
	case names[0] == "network_policy" && !isFQName(a.NetworkPolicy, 3):
		c.bad(path+".network_policy", a.NetworkPolicy, "a policy as domain:project:name")
	case names[0] == "security_group" && a.SecurityGroup != "any" && !isFQName(a.SecurityGroup, 3):
		c.bad(path+".security_group", a.SecurityGroup, "any, or a group as domain:project:name")
	}
}

// groupAddress checks one side of a rule of a security group.
func (c *checker) groupAddress(path string, a *model.AddressType) {
	switch names := set(a); {
	case len(names) != 1:
		c.bad(path, *a, "exactly one of security_group, subnet and subnet_list")
	case names[0] == "virtual_network" || names[0] == "network_policy":
		c.bad(path+"."+names[0], a.VirtualNetwork+a.NetworkPolicy, "no such address in a security group; use subnet or security_group")
	case names[0] == "security_group" && a.SecurityGroup != "local" && a.SecurityGroup != "any" && !isFQName(a.SecurityGroup, 3):
		c.bad(path+".security_group", a.SecurityGroup, "local, any, or a group as domain:project:name")
	}
}

func (c *checker) policyAction(path string, r *model.PolicyRuleType) {
	a := r.ActionList
	path += ".action_list"
	if a == nil || a.SimpleAction == "" && len(a.ApplyService) == 0 && a.MirrorTo == nil && a.AssignRoutingInstance == "" && a.GatewayName == "" {
		c.bad(path, nil, "what to do: simple_action pass or deny, or a service in apply_service")
		return
	}
	if len(a.ApplyService) == 0 {
		return
	}
	if a.SimpleAction == "deny" {
		c.bad(path+".simple_action", a.SimpleAction, "pass, as there is a service to go through")
	}
	once(c, path+".apply_service", a.ApplyService, itself, "each service once")
	for i, name := range a.ApplyService {
		if !isFQName(name, 3) {
			c.bad(at("%s.apply_service[%d]", path, i), name, "a service instance as domain:project:name")
		}
	}
	for _, side := range [][]model.AddressType{r.SrcAddresses, r.DstAddresses} {
		for i := range side {
			if side[i].VirtualNetwork == "any" {
				c.bad(path+".apply_service", a.ApplyService, "networks with names on both sides; a service is between two of them, not any")
			}
		}
	}
}
