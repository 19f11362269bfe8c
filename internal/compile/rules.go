package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Everything that rules are written with is read here, for who checks what
// users write and for who compiles it.

// What rules name instead of a network or security group: each of them, and
// that which has the rule.
const (
	anyNetwork   = "any"
	localNetwork = "local"
)

// Protocol is the number of an IP protocol, or AnyProtocol.
type Protocol int16

// AnyProtocol matches packets of every protocol.
const AnyProtocol Protocol = -1

const (
	icmp   Protocol = 1
	icmpv6 Protocol = 58
)

// protocols are those with names.
var protocols = map[string]Protocol{
	"any": AnyProtocol, "icmp": icmp, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41,
	"rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "icmp6": icmpv6, "icmpv6": icmpv6, "ipv6-icmp": icmpv6, "ospf": 89,
	"pim": 103, "vrrp": 112, "sctp": 132, "udplite": 136, "mpls": 137,
}

// ParseProtocol reads the name or number of a protocol.
func ParseProtocol(text string) (Protocol, bool) {
	if p, ok := protocols[strings.ToLower(text)]; ok {
		return p, true
	}
	n, err := strconv.ParseUint(text, 10, 8)
	return Protocol(n), err == nil
}

// HasPorts tells whether the protocol has ports.
func (p Protocol) HasPorts() bool { return slices.Contains(withPorts, p) }

// withPorts are TCP, UDP, DCCP, SCTP and UDP-Lite.
var withPorts = []Protocol{6, 17, 33, 132, 136}

// IsICMP tells whether packets of the protocol have a type and a code.
func (p Protocol) IsICMP() bool { return p == icmp || p == icmpv6 }

// String is the protocol as access lists have it.
func (p Protocol) String() string {
	if p == AnyProtocol {
		return "any"
	}
	return strconv.Itoa(int(p))
}

// Ports is a range with both ends.
type Ports struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// AnyPort is the range of all ports.
var AnyPort = Ports{0, 1<<16 - 1}

// Contains tells whether a port is in the range.
func (p Ports) Contains(port uint16) bool { return p.First <= port && port <= p.Last }

// portType is the range as objects have it.
func (p Ports) portType() *model.PortType {
	if p == AnyPort {
		return &model.PortType{StartPort: new(int64(-1)), EndPort: new(int64(-1))}
	}
	return &model.PortType{StartPort: new(int64(p.First)), EndPort: new(int64(p.Last))}
}

// ParsePorts reads a range of ports. The error says what is wanted.
func ParsePorts(p model.PortType) (Ports, error) {
	first, last := model.ValueOr(p.StartPort, -1), model.ValueOr(p.EndPort, -1)
	switch {
	case first == -1 && last == -1:
		return AnyPort, nil
	case first == -1 || last == -1:
		return Ports{}, fmt.Errorf("-1 at both ends for any port, or at none")
	case first < 0 || last > 1<<16-1:
		return Ports{}, fmt.Errorf("ports from 0 to 65535")
	case first > last:
		return Ports{}, fmt.Errorf("start_port not above end_port")
	}
	return Ports{uint16(first), uint16(last)}, nil
}

// ParseICMP reads the types and codes that a rule's destination ports stand
// for: the ends of the range are a type and a code, -1 is any of them, and so
// is the range of all ports.
func ParseICMP(p model.PortType) (types, codes Ports, err error) {
	typ, code := model.ValueOr(p.StartPort, -1), model.ValueOr(p.EndPort, -1)
	switch {
	case typ == -1 || typ == 0 && code == int64(AnyPort.Last):
		return AnyPort, AnyPort, nil
	case typ < 0 || typ > 255:
		return Ports{}, Ports{}, fmt.Errorf("an ICMP type from 0 to 255 as start_port, or -1 for any")
	case code < -1 || code > 255:
		return Ports{}, Ports{}, fmt.Errorf("an ICMP code from 0 to 255 as end_port, or -1 for any")
	case code == -1:
		return Ports{uint16(typ), uint16(typ)}, AnyPort, nil
	}
	return Ports{uint16(typ), uint16(typ)}, Ports{uint16(code), uint16(code)}, nil
}

