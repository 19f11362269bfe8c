package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// Frames as the programs see them, with what they read and no more: checksums
// are zeros, which they only change.

const (
	ethernet  = 14
	ipv4      = 20
	tcp       = 20
	mplsOuter = 32
	tcpSYN    = 0x02
	tcpSYNACK = 0x12
)

// tuple is a connection's addresses and ports in one direction.
type tuple struct {
	src, dst     netip.Addr
	sport, dport uint16
	answers      bool
}

// writeIP writes an IPv4 header for size bytes in all.
func writeIP(b []byte, protocol byte, size int, src, dst netip.Addr) {
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
}

func writeEthernet(b []byte, dst, src dataplane.MAC) {
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint16(b[12:], 0x0800)
}

// writeTCP writes the first packet of a direction of a connection.
func writeTCP(b []byte, t tuple) {
	writeIP(b, 6, len(b), t.src, t.dst)
	binary.BigEndian.PutUint16(b[ipv4:], t.sport)
	binary.BigEndian.PutUint16(b[ipv4+2:], t.dport)
	b[ipv4+12], b[ipv4+13] = tcp/4<<4, tcpSYN
	if t.answers {
		b[ipv4+13] = tcpSYNACK
	}
}

// fromPort is the frame that a container sends by the router.
func fromPort(mac dataplane.MAC, t tuple) []byte {
	b := make([]byte, ethernet+ipv4+tcp)
	writeEthernet(b, dataplane.RouterMAC(), mac)
	writeTCP(b[ethernet:], t)
	return b
}

// fromTunnel is the MPLSoUDP frame that another node sends to a label.
func fromTunnel(node, here netip.Addr, label uint32, t tuple) []byte {
	b := make([]byte, ethernet+mplsOuter+ipv4+tcp)
	writeEthernet(b, dataplane.MAC{2, 1}, dataplane.MAC{2, 2})
	outer := b[ethernet:]
	writeIP(outer, 17, len(outer), node, here)
	udp := outer[ipv4:]
	binary.BigEndian.PutUint16(udp, 49152+t.sport%16384)
	binary.BigEndian.PutUint16(udp[2:], 6635)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint32(udp[8:], label<<12|1<<8|64)
	writeTCP(udp[12:], t)
	return b
}
