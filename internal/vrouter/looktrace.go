package vrouter

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// defaultSourcePort is the one that a trace is about where nobody says: the first
// of those for clients (RFC 6335 section 6).
const defaultSourcePort = 49152

// echo requests are what a trace of ICMP is about where nobody says.
var echoRequests = map[uint8]uint64{1: 8, 58: 128}

// traceQuery is the packet that the question is about, but for its port.
func (l *look) traceQuery() (q dataplane.TraceQuery, err error) {
	if q.Src, err = l.address(vrouterapi.ParamSource, l.onlyVif != 0); err != nil {
		return q, err
	}
	if q.Dst, err = l.address(vrouterapi.ParamDestination, false); err != nil {
		return q, err
	}
	if q.Protocol, err = protocolOf(l.query.Get(vrouterapi.ParamProtocol)); err != nil {
		return q, err
	}
	if q.Protocol == 1 && q.Dst.Is6() {
		q.Protocol = 58
	}
	source, err := l.uint(vrouterapi.ParamSourcePort, 16, defaultSourcePort)
	if err != nil {
		return q, err
	}
	port, err := l.uint(vrouterapi.ParamPort, 16, echoRequests[q.Protocol])
	if err != nil {
		return q, err
	}
	size, err := l.uint(vrouterapi.ParamSize, 16, 0)
	if err != nil {
		return q, err
	}
	q.SrcPort, q.DstPort, q.Size = uint16(source), uint16(port), int(size)
	if l.query.Get(vrouterapi.ParamAsked) != "" {
		q.Answers = true
		q.Asked, err = l.address(vrouterapi.ParamAsked, false)
	}
	return q, err
}

func (l *look) address(param string, optional bool) (netip.Addr, error) {
	text := l.query.Get(param)
	if text == "" && optional {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, invalid("%s %q: want an address", param, text)
	}
	return a.Unmap(), nil
}

func (l *look) uint(param string, bits int, absent uint64) (uint64, error) {
	text := l.query.Get(param)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, invalid("%s %q: want a number up to %d", param, text, uint64(1)<<bits-1)
	}
	return n, nil
}

// trace tells what becomes of a packet of a port.
func (l *look) trace() (vrouterapi.Trace, error) {
	p, ok := l.ports[l.onlyVif]
	if !ok {
		return vrouterapi.Trace{}, invalid("vif %q: want the port that sends", l.query.Get(vrouterapi.ParamVif))
	}
	q, err := l.traceQuery()
	if err != nil {
		return vrouterapi.Trace{}, err
	}
	q.IfIndex = p.IfIndex
	if !q.Src.IsValid() {
		at := slices.IndexFunc(p.Addresses, func(a netip.Addr) bool { return a.Is4() == q.Dst.Is4() })
		if at < 0 {
			return vrouterapi.Trace{}, invalid("%s has no address of the family of %s", l.device(p.IfIndex), q.Dst)
		}
		q.Src = p.Addresses[at]
	}
	if q.Src.Is4() != q.Dst.Is4() {
		return vrouterapi.Trace{}, invalid("source %s and destination %s are of different families", q.Src, q.Dst)
	}
	t, err := l.tables.Trace(q)
	return l.traceOf(q, t), err
}

// traceArrival tells what becomes of a packet that comes to the node by tunnel.
func (l *look) traceArrival() (answer vrouterapi.Trace, err error) {
	var q dataplane.ArrivalQuery
	node, err := l.address(vrouterapi.ParamNode, true)
	if err != nil {
		return answer, err
	}
	if node.IsValid() && node != l.agent.config.Address {
		return answer, notFound("the address of this node is %s, not %s", l.agent.config.Address, node)
	}
	if q.TraceQuery, err = l.traceQuery(); err != nil {
		return answer, err
	}
	if q.Src.Is4() != q.Dst.Is4() {
		return answer, invalid("source %s and destination %s are of different families", q.Src, q.Dst)
	}
	if q.Outer, err = l.address(vrouterapi.ParamOuter, false); err != nil {
		return answer, err
	}
	if !q.Outer.Is4() {
		return answer, invalid("outer %s: want an IPv4 address", q.Outer)
	}
	if q.Encapsulation, err = l.encapsulation(); err != nil {
		return answer, err
	}
	label, err := l.uint(vrouterapi.ParamLabel, 20, 0)
	if err != nil {
		return answer, err
	}
	vni, err := l.uint(vrouterapi.ParamVNI, 24, 0)
	if err != nil {
		return answer, err
	}
	q.Label, q.VNI = uint32(label), uint32(vni)
	if text := l.query.Get(vrouterapi.ParamMAC); text != "" {
		if q.MAC, err = dataplane.ParseMAC(text); err != nil {
			return answer, invalid("mac %q: want a MAC", text)
		}
	}
	t, err := l.tables.TraceArrival(q)
	return l.traceOf(q.TraceQuery, t), err
}

