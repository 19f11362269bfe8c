//go:build net

package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// wants6 is wants for IPv6.
func (b *bench) wants6(c connection, reason DropReason) {
	b.t.Helper()
	var verdict uint32
	if c.src.addr == one6 {
		verdict, _ = b.fromPort(b.port1, frameOf6(mac1, c))
	} else {
		verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, frameOf6(mac2, c)))
	}
	if reason != 0 {
		b.wantDrop(verdict, reason, b.port1.IfIndex)
	} else if verdict != tcRedirect {
		b.t.Errorf("%+v: verdict %d, drops %v, want it to pass", c, verdict, b.dropped())
		b.forgetDrops()
	}
}

var webTCP6 = connection{src: end{addr: far6}, dst: end{addr: one6}, protocol: 6, sport: 1000, dport: 80}

// What answers passes, and what would begin in the same direction does not.
func TestNetAnswersPassOfIPv6(t *testing.T) {
	b := newBench6(t)
	web := Policy{Identity: member}
	web.Sets[Arriving], web.Sets[Leaving] = toWeb.ID, nothing.ID
	b.putPolicy(b.port1, web, toWeb, nothing)
	b.wants6(webTCP6.answer(), DropPolicyGroup)
	b.wants6(webTCP6, 0)
	b.wants6(webTCP6.answer(), 0)
	b.wants6(webTCP6, 0)
	other := webTCP6
	other.sport++
	b.wants6(other.answer(), DropPolicyGroup)
	b.wants(webTCP, 0) // the rule is for both families

	// An echo's reply is one that has its identifier.
	ping := connection{src: end{addr: far6}, dst: end{addr: one6}, protocol: 58, sport: 128}
	pong := connection{src: end{addr: one6}, dst: end{addr: far6}, protocol: 58, sport: 129}
	echo := someSet("echo6", allow(58, 0, anyone, anyone))
	web.Sets[Arriving] = echo.ID
	b.putPolicy(b.port1, web, echo, nothing)
	b.wants6(pong, DropPolicyGroup)
	b.wants6(ping, 0)
	b.wants6(pong, 0)
	back := ping
	back.src, back.dst = ping.dst, ping.src
	b.wants6(back, DropPolicyGroup)
	now, err := Now()
	b.must(err)
	live := 0
	for range 2 { // an answer that is waited for goes when there is no question
		_, live, err = b.dp.SweepFlows(now+DefaultAges().Unanswered*2, DefaultAges())
		b.must(err)
	}
	if live != 4 {
		t.Errorf("%d flows are left, want the four that answer each other: %+v", live, b.flows())
	}
	// A rule of one family is none of the other.
	rule := allow(AnyProtocol, 0, anyone, anyone)
	rule.DstPorts = []PortRange{AllPorts}
	rule.Family = 4
	four := someSet("four", rule)
	rule.Family = 6
	six := someSet("six", rule)
	fresh, fresh4 := webTCP6, webTCP
	fresh.sport, fresh4.sport = 2000, 2000
	web.Sets[Arriving] = four.ID
	b.putPolicy(b.port1, web, four, nothing)
	b.wants6(fresh, DropPolicyGroup)
	b.wants(fresh4, 0)
	web.Sets[Arriving] = six.ID
	b.putPolicy(b.port1, web, six, nothing)
	b.wants(fresh4, DropPolicyGroup)
	b.wants6(fresh, 0)
}

// Who has no policy is closed.
func TestNetIPv6PortWithoutPolicy(t *testing.T) {
	b := newBench6(t)
	b.wants6(webTCP6, 0)
	b.must(b.dp.DeletePolicy(b.port1.IfIndex))
	b.wants6(webTCP6, 0)
	other := webTCP6
	other.sport++
	b.wants6(other, DropPolicyPending)
	verdict, _ := b.fromPort(b.port2, udpFrame6(mac2, two6, one6))
	b.wantDrop(verdict, DropPolicyPending, b.port2.IfIndex)
}

