package vrouter

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// flowEnd is what one end of a flow has to be.
type flowEnd struct {
	prefix netip.Prefix
	port   uint16 // 0 for any
}

func flowEndOf(text string) (flowEnd, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return flowEnd{prefix: p.Masked()}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return flowEnd{prefix: netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		return flowEnd{netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), a.Port()}, nil
	}
	return flowEnd{}, invalid("%q: want an address, a prefix, or ADDRESS:PORT", text)
}

func (e flowEnd) has(address netip.Addr, port uint16) bool {
	return e.prefix.Contains(address) && (e.port == 0 || e.port == port)
}

// Numbers of protocols by the names that people use.
var protocols = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58, "sctp": 132}

func protocolOf(text string) (uint8, error) {
	if number, ok := protocols[text]; ok {
		return number, nil
	}
	number, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return 0, invalid("protocol %q: want tcp, udp, icmp, icmp6, sctp or a number up to 255", text)
	}
	return uint8(number), nil
}

func protocolName(number uint8) string {
	for name, n := range protocols {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(int(number))
}

// flowMatch is what the question asks of flows.
func (l *look) flowMatch() (func(*dataplane.Flow) bool, error) {
	var ends []flowEnd
	for _, text := range l.query[vrouterapi.ParamEnd] {
		e, err := flowEndOf(text)
		if err != nil {
			return nil, err
		}
		ends = append(ends, e)
	}
	if len(ends) > 2 {
		return nil, invalid("%d ends; a flow has two", len(ends))
	}
	protocol, anyProtocol := uint8(0), true
	if text := l.query.Get(vrouterapi.ParamProtocol); text != "" {
		var err error
		if protocol, err = protocolOf(text); err != nil {
			return nil, err
		}
		anyProtocol = false
	}
	return func(f *dataplane.Flow) bool {
		local := f.NextHop.Kind == dataplane.Local || f.NextHop.Kind == dataplane.Bridged
		return l.wantsVRF(f.VRF) && (anyProtocol || f.Protocol == protocol) &&
			(l.wantsVif(f.IfIndex) || local && l.wantsVif(f.NextHop.IfIndex)) && betweenEnds(f, ends)
	}, nil
}

// betweenEnds tells whether the flow is from one end to the other, either way. An
// address counts as it is before and after its translation.
func betweenEnds(f *dataplane.Flow, ends []flowEnd) bool {
	isSource := func(e flowEnd) bool {
		return e.has(f.Src, f.SrcPort) || f.NATSrc.IsValid() && e.has(f.NATSrc, cmp.Or(f.NATSrcPort, f.SrcPort))
	}
	isDestination := func(e flowEnd) bool {
		return e.has(f.Dst, f.DstPort) || f.NATDst.IsValid() && e.has(f.NATDst, cmp.Or(f.NATDstPort, f.DstPort))
	}
	switch len(ends) {
	case 0:
		return true
	case 1:
		return isSource(ends[0]) || isDestination(ends[0])
	}
	return isSource(ends[0]) && isDestination(ends[1]) || isSource(ends[1]) && isDestination(ends[0])
}

func (l *look) flows() (vrouterapi.Flows, error) {
	answer := vrouterapi.Flows{Flows: []vrouterapi.Flow{}}
	match, err := l.flowMatch()
	if err != nil {
		return answer, err
	}
	pairs, left, err := l.tables.FlowPairs(match, l.limit)
	if err != nil {
		return answer, err
	}
	policies, err := l.tables.Policies()
	if err != nil {
		return answer, err
	}
	now, err := dataplane.Now()
	if err != nil {
		return answer, err
	}
	answer.Left = left
	direction := func(f *dataplane.Flow) *vrouterapi.Direction {
		if f == nil {
			return nil
		}
		return l.direction(f, now, policies)
	}
	for _, p := range pairs {
		first := p.Begins
		if first == nil {
			first = p.Answers
		}
		state := "unanswered"
		if first.Answered || first.Answers {
			state = "established"
		}
		answer.Flows = append(answer.Flows, vrouterapi.Flow{
			State: state, Protocol: protocolName(first.Protocol), Forward: direction(p.Begins), Reverse: direction(p.Answers),
		})
	}
	slices.SortFunc(answer.Flows, func(a, b vrouterapi.Flow) int { return compareDirections(a.First(), b.First()) })
	return answer, nil
}

func compareDirections(a, b *vrouterapi.Direction) int {
	return cmp.Or(cmp.Compare(a.VRF, b.VRF), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination),
		cmp.Compare(a.DestinationPort, b.DestinationPort), cmp.Compare(a.SourcePort, b.SourcePort))
}

func (l *look) direction(f *dataplane.Flow, now time.Duration, policies map[int]dataplane.Policy) *vrouterapi.Direction {
	d := &vrouterapi.Direction{
		From: "port", Source: f.Src.String(), SourcePort: f.SrcPort, Destination: f.Dst.String(), DestinationPort: f.DstPort,
		VRF: f.VRF, Network: l.networks[f.VRF], Vif: f.IfIndex, Device: l.device(f.IfIndex), Port: l.portID(f.IfIndex),
		Label: f.Label, NextHop: l.nextHop(0, f.NextHop), Packets: f.Packets, Bytes: f.Bytes,
		AgeSeconds: seconds(now - f.Created), IdleSeconds: seconds(now - f.LastSeen),
		Current: f.Current, Generation: f.Generation, PolicyGeneration: f.Policy, PolicySets: map[int]map[string]string{},
	}
	if f.Direction == dataplane.FromTunnel {
		d.From = "tunnel"
	}
	if f.OuterSource.IsValid() {
		d.OuterSource = f.OuterSource.String()
	}
	d.NAT = natOf(f)
	for _, ifindex := range []int{f.IfIndex, f.NextHop.IfIndex} {
		if p, ok := policies[ifindex]; ok {
			d.PolicySets[ifindex] = p.SetNames()
		}
	}
	return d
}

func natOf(f *dataplane.Flow) *vrouterapi.NAT {
	nat := vrouterapi.NAT{SourcePort: f.NATSrcPort, DestinationPort: f.NATDstPort}
	if f.NATSrc.IsValid() {
		nat.Source = f.NATSrc.String()
	}
	if f.NATDst.IsValid() {
		nat.Destination = f.NATDst.String()
	}
	if nat == (vrouterapi.NAT{}) {
		return nil
	}
	return &nat
}
