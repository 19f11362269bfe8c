//go:build net

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// talk is a packet without its link header, to be answered or repeated.
type talk struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

func (d draw) talk(from, to []netip.Addr) talk {
	return talk{
		src: pick(d, from...), dst: pick(d, to...), proto: pick[uint8](d, 17, 17, 6, 6, 1, 1, 132, 47),
		sport: uint16(d.IntN(4)), dport: uint16(d.IntN(4)),
	}
}

func (t talk) answer() talk {
	t.src, t.dst, t.sport, t.dport = t.dst, t.src, t.dport, t.sport
	return t
}

// packet makes an IPv4 packet, perhaps a fragment, an error about another one, or
// one with odd fields.
func (d draw) packet(t talk, about *talk) []byte {
	ip := ipv4(t.src, t.dst, layers.IPProtocol(t.proto))
	ip.Id, ip.TOS = uint16(d.IntN(4)), uint8(pick(d, 0, 0, 0xb8, 3, d.IntN(256)))
	ip.TTL = uint8(pick(d, 64, 64, 64, 64, 64, 64, 64, 64, 64, 255, 2, d.IntN(2)))
	if d.IntN(12) == 0 {
		ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	}
	switch d.IntN(12) {
	case 0:
		ip.Flags = layers.IPv4MoreFragments
	case 1:
		ip.FragOffset = uint16(1 + d.IntN(5))
		ip.Flags = pick(d, 0, layers.IPv4MoreFragments)
	case 2:
		ip.Flags = layers.IPv4DontFragment
	}
	size := pick(d, 0, 8, 30, 60)
	if d.IntN(40) == 0 {
		size = 1380 + d.IntN(200)
	}
	body := make(gopacket.Payload, size)
	for i := range body {
		body[i] = byte(d.IntN(256))
	}
	var parts []gopacket.SerializableLayer
	switch {
	case ip.FragOffset > 0:
	case t.proto == 6:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(t.sport), DstPort: layers.TCPPort(t.dport), SYN: true}
		tcp.SetNetworkLayerForChecksum(ip)
		parts = append(parts, tcp)
	case t.proto == 17:
		parts = append(parts, udp(ip, int(t.sport), int(t.dport)))
	case t.proto == 1 && about != nil:
		code := layers.CreateICMPv4TypeCode(pick[uint8](d, 3, 11, 12), uint8(d.IntN(5)))
		quote := d.packet(*about, nil)
		parts = append(parts, &layers.ICMPv4{TypeCode: code}, gopacket.Payload(quote[:min(len(quote), pick(d, 28, 28, 40, 20, 27))]))
		body = nil
	case t.proto == 1:
		code := layers.CreateICMPv4TypeCode(pick[uint8](d, 8, 0, 13, 14, 3, 5), 0)
		parts = append(parts, &layers.ICMPv4{TypeCode: code, Id: t.sport})
	case t.proto == 132:
		head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, t.sport), t.dport)
		parts = append(parts, gopacket.Payload(append(head, make([]byte, 8)...)))
	}
	return serialize(append(append([]gopacket.SerializableLayer{ip}, parts...), body)...)
}

// input draws a frame, most of them such as pass.
func (d draw) input(w told, taps [4]int, sent *[]talk) input {
	var in input
	var t talk
	var about *talk
	if d.IntN(3) > 0 {
		in.tap = 1 + d.IntN(4)
	}
	far := append(slices.Clone(drawnAddresses), drawnElsewhere...)
	if d.IntN(10) == 0 {
		far = append(far, drawnStrange...)
	}
	port := w.ports[taps[d.IntN(4)]]
	if in.tap > 0 {
		port = w.ports[taps[in.tap-1]]
	}
	own := slices.Clone(port.Addresses)
	for _, f := range port.Foreign {
		if in.tap == 0 || isAlias(f) {
			own = append(own, f.Address)
		}
	}
	switch {
	case d.IntN(15) == 0:
		t = d.talk(far, far)
	case in.tap > 0:
		t = d.talk(own, far)
	default:
		t = d.talk(far, own)
	}
	if len(*sent) > 0 && d.IntN(3) == 0 {
		earlier := pick(d, *sent...)
		t = pick(d, earlier, earlier.answer(), earlier.answer())
		in.tap, port = d.placeOf(t, w, taps)
		if d.IntN(4) == 0 {
			about = new(earlier)
			t.proto = 1
		}
	}
	if about == nil {
		*sent = append((*sent)[max(0, len(*sent)-20):], t)
	}
	packet := d.packet(t, about)
	link := slices.Concat(pick(d, RouterMAC(), RouterMAC(), RouterMAC(), RouterMAC(), RouterMAC(), RouterMAC(), RouterMAC(), mac2).bytes(), port.MAC.bytes(), []byte{8, 0})
	in.frame = slices.Concat(link, packet)
	if in.tap > 0 && d.IntN(25) == 0 {
		in.frame = d.arp(port, pick(d, own...), pick(d, far...))
	}
	if in.tap == 0 {
		in.frame = d.tunnelled(w, port, t.src, in.frame)
	}
	if d.IntN(4) == 0 {
		in.frame = d.mangled(in.frame)
	}
	return in
}