func (l *look) encapsulation() (dataplane.Encapsulation, error) {
	text := l.query.Get(vrouterapi.ParamEncapsulation)
	for _, e := range []dataplane.Encapsulation{dataplane.MPLSoUDP, dataplane.MPLSoGRE, dataplane.VXLAN} {
		if strings.EqualFold(e.String(), text) {
			return e, nil
		}
	}
	return 0, invalid("encapsulation %q: want MPLSoUDP, MPLSoGRE or VXLAN", text)
}

func (l *look) traceOf(q dataplane.TraceQuery, t dataplane.Trace) vrouterapi.Trace {
	answer := vrouterapi.Trace{
		Node: l.agent.config.Name, NodeAddress: l.agent.config.Address.String(), Protocol: protocolName(q.Protocol),
		Source: q.Src.String(), SourcePort: q.SrcPort, Destination: q.Dst.String(), DestinationPort: q.DstPort,
		SourceAs: t.Src.String(), DestinationAs: t.Dst.String(), Translated: t.Src != q.Src || t.Dst != q.Dst,
		Steps: []vrouterapi.TraceStep{}, Verdict: verdictOf(t),
	}
	if t.Reason != 0 {
		answer.Reason, answer.Description, answer.Advice = t.Reason.String(), t.Reason.Help(), t.Reason.Advice()
	}
	if t.NextHop.Kind != dataplane.Discard {
		hop := l.nextHop(0, t.NextHop)
		answer.NextHop = &hop
	}
	for _, s := range t.Steps {
		answer.Steps = append(answer.Steps, l.traceStep(s))
	}
	return answer
}

func verdictOf(t dataplane.Trace) string {
	switch {
	case t.Unknown:
		return vrouterapi.VerdictUnknown
	case t.Reason != 0:
		return vrouterapi.VerdictDropped
	}
	switch t.NextHop.Kind {
	case dataplane.Local:
		return vrouterapi.VerdictDelivered
	case dataplane.Tunnel:
		return vrouterapi.VerdictTunnel
	case dataplane.Fabric:
		return vrouterapi.VerdictFabric
	}
	return vrouterapi.VerdictRouter
}

func (l *look) traceStep(s dataplane.Step) vrouterapi.TraceStep {
	step := vrouterapi.TraceStep{
		Step: string(s.Kind), Vif: s.IfIndex, Device: l.device(s.IfIndex), Port: l.portID(s.IfIndex), VRF: s.VRF, Network: l.networks[s.VRF],
	}
	if s.Route != nil {
		route := l.route(*s.Route)
		step.Route = &route
	}
	if s.NextHop.Kind != dataplane.Discard {
		hop := l.nextHop(0, s.NextHop)
		step.NextHop = &hop
	}
	if s.NATSrc.IsValid() || s.NATDst.IsValid() {
		step.NAT = &vrouterapi.NAT{Source: addressText(s.NATSrc), Destination: addressText(s.NATDst)}
	}
	if s.Policy != nil {
		step.Rule = ruleOf(s.Policy)
	}
	if s.Reason != 0 {
		step.Reason = s.Reason.String()
	}
	step.Text = stepText(&step, s)
	return step
}

func ruleOf(p *dataplane.PolicyStep) *vrouterapi.TraceRule {
	r := &vrouterapi.TraceRule{Kind: p.Kind.String(), Set: p.Set.String(), Pass: p.Pass, Place: p.Place}
	if p.Rule != nil {
		r.UUID, r.Owner, r.OwnerPlace = p.Rule.UUID, p.Rule.Owner, p.Rule.Place
	}
	return r
}

