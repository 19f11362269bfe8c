package validate

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// structure checks one structured value, wherever it is.
func (c *checker) structure(path string, v any) {
	switch v := v.(type) {
	case *model.SubnetType:
		c.subnet(path, v)
	case *model.SubnetListType:
		once(c, path+".subnet", v.Subnet, prefixText, "each prefix once")
	case *model.AllocationPoolType:
		c.allocationPool(path, v)
	case *model.RouteType:
		c.route(path, v)
	case *model.RouteTableType:
		once(c, path+".route", v.Route, func(r *model.RouteType) string { return r.Prefix + " " + r.NextHop }, "each prefix and next hop once")
	case *model.RouteTargetList:
		once(c, path+".route_target", v.RouteTarget, itself, "each route target once")
	case *model.KeyValuePairs:
		once(c, path+".key_value_pair", v.KeyValuePair, func(p *model.KeyValuePair) string { return p.Key }, "each key once")
	case *model.MacAddressesType:
		c.macs(path, v)
	case *model.AllowedAddressPair:
		c.addressPair(path, v)
	case *model.AllowedAddressPairs:
		once(c, path+".allowed_address_pair", v.AllowedAddressPair, func(p *model.AllowedAddressPair) string {
			if p.IP == nil {
				return ""
			}
			return prefixText(p.IP) + " " + strings.ToLower(p.MAC)
		}, "each pair once")
	case *model.MirrorActionType:
		c.mirror(path, v)
	case *model.DhcpOptionType:
		c.dhcpOption(path, v)
	case *model.ProtocolType:
		c.fatFlow(path, v)
	case *model.EcmpHashingIncludeFields:
		c.hashing(path, v)
	case *model.AddressFamilies:
		once(c, path+".family", v.Family, itself, "each address family once")
	case *model.AuthenticationData:
		c.authentication(path, v)
	case *model.BgpSessionAttributes:
		c.holdTime(path, v.HoldTime)
		once(c, path+".family_attributes", v.FamilyAttributes, func(f *model.BgpFamilyAttributes) string { return f.AddressFamily }, "each address family once")
	case *model.AsnRangeType:
		if v.ASNMin != nil && v.ASNMax != nil && *v.ASNMin > *v.ASNMax {
			c.bad(path+".asn_max", *v.ASNMax, "a number not below asn_min, which is %d", *v.ASNMin)
		}
	case *model.TimerType:
		c.timer(path, v)
	case *model.RoutingPolicyType:
		c.sequence(path+".sequence", v.Sequence)
	case *model.RoutingPolicyServiceInstanceType:
		c.sequence(path+".left_sequence", v.LeftSequence)
		c.sequence(path+".right_sequence", v.RightSequence)
	}
}

func prefixText(s *model.SubnetType) string {
	return s.IPPrefix + "/" + strconv.FormatInt(s.IPPrefixLen, 10)
}

func (c *checker) subnet(path string, s *model.SubnetType) {
	a, err := netip.ParseAddr(s.IPPrefix)
	switch {
	case err != nil:
		c.bad(path+".ip_prefix", s.IPPrefix, "an IPv4 or IPv6 address")
	case a.Zone() != "":
		c.bad(path+".ip_prefix", s.IPPrefix, "an address without a zone")
	case s.IPPrefixLen < 0 || s.IPPrefixLen > int64(a.BitLen()):
		c.bad(path+".ip_prefix_len", s.IPPrefixLen, "an integer from 0 to %d, as %s is of that length", a.BitLen(), a)
	}
}

func (c *checker) allocationPool(path string, p *model.AllocationPoolType) {
	start, err := netip.ParseAddr(p.Start)
	end, err2 := netip.ParseAddr(p.End)
	switch {
	case err != nil || err2 != nil: // the schema has said so
	case start.BitLen() != end.BitLen():
		c.bad(path+".end", p.End, "an address of the family of start, which is %s", start)
	case end.Less(start):
		c.bad(path+".end", p.End, "an address not below start, which is %s", start)
	}
}

// route checks a static route. Without a type, the next hop may be an address
// or the name of a service instance; interface routes have none.
func (c *checker) route(path string, r *model.RouteType) {
	if a := r.CommunityAttributes; a != nil && len(a.CommunityAttribute) > maxRouteCommunities {
		c.bad(path+".community_attributes.community_attribute", len(a.CommunityAttribute), "at most %d communities", maxRouteCommunities)
	}
	prefix, err := netip.ParsePrefix(r.Prefix)
	if err != nil {
		c.bad(path+".prefix", r.Prefix, "a prefix such as 10.1.0.0/16")
		return
	}
	hop, err := netip.ParseAddr(r.NextHop)
	switch {
	case r.NextHopType == "ip-address" && err != nil:
		c.bad(path+".next_hop", r.NextHop, "an IPv4 or IPv6 address, as next_hop_type is ip-address")
	case r.NextHopType == "service-instance" && !isFQName(r.NextHop, 3):
		c.bad(path+".next_hop", r.NextHop, "the name of a service instance as domain:project:name")
	case err == nil && hop.BitLen() != prefix.Addr().BitLen():
		c.bad(path+".next_hop", r.NextHop, "an address of the family of the prefix, which is %s", prefix)
	}
}

// maxRouteCommunities bounds the communities of a route: all that it comes to keep
// them, and look at each.
const maxRouteCommunities = 100

// isFQName tells whether s is a full name of n parts joined with colons.
func isFQName(s string, n int) bool {
	parts := strings.Split(s, ":")
	if len(parts) != n {
		return false
	}
	for _, p := range parts {
		if p == "" {
			return false
		}
	}
	return true
}

