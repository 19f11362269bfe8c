package bgp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// EVPNRoute is an EVPN route in fields. Which of them count depends on the
// type: 1 (RD, ESI, Tag, Label), 2 (RD, ESI, Tag, MAC, IP if valid, Label,
// Label2 if not 0), 3 (RD, Tag, IP), 4 (RD, ESI, IP), 5 (RD, ESI, Tag, Prefix,
// Gateway, Label).
//
// Labels are the 24 bits of the wire: a VNI as it is, an MPLS label shifted
// left by 4 with the bottom bit; what it is the encapsulation says.
type EVPNRoute struct {
	Type          uint8
	RD            RD
	ESI           [esiSize]byte
	Tag           uint32
	MAC           net.HardwareAddr
	IP            netip.Addr
	Prefix        netip.Prefix
	Gateway       netip.Addr
	Label, Label2 uint32
}

var errEVPN = errors.New("not a route of types 1 to 5, or with fields that do not fit its type")

// parseEVPN reads a route from the wire.
func parseEVPN(whole string) (EVPNRoute, error) {
	b := []byte(whole)
	if len(b) < 2 || len(b) != 2+int(b[1]) || evpnKey(nil, b) == nil {
		return EVPNRoute{}, errEVPN
	}
	r := EVPNRoute{Type: b[0], RD: RD(b[2:])}
	b = b[2+rdSize:]
	if r.Type != 3 {
		r.ESI = [esiSize]byte(b)
		b = b[esiSize:]
	}
	if r.Type != 4 {
		r.Tag = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	switch r.Type {
	case 1:
		r.Label = label24(b)
	case 2:
		r.MAC = net.HardwareAddr(b[1:7])
		size := int(b[7]) / 8
		r.IP, _ = netip.AddrFromSlice(b[8 : 8+size])
		b = b[8+size:]
		r.Label = label24(b)
		if len(b) == 6 {
			r.Label2 = label24(b[3:])
		}
	case 3, 4:
		r.IP, _ = netip.AddrFromSlice(b[1:])
	case 5:
		size := (len(b) - 4) / 2
		addr, _ := netip.AddrFromSlice(b[1 : 1+size])
		r.Prefix = netip.PrefixFrom(addr, int(b[0])).Masked()
		r.Gateway, _ = netip.AddrFromSlice(b[1+size : 1+2*size])
		r.Label = label24(b[1+2*size:])
	}
	return r, nil
}

func label24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

// parseEVPNKey reads the fields that are in a key.
func parseEVPNKey(key string) (EVPNRoute, error) {
	b := []byte(key)
	if len(b) < 1+rdSize+4 {
		return EVPNRoute{}, errEVPN
	}
	r := EVPNRoute{Type: b[0], RD: RD(b[1:])}
	b = b[1+rdSize:]
	if r.Type == 1 || r.Type == 4 {
		r.ESI = [esiSize]byte(b)
		b = b[esiSize:]
	}
	if r.Type != 4 {
		r.Tag = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	switch r.Type {
	case 2:
		r.MAC = net.HardwareAddr(b[1:7])
		r.IP, _ = netip.AddrFromSlice(b[8:])
	case 3, 4:
		r.IP, _ = netip.AddrFromSlice(b[1:])
	case 5:
		addr, _ := netip.AddrFromSlice(b[1:])
		r.Prefix = netip.PrefixFrom(addr, int(b[0]))
	}
	return r, nil
}

// wire writes the route as messages have it.
func (r EVPNRoute) wire() ([]byte, error) {
	b := append([]byte{r.Type, 0}, r.RD[:]...)
	if r.Type != 3 {
		b = append(b, r.ESI[:]...)
	}
	if r.Type != 4 {
		b = binary.BigEndian.AppendUint32(b, r.Tag)
	}
	switch r.Type {
	case 1:
		b = appendLabel(b, r.Label)
	case 2:
		b = append(append(b, 48), r.MAC...)
		b = append(append(b, byte(r.IP.BitLen())), r.IP.AsSlice()...)
		b = appendLabel(b, r.Label)
		if r.Label2 != 0 {
			b = appendLabel(b, r.Label2)
		}
	case 3, 4:
		b = append(append(b, byte(r.IP.BitLen())), r.IP.AsSlice()...)
	case 5:
		gateway := r.Gateway
		if !gateway.IsValid() && r.Prefix.Addr().Is4() {
			gateway = netip.IPv4Unspecified()
		} else if !gateway.IsValid() {
			gateway = netip.IPv6Unspecified()
		}
		p := r.Prefix.Masked()
		b = append(append(b, byte(p.Bits())), p.Addr().AsSlice()...)
		b = appendLabel(append(b, gateway.AsSlice()...), r.Label)
	}
	b[1] = byte(len(b) - 2)
	if evpnKey(nil, b) == nil {
		return nil, errEVPN
	}
	return b, nil
}

// NLRI returns the route's identity.
func (r EVPNRoute) NLRI() (NLRI, error) {
	b, err := r.wire()
	if err != nil {
		return NLRI{}, err
	}
	return NLRI{EVPN, string(evpnKey(nil, b))}, nil
}

func appendLabel(b []byte, label uint32) []byte {
	return append(b, byte(label>>16), byte(label>>8), byte(label))
}

// EVPN returns the fields of an EVPN route that make its identity.
func (n NLRI) EVPN() (EVPNRoute, error) {
	if n.Family != EVPN {
		return EVPNRoute{}, errEVPN
	}
	return parseEVPNKey(n.key)
}

// ingressReplication is the tunnel type of who takes broadcasts as copies
// (RFC 6514 §5, RFC 7432 §11.2).
const ingressReplication = 6

// IngressReplication returns the PMSI tunnel attribute of a router that takes
// copies of broadcasts at an address, with a VNI (RFC 8365 §5.1.3).
func IngressReplication(vni uint32, addr netip.Addr) string {
	b := appendLabel([]byte{0, ingressReplication}, vni)
	return string(append(b, addr.AsSlice()...))
}

// IngressReplication returns the VNI, or shifted label, under which a router
// takes copies of broadcasts; ok is false for who wants them in another way.
func (a *Attrs) IngressReplication() (vni uint32, ok bool) {
	if len(a.PMSI) < 5 || a.PMSI[1] != ingressReplication {
		return 0, false
	}
	return label24([]byte(a.PMSI[2:5])), true
}