// placeOf is where a packet comes from: the port that has its source, else from
// another node for the one that has its destination.
func (d draw) placeOf(t talk, w told, taps [4]int) (tap int, port Port) {
	for _, i := range d.Perm(4) {
		if p := w.ports[taps[i]]; slices.Contains(p.Addresses, t.src) {
			return i + 1, p
		}
	}
	for _, i := range d.Perm(4) {
		p := w.ports[taps[i]]
		if _, foreign := foreignOf(p, t.dst); foreign || slices.Contains(p.Addresses, t.dst) {
			return 0, p
		}
	}
	return 0, w.ports[taps[d.IntN(4)]]
}

func (m MAC) bytes() []byte { return m[:] }

func (d draw) arp(port Port, sender, target netip.Addr) []byte {
	eth := ethernet(port.MAC, MAC{255, 255, 255, 255, 255, 255})
	eth.EthernetType = layers.EthernetTypeARP
	return serialize(eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: uint16(pick(d, 1, 1, 1, 2)), SourceHwAddress: port.MAC[:], SourceProtAddress: sender.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: target.AsSlice(),
	})
}

// tunnelled puts a frame into a tunnel, mostly from where its source is.
func (d draw) tunnelled(w told, port Port, src netip.Addr, frame []byte) []byte {
	from := pick(d, append(drawnNodes, netip.MustParseAddr("172.31.0.99"))...)
	vrf := port.VRF
	if hop, _, found := w.route(vrf, src); found && hop.Kind == Tunnel && d.IntN(6) > 0 {
		from = hop.Remote
	} else if hop, _, found := w.route(9, src); found && hop.Kind == Tunnel && d.IntN(2) > 0 {
		from = hop.Remote
	}
	label := port.Label
	if d.IntN(8) == 0 {
		label = uint32(1000 + d.IntN(8))
	}
	to := localIP
	if d.IntN(30) == 0 {
		to = otherIP
	}
	switch d.IntN(4) {
	case 0:
		return byGRE(from, to, label, frame)
	case 1:
		if d.IntN(8) == 0 {
			vrf = uint32(6 + d.IntN(5))
		}
		return byVXLAN(from, to, vniOf(vrf), 50000, between(MAC{2, 9, 9, 9, 9, 9}, pick(d, port.MAC, RouterMAC(), mac2), frame))
	}
	return tunnelled(from, to, label, 50000, frame)
}

// mangled is a frame with what no sane sender sends: a changed byte of a header,
// too short, or too long. A test run takes no IPv4 frame below 34 bytes.
func (d draw) mangled(frame []byte) []byte {
	frame = slices.Clone(frame)
	for range 1 + d.IntN(2) {
		switch d.IntN(6) {
		case 0:
			frame = frame[:max(shortest, d.IntN(len(frame)+1))]
		case 1:
			frame = append(frame, make([]byte, d.IntN(40))...)
		default:
			at := d.IntN(min(len(frame), 100))
			frame[at] = pick(d, frame[at]^1<<d.IntN(8), byte(d.IntN(256)), 0, 0xff)
		}
	}
	return padded(frame)
}

// padded is a frame that the kernel takes for a test run.
func padded(frame []byte) []byte {
	least := shortest
	if len(frame) > 13 && binary.BigEndian.Uint16(frame[12:]) == 0x86dd {
		least = 14 + 40
	}
	return append(frame, make([]byte, max(0, least-len(frame)))...)
}

// notHelping may be used inside a fuzz target, where the outer helper may not.
type notHelping struct{ testing.TB }

func (notHelping) Helper() {}

// FuzzNetFrames gives frames of the fuzzer's making to both: the seed makes the
// world, the first byte says where a frame comes in.
func FuzzNetFrames(f *testing.F) {
	x := newDiffer(notHelping{f})
	for seed := range uint64(4) {
		d := newDraw(seed)
		w := d.world(x.taps)
		var sent []talk
		for range 20 {
			in := d.input(w, x.taps, &sent)
			f.Add(seed, byte(in.tap), in.frame)
		}
	}
	var at *uint64
	f.Fuzz(func(t *testing.T, seed uint64, tap byte, frame []byte) {
		if len(frame) < shortest || len(frame) > 4000 {
			return
		}
		x.t = t
		if at == nil || *at != seed {
			at = &seed
			x.tell(newDraw(seed).world(x.taps))
		}
		if err := x.compare(input{int(tap) % 5, padded(frame)}); err != nil {
			t.Fatal(err)
		}
	})
}