// An ICMPv6 error passes if it is about what passed, and makes no way for others.
func TestNetPolicyOfIPv6Errors(t *testing.T) {
	b := newBench6(t)
	policy := Policy{Identity: member}
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy.Sets[Leaving], policy.Sets[Arriving] = dns.ID, nothing.ID
	b.putPolicy(b.port1, policy, dns, nothing)
	out := udpFrame6(mac1, one6, far6)
	about := func(frame []byte, typ uint8) []byte {
		// A router on the way says it.
		ip := ipv6(far6b, one6, layers.IPProtocolICMPv6)
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
		icmp.SetNetworkLayerForChecksum(ip)
		inner := serialize(ethernet6(mac2, RouterMAC()), ip, icmp, gopacket.Payload(append(make([]byte, 4), frame[14:]...)))
		return tunnelled(remoteIP, localIP, label1, 50000, inner)
	}
	refused := func(frame []byte) {
		t.Helper()
		verdict, _ := b.fromWire(frame)
		b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
	}
	refused(about(out, 2))
	verdict, _ := b.fromPort(b.port1, out)
	wantVerdict(t, verdict, tcRedirect)
	for _, typ := range []uint8{1, 2, 3, 4} {
		verdict, _ = b.fromWire(about(out, typ))
		wantVerdict(t, verdict, tcRedirect)
	}
	// Cut off behind the ports, and with headers in between.
	verdict, _ = b.fromWire(about(out[:14+48], 2))
	wantVerdict(t, verdict, tcRedirect)
	long := append(append(append([]byte{}, out[:14+40]...), 17, 0, 1, 4, 0, 0, 0, 0), out[14+40:]...)
	long[14+6] = 60
	binary.BigEndian.PutUint16(long[14+4:], uint16(len(long)-14-40))
	verdict, _ = b.fromWire(about(long, 2))
	wantVerdict(t, verdict, tcRedirect)
	refused(about(udpFrame6(mac1, one6, far6b), 1))   // of another flow
	refused(about(udpFrame6(mac1, one6b, far6), 1))   // not of the receiver's
	refused(about(udpFrame(mac1, addr1, farAddr), 1)) // of another family
	refused(about(out, 5))                            // is no error
	refused(about(out[:14+47], 1))
	if flows := b.flows(); len(flows) != 1 {
		t.Errorf("flows are %+v, want that of the datagram", flows)
	}
}

// fragmentOf puts a fragment header in front of what is behind the IP header.
func fragmentOf(from MAC, src, dst netip.Addr, next uint8, offset int, more bool, id uint32, body []byte) []byte {
	word := uint16(offset)
	if more {
		word |= 1
	}
	head := binary.BigEndian.AppendUint16([]byte{next, 0}, word)
	return raw6(from, src, dst, 44, append(binary.BigEndian.AppendUint32(head, id), body...))
}