// stepText says a step in words.
func stepText(step *vrouterapi.TraceStep, s dataplane.Step) string {
	vif := fmt.Sprintf("vif %d %s", step.Vif, step.Device)
	in := strings.TrimSpace(fmt.Sprintf("vrf %d %s", step.VRF, step.Network))
	switch s.Kind {
	case dataplane.StepPort:
		return vif + ", " + in
	case dataplane.StepSource:
		return fmt.Sprintf("%s may send from %s", vif, s.Address)
	case dataplane.StepNAT:
		if s.NATSrc.IsValid() && s.NATDst.IsValid() {
			return fmt.Sprintf("source becomes %s, destination %s", s.NATSrc, s.NATDst)
		}
		if s.NATSrc.IsValid() {
			return fmt.Sprintf("source becomes %s, in %s", s.NATSrc, in)
		}
		return fmt.Sprintf("destination becomes %s, its own of %s", s.NATDst, vif)
	case dataplane.StepRoute:
		return fmt.Sprintf("%s in %s: nh %d %s", step.Route.Destination, in, step.Route.NextHop.ID, hopText(step.Route.NextHop))
	case dataplane.StepMember:
		return "this flow takes " + hopText(*step.NextHop)
	case dataplane.StepCheck:
		return fmt.Sprintf("to the source by %s in %s: nh %d %s", step.Route.Destination, in, step.Route.NextHop.ID, hopText(step.Route.NextHop))
	case dataplane.StepPolicy:
		return fmt.Sprintf("%s of %s: %s", setText(s.Policy.Kind), vif, ruleText(step.Rule))
	case dataplane.StepAnswer:
		return "passes with the connection that it answers"
	case dataplane.StepTunnel:
		return hopText(*step.NextHop)
	case dataplane.StepMTU:
		return fmt.Sprintf("the underlay takes %d bytes, so packets of up to %d", s.MTU, s.Largest)
	case dataplane.StepDeliver:
		return fmt.Sprintf("to %s as %s", vif, s.Address)
	case dataplane.StepRouter:
		return fmt.Sprintf("the router has %s and answers", s.Address)
	case dataplane.StepFabric:
		return fmt.Sprintf("to %s as the node's own", s.NextHop.Remote)
	case dataplane.StepDrop:
		return fmt.Sprintf("%s: %s", s.Reason, s.Reason.Help())
	}
	return s.Why
}

// setText is what operators call the sets.
func setText(kind dataplane.PolicySet) string {
	return [...]string{"policies of the network", "firewall", "security groups, arriving", "security groups, leaving"}[kind]
}

// ruleText is the verdict of a set with its rule, as its author knows it.
func ruleText(r *vrouterapi.TraceRule) string {
	verdict := "deny"
	if r.Pass {
		verdict = "pass"
	}
	switch {
	case r.Place == 0:
		return verdict + ", no rule matches"
	case r.Owner == "":
		return fmt.Sprintf("%s by an implied rule (%s)", verdict, r.UUID)
	case r.OwnerPlace > 0:
		return fmt.Sprintf("%s by rule %d of %s (%s)", verdict, r.OwnerPlace, r.Owner, r.UUID)
	case strings.HasPrefix(r.Owner, "firewall-rule "):
		return fmt.Sprintf("%s by %s (%s)", verdict, r.Owner, r.UUID)
	}
	return fmt.Sprintf("%s by what follows from %s (%s)", verdict, r.Owner, r.UUID)
}

// hopText is a next hop in words.
func hopText(n vrouterapi.NextHop) string {
	switch n.Type {
	case "local":
		text := fmt.Sprintf("vif %d %s", n.Vif, n.Device)
		if n.Vif == 0 {
			text = fmt.Sprintf("label %d, which no port has", n.Label)
		}
		if n.Behind {
			text = "behind " + text
		}
		return text
	case "tunnel":
		if n.VNI != 0 {
			return strings.TrimSpace(fmt.Sprintf("tunnel to %s, %s vni %d %s", n.Remote, n.Encapsulation, n.VNI, n.MAC))
		}
		return fmt.Sprintf("tunnel to %s, %s label %d", n.Remote, n.Encapsulation, n.Label)
	case "ecmp":
		return fmt.Sprintf("ecmp of %d members", len(n.Members))
	}
	return strings.TrimSpace(n.Type + " " + n.Remote)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