// activeStandbyBits are the shortest prefixes whose addresses are learned one
// by one: the owner of each may move.
const (
	activeStandbyBits4 = 24
	activeStandbyBits6 = 120
)

func (c *checker) addressPair(path string, p *model.AllowedAddressPair) {
	prefix, ok := compile.ParsePrefix(p.IP)
	if p.IP == nil {
		c.bad(path+".ip", nil, "a prefix")
	}
	if !ok || p.AddressMode != "active-standby" {
		return
	}
	least := activeStandbyBits4
	if prefix.Addr().Is6() {
		least = activeStandbyBits6
	}
	if prefix.Bits() < least {
		c.bad(path+".ip.ip_prefix_len", p.IP.IPPrefixLen, "at least %d, as address_mode is active-standby", least)
	}
}

func (c *checker) macs(path string, m *model.MacAddressesType) {
	once(c, path+".mac_address", m.MACAddress, func(s *string) string { return strings.ToLower(*s) }, "each address once")
	for i, text := range m.MACAddress {
		first, err := strconv.ParseUint(text[:min(2, len(text))], 16, 8)
		if err == nil && first&1 == 1 {
			c.bad(at("%s.mac_address[%d]", path, i), text, "the address of one station; this one is a group's")
		}
	}
}

func (c *checker) mirror(path string, m *model.MirrorActionType) {
	switch {
	case m.AnalyzerName == "" && m.AnalyzerIPAddress == "" && !model.ValueOr(m.NicAssistedMirroring, false):
		c.bad(path+".analyzer_name", nil, "the analyzer's name, or analyzer_ip_address")
	case model.ValueOr(m.NicAssistedMirroring, false) && value(m.NicAssistedMirroringVLAN) == 0:
		c.bad(path+".nic_assisted_mirroring_vlan", number(m.NicAssistedMirroringVLAN), "a VLAN from 1 to 4094, as nic_assisted_mirroring is on")
	case m.NHMode == "static" && !model.ValueOr(m.JuniperHeader, true) && m.StaticNHHeader == nil:
		c.bad(path+".static_nh_header", nil, "where to send, as nh_mode is static")
	}
}

func (c *checker) dhcpOption(path string, o *model.DhcpOptionType) {
	switch {
	case o.DHCPOptionName == "":
		c.bad(path+".dhcp_option_name", nil, "the name or number of a DHCP option")
	case o.DHCPOptionValueBytes != "":
		for part := range strings.FieldsSeq(o.DHCPOptionValueBytes) {
			if n, err := strconv.Atoi(part); err != nil || n < 0 || n > 255 {
				c.bad(path+".dhcp_option_value_bytes", o.DHCPOptionValueBytes, "numbers from 0 to 255 with blanks between them")
				return
			}
		}
	}
	if n, err := strconv.Atoi(o.DHCPOptionName); err == nil && (n < 1 || n > 254) {
		c.bad(path+".dhcp_option_name", o.DHCPOptionName, "a number from 1 to 254, or a name")
	}
}

// fatFlow checks a protocol whose flows are kept as one.
func (c *checker) fatFlow(path string, p *model.ProtocolType) {
	c.protocol(path+".protocol", p.Protocol)
	if !hasPorts(p.Protocol) && value(p.Port) != 0 {
		c.bad(path+".port", *p.Port, "0, as protocol %s has no ports", p.Protocol)
	}
	for _, side := range []struct {
		name   string
		prefix *model.SubnetType
		length *int64
	}{
		{"source", p.SourcePrefix, p.SourceAggregatePrefixLength},
		{"destination", p.DestinationPrefix, p.DestinationAggregatePrefixLength},
	} {
		prefix, ok := compile.ParsePrefix(side.prefix)
		field := path + "." + side.name
		switch {
		case side.prefix == nil && value(side.length) != 0:
			c.bad(field+"_prefix", nil, "the prefix that %s_aggregate_prefix_length is for", side.name)
		case side.prefix == nil || !ok:
		case p.IgnoreAddress == side.name:
			c.bad(path+".ignore_address", p.IgnoreAddress, "another value, as there is a %s_prefix", side.name)
		case side.length != nil && (*side.length < int64(prefix.Bits()) || *side.length > int64(prefix.Addr().BitLen())):
			c.bad(field+"_aggregate_prefix_length", *side.length, "from %d to %d, inside of %s", prefix.Bits(), prefix.Addr().BitLen(), prefix)
		}
	}
}

func (c *checker) hashing(path string, h *model.EcmpHashingIncludeFields) {
	if !model.ValueOr(h.HashingConfigured, false) {
		return
	}
	for _, f := range []*bool{h.SourceIP, h.DestinationIP, h.IPProtocol, h.SourcePort, h.DestinationPort} {
		if f == nil || *f {
			return
		}
	}
	c.bad(path+".hashing_configured", true, "at least one field to hash over")
}

func (c *checker) timer(path string, t *model.TimerType) {
	if t.StartTime == "" || t.EndTime == "" {
		c.bad(path, *t, "start_time and end_time")
		return
	}
	start, err := model.ParseTimestamp(t.StartTime)
	end, err2 := model.ParseTimestamp(t.EndTime)
	if err == nil && err2 == nil && !start.Before(end) {
		c.bad(path+".end_time", t.EndTime, "a time after start_time, which is %s", t.StartTime)
	}
}

// family compares the family that an address is said to have.
func (c *checker) family(path, family, address string) {
	a, err := netip.ParseAddr(address)
	if err == nil && (family == "v4" && !a.Is4() || family == "v6" && !a.Is6()) {
		c.bad(path, family, "the family of the address, which is %s", a)
	}
}

func (c *checker) sequence(path, s string) {
	if s != "" && !sequence.MatchString(s) {
		c.bad(path, s, "a place in the order, such as 1.0")
	}
}