// Fragments follow the first one; without it nobody knows what they are.
func TestNetPolicyOfIPv6Fragments(t *testing.T) {
	b := newBench6(t)
	policy := Policy{Identity: member}
	dns := someSet("dns", allow(17, 53, anyone, anyone))
	policy.Sets[Leaving] = dns.ID
	b.putPolicy(b.port1, policy, dns)
	whole := udpFrame6(mac1, one6, far6)
	const id = 0xabcd1234
	first := fragmentOf(mac1, one6, far6, 17, 0, true, id, whole[54:])
	later := fragmentOf(mac1, one6, far6, 17, 80, false, id, payload)
	// Its number has 32 bits; and what it says it is of is not asked.
	others := [][]byte{
		fragmentOf(mac1, one6, far6, 17, 80, false, id&0xffff, payload),
		fragmentOf(mac1, one6, far6, 17, 80, false, id&^0xffff, payload),
	}
	lying := fragmentOf(mac1, one6, far6, 6, 80, false, id, payload)
	verdict, _ := b.fromPort(b.port1, later)
	b.wantDrop(verdict, DropFragment, b.port1.IfIndex)
	for _, frame := range [][]byte{first, later, lying} {
		verdict, _ := b.fromPort(b.port1, frame)
		wantVerdict(t, verdict, tcRedirect)
	}
	if flows := b.flows(); len(flows) != 1 || flows[0].Packets != 3 || flows[0].Protocol != 17 {
		t.Errorf("flows are %+v, want one of three fragments", flows)
	}
	for _, other := range others {
		verdict, _ = b.fromPort(b.port1, other)
		b.wantDrop(verdict, DropFragment, b.port1.IfIndex)
	}
	// One with all of the datagram is none.
	verdict, _ = b.fromPort(b.port1, fragmentOf(mac1, one6, far6, 17, 0, false, 5, whole[54:]))
	wantVerdict(t, verdict, tcRedirect)
	for name, frame := range map[string][]byte{
		"over the header":        fragmentOf(mac1, one6, far6, 17, 8, true, id, payload),
		"over the header's end":  fragmentOf(mac1, one6, far6, 17, 16, true, id, payload),
		"a fragment of one":      fragmentOf(mac1, one6, far6, 44, 0, true, id, append([]byte{17, 0, 0, 1, 0, 0, 0, 1}, whole[54:]...)),
		"the header not in one":  fragmentOf(mac1, one6, far6, 60, 0, true, id, []byte{17, 9, 0, 0, 0, 0, 0, 0}),
		"the ports not in one":   fragmentOf(mac1, one6, far6, 17, 0, true, id, whole[54:54+4]),
		"the header itself cut":  raw6(mac1, one6, far6, 44, []byte{17, 0, 0, 1}),
		"ICMPv4 in the first":    fragmentOf(mac1, one6, far6, 1, 0, true, id, whole[54:]),
		"hop by hop in a middle": fragmentOf(mac1, one6, far6, 0, 0, true, id, append([]byte{17, 0, 1, 4, 0, 0, 0, 0}, whole[54:]...)),
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			verdict, _ := b.fromPort(b.port1, frame)
			b.wantDrop(verdict, DropMalformed, b.port1.IfIndex)
		})
	}
	b.t = t
	policy.Sets[Leaving] = nothing.ID
	b.putPolicy(b.port1, policy, nothing)
	for _, frame := range [][]byte{first, later} {
		verdict, _ := b.fromPort(b.port1, frame)
		b.wantDrop(verdict, DropPolicyGroup, b.port1.IfIndex)
	}
	// From a tunnel, too; and nothing of them stays when the port goes.
	in := fragmentOf(mac2, far6, one6, 17, 0, true, 9, whole[54:])
	verdict, _ = b.fromWire(tunnelled(remoteIP, localIP, label1, 50000, in))
	wantVerdict(t, verdict, tcRedirect)
	b.ns.Must(func() error { return b.dp.DeletePort(b.port1.IfIndex) })
	left, err := entries[bpfFragment6Key, bpfFragment6](b.dp.maps().Fragment6V1, "fragments")
	if err != nil || len(left) != 0 {
		t.Errorf("fragments are left: %v, %v", left, err)
	}
	gateways, err := entries[uint32, bpfGateways](b.dp.maps().GatewayV1, "gateways")
	if err != nil || len(gateways) != 0 {
		t.Errorf("gateways are left: %v, %v", gateways, err)
	}
}

