package records

import (
	"crypto/sha256"
	"net/netip"
	"time"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// Port is what a port of the node is called, and what it is to policy.
type Port struct {
	ID, ProjectID, NetworkID, NetworkName string
	ContainerID, Name, VirtualMachineID   string
	Identity                              dataplane.Identity
}

// maker makes records of what the data plane tells.
type maker struct {
	// salt tells the flows of this node and boot from those of others.
	salt [16]byte
	// port finds a port by its interface, also one that has just gone.
	port func(ifindex int) (Port, bool)
	// booted is when the clock of the data plane was 0.
	booted time.Time
}

func saltOf(node, boot string) (salt [16]byte) {
	sum := sha256.Sum256([]byte(node + " " + boot))
	copy(salt[:], sum[:])
	return salt
}

// session is the record of a conversation.
func (m maker) session(c dataplane.Conversation) *collectorv1.Session {
	f := c.Begins
	if f == nil {
		f = c.Answers
	}
	s := &collectorv1.Session{
		Protocol: uint32(f.Protocol), Vrf: f.VRF, Verdict: collectorv1.Session_VERDICT_PASS,
		Forward: m.flow(c.Begins), Reverse: m.flow(c.Answers),
	}
	m.setEnds(s, f)
	return s
}

// refusal is the record of a flow that policy refused.
func (m maker) refusal(f *dataplane.FlowTotals, reason dataplane.DropReason) *collectorv1.Session {
	s := &collectorv1.Session{
		Protocol: uint32(f.Protocol), Vrf: f.VRF, Verdict: collectorv1.Session_VERDICT_DENY, Reason: reason.String(),
	}
	if f.Answers {
		s.Reverse = m.flow(f)
	} else {
		s.Forward = m.flow(f)
	}
	m.setEnds(s, f)
	return s
}

// setEnds tells who the flow is between.
func (m maker) setEnds(s *collectorv1.Session, f *dataplane.FlowTotals) {
	src := end(f.Src, f.SrcPort, f.NATSrc, f.NATSrcPort)
	dst := end(f.Dst, f.DstPort, f.NATDst, f.NATDstPort)
	src.Port, dst.Port, s.IcmpType = portsOf(f, src.Port, dst.Port)
	toPort := f.NextHop.Kind == dataplane.Local || f.NextHop.Kind == dataplane.Bridged
	switch {
	case f.Direction == dataplane.FromTunnel:
		m.local(dst, f.IfIndex)
		setIdentity(src, f.Peer)
		s.RemoteNode = text(f.OuterSource)
	case toPort:
		m.local(src, f.IfIndex)
		m.local(dst, f.NextHop.IfIndex)
	default:
		m.local(src, f.IfIndex)
		setIdentity(dst, f.Peer)
		s.RemoteNode = text(f.NextHop.Remote)
	}
	s.Client, s.Server = src, dst
	if f.Answers {
		// As the direction that began has them: an address is the one before its
		// translation on the way from the client.
		swapTranslated(src)
		swapTranslated(dst)
		s.Client, s.Server = dst, src
	}
}

func end(address netip.Addr, port uint16, translated netip.Addr, translatedPort uint16) *collectorv1.End {
	return &collectorv1.End{
		Address: text(address), Port: uint32(port),
		TranslatedAddress: text(translated), TranslatedPort: uint32(translatedPort),
	}
}

func swapTranslated(e *collectorv1.End) {
	if e.TranslatedAddress != "" {
		e.Address, e.TranslatedAddress = e.TranslatedAddress, e.Address
	}
	if e.TranslatedPort != 0 {
		e.Port, e.TranslatedPort = e.TranslatedPort, e.Port
	}
}

// Numbers of the protocols whose flows have no ports.
const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

// portsOf are the ports of both ends; of ICMP the identifier is the client's.
func portsOf(f *dataplane.FlowTotals, src, dst uint32) (uint32, uint32, uint32) {
	if f.Protocol != protocolICMP && f.Protocol != protocolICMPv6 {
		return src, dst, 0
	}
	if f.Answers {
		return 0, src, uint32(dataplane.ICMPAnswer(f.Protocol, f.DstPort))
	}
	return src, 0, dst
}

func (m maker) local(e *collectorv1.End, ifindex int) {
	e.Local = true
	p, ok := m.port(ifindex)
	if !ok {
		return
	}
	e.InterfaceId, e.ProjectId, e.NetworkId, e.NetworkName = p.ID, p.ProjectID, p.NetworkID, p.NetworkName
	e.ContainerId, e.Name, e.VirtualMachineId = p.ContainerID, p.Name, p.VirtualMachineID
	setIdentity(e, p.Identity)
}

// setIdentity tells what an end is to policy, which is all that is known of one that
// is not here.
func setIdentity(e *collectorv1.End, who dataplane.Identity) {
	e.Network, e.SecurityGroups, e.Tags = who.Network(), who.Groups(), who.Tags()
}

func (m maker) flow(f *dataplane.FlowTotals) *collectorv1.Flow {
	if f == nil {
		return nil
	}
	id := make([]byte, len(f.ID))
	for i := range id {
		id[i] = f.ID[i] ^ m.salt[i]
	}
	return &collectorv1.Flow{
		FlowId: id, FirstUs: m.booted.Add(f.Created).UnixMicro(), LastUs: m.booted.Add(f.LastSeen).UnixMicro(),
		Packets: f.Packets, Bytes: f.Bytes, Ended: f.Ended,
	}
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