// ParsePrefix is the prefix that is meant, if the parts fit.
func ParsePrefix(s *model.SubnetType) (netip.Prefix, bool) {
	if s == nil {
		return netip.Prefix{}, false
	}
	a, err := netip.ParseAddr(s.IPPrefix)
	if err != nil {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix(int(s.IPPrefixLen))
	return p, err == nil
}

// subnetType is a prefix as objects have it.
func subnetType(p netip.Prefix) *model.SubnetType {
	return &model.SubnetType{IPPrefix: p.Addr().String(), IPPrefixLen: int64(p.Bits())}
}

// Family restricts a rule to IPv4 or IPv6; the zero value is both.
type Family uint8

// The families of addresses.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// ParseFamily reads an ethertype.
func ParseFamily(ethertype string) Family {
	switch ethertype {
	case "IPv4":
		return IPv4
	case "IPv6":
		return IPv6
	}
	return AnyFamily
}

// familyOf is the family of an address.
func familyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// parseTag splits the text of a tag in a rule, type=value, with "global:" in
// front when it is a tag of the whole cluster.
func parseTag(text string) (name string, global, ok bool) {
	name, global = strings.CutPrefix(text, "global:")
	typ, value, ok := strings.Cut(name, "=")
	return name, global, ok && typ != "" && value != ""
}

// scopeOf is the project that an object of a policy is in, as domain:project;
// empty for those of the whole cluster.
func scopeOf(m *model.Meta) string {
	if len(m.FQName) < 3 {
		return ""
	}
	return model.FQString(m.FQName[:2])
}

// TagName is the full name of the tag that a rule's text means. A rule of a
// project means its project's tags unless it says global.
func TagName(rule *model.Meta, text string) ([]string, bool) {
	name, global, ok := parseTag(text)
	if !ok {
		return nil, false
	}
	if !global && scopeOf(rule) != "" {
		return append(slices.Clone(rule.FQName[:2]), name), true
	}
	return []string{name}, true
}

// Service is what a rule says of protocol and ports. Ports of a protocol that
// has none say nothing; of any protocol, they demand one that has. For ICMP
// the types take the place of the source ports, the codes that of the
// destination ports.
type Service struct {
	Family   Family   `json:"family,omitempty"`
	Protocol Protocol `json:"protocol"`
	// Src and Dst are sorted and do not overlap; AnyPort stands alone.
	Src []Ports `json:"src"`
	Dst []Ports `json:"dst"`
}

// anyService matches all packets.
func anyService() Service { return Service{Protocol: AnyProtocol, Src: anyPorts, Dst: anyPorts} }

// anyPorts is shared: nobody changes it.
var anyPorts = []Ports{AnyPort}

// reverse is the service of packets the other way, where it is not an answer
// but what its sender begins with: the ports are the other's. ICMP has none.
func (s Service) reverse() Service {
	if !s.Protocol.IsICMP() {
		s.Src, s.Dst = s.Dst, s.Src
	}
	return s
}

// parseServices reads protocol and ports of a rule. There are several services
// only for ICMP, where each range is a type with a code. Absent ports are any.
func parseServices(f Family, protocol string, src, dst []model.PortType) ([]Service, error) {
	p, ok := ParseProtocol(protocol)
	switch {
	case protocol == "":
		p = AnyProtocol
	case !ok:
		return nil, fmt.Errorf("protocol %q is not known", protocol)
	case p == icmp && f == IPv6: // as classic clients write it
		p = icmpv6
	}
	if p.IsICMP() {
		return icmpServices(f, p, dst)
	}
	s := Service{Family: f, Protocol: p, Src: anyPorts, Dst: anyPorts}
	if p != AnyProtocol && !p.HasPorts() {
		return []Service{s}, nil
	}
	var err error
	if s.Src, err = parseRanges(src); err != nil {
		return nil, fmt.Errorf("src_ports: want %w", err)
	}
	if s.Dst, err = parseRanges(dst); err != nil {
		return nil, fmt.Errorf("dst_ports: want %w", err)
	}
	return []Service{s}, nil
}

func icmpServices(f Family, p Protocol, ports []model.PortType) ([]Service, error) {
	if len(ports) == 0 {
		return []Service{{f, p, anyPorts, anyPorts}}, nil
	}
	var list []Service
	for i := range ports {
		types, codes, err := ParseICMP(ports[i])
		if err != nil {
			return nil, fmt.Errorf("dst_ports: want %w", err)
		}
		list = append(list, Service{f, p, []Ports{types}, []Ports{codes}})
	}
	return list, nil
}

// parseRanges reads ranges and joins those that meet.
func parseRanges(list []model.PortType) ([]Ports, error) {
	if len(list) == 0 {
		return anyPorts, nil
	}
	ranges := make([]Ports, len(list))
	for i := range list {
		p, err := ParsePorts(list[i])
		if err != nil {
			return nil, err
		}
		ranges[i] = p
	}
	slices.SortFunc(ranges, func(a, b Ports) int { return int(a.First) - int(b.First) })
	joined := ranges[:1]
	for _, p := range ranges[1:] {
		last := &joined[len(joined)-1]
		if int(p.First) <= int(last.Last)+1 {
			last.Last = max(last.Last, p.Last)
		} else {
			joined = append(joined, p)
		}
	}
	return joined, nil
}