// walked is the model of how extension headers are walked through: the protocol
// and where it is, or why not.
func walked(next uint8, body []byte) (protocol uint8, at int, reason DropReason) {
	split, first := false, false
	for n := 0; ; n++ {
		size := 0
		switch next {
		case 0, 43, 60, 135, 139, 140:
			size = 8
		case 44, 51:
			size = 8
		default:
			return next, at, 0
		}
		if n == 6 {
			return 0, 0, DropExtensionHeader
		}
		if len(body) < at+size {
			return 0, 0, DropMalformed
		}
		h := body[at:]
		switch {
		case next == 0 && n > 0, next == 44 && split:
			return 0, 0, DropMalformed
		case next == 43 && h[3] != 0:
			return 0, 0, DropExtensionHeader
		case next == 51:
			size = (int(h[1]) + 2) * 4
		case next == 44:
			split, first = true, h[3]&1 != 0
			if offset := binary.BigEndian.Uint16(h[2:]) &^ 7; offset > 0 && offset < 24 {
				return 0, 0, DropMalformed
			} else if offset > 0 {
				return h[0], -1, 0
			}
		default:
			size = (int(h[1]) + 1) * 8
		}
		if len(body) < at+size {
			return 0, 0, DropMalformed
		}
		if first && next != 44 {
			return 0, 0, DropExtensionHeader // a later fragment could overwrite what is behind it
		}
		next, at = h[0], at+size
	}
}

// The programs find what is behind extension headers as the model does, whatever
// these are.
func TestNetExtensionHeaders(t *testing.T) {
	b := newBench6(t)
	seen := map[DropReason]int{}
	id := uint32(0)
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SampledFrom([]uint8{0, 43, 44, 51, 60, 135, 139, 140, 17, 17, 6, 47, 59, 253})
		first := kinds.Draw(t, "first")
		next := first
		var body []byte
		for range rapid.IntRange(0, 9).Draw(t, "headers") {
			units := rapid.SampledFrom([]int{0, 0, 1, 2, 31}).Draw(t, "units")
			after := kinds.Draw(t, "next")
			h := make([]byte, 8*(units+1))
			h[0], h[1] = after, uint8(units)
			switch next {
			case 44:
				h = h[:8]
				h[1] = 0
				h[3] = rapid.SampledFrom([]uint8{0, 0, 1, 8, 16, 24, 80}).Draw(t, "offset")
				id++ // none follows another
				binary.BigEndian.PutUint32(h[4:], id)
			case 43:
				h[3] = rapid.SampledFrom([]uint8{0, 0, 0, 1}).Draw(t, "left")
			case 51:
				h[1] = uint8(2*(units+1) - 2)
			}
			body, next = append(body, h...), after
		}
		end := len(body)
		body = append(body, 0x03, 0xe8, 0, 53, 0, 20, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0)
		if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
			body = body[:rapid.IntRange(0, len(body)).Draw(t, "length")]
		}
		protocol, at, reason := walked(first, body)
		if reason == 0 && at >= 0 && (protocol == 17 && len(body)-at < 8 || protocol == 6 && len(body)-at < 20) {
			reason = DropMalformed
		}
		verdict, _ := b.fromPort(b.port1, raw6(mac1, one6, far6, first, body))
		drops, flows := b.dropped(), slices.DeleteFunc(b.flows(), func(f Flow) bool { return f.Packets == 0 })
		seen[reason]++
		switch {
		case reason != 0:
			if verdict != tcDrop || !drops[Drop{Reason: reason, IfIndex: b.port1.IfIndex, Packets: 1}] {
				t.Fatalf("%d %x: verdict %d, drops %v, want one for %s", first, body, verdict, drops, reason)
			}
		case verdict != tcRedirect || len(flows) != 1 || flows[0].Protocol != protocol:
			t.Fatalf("%d %x: verdict %d, drops %v, flows %+v, want one of protocol %d", first, body, verdict, drops, flows, protocol)
		case at == end && (protocol == 17 || protocol == 6) && (flows[0].SrcPort != 1000 || flows[0].DstPort != 53):
			t.Fatalf("%d %x: flow is %+v, want ports 1000 and 53", first, body, flows[0])
		}
		b.forgetDrops()
		b.forgetFlows()
	})
	t.Logf("cases by reason: %v", seen)
}
