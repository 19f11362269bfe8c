//go:build net

package dataplane

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// Verdicts of the programs (linux/pkt_cls.h).
const (
	tcNext     = 0xffffffff
	tcDrop     = 2
	tcRedirect = 7
)

var (
	localIP  = netip.MustParseAddr("172.31.0.11")
	remoteIP = netip.MustParseAddr("172.31.0.12")
	otherIP  = netip.MustParseAddr("172.31.0.13")

	addr1    = netip.MustParseAddr("10.32.0.3")
	addr1b   = netip.MustParseAddr("10.32.0.33")
	addr2    = netip.MustParseAddr("10.32.0.4")
	farAddr  = netip.MustParseAddr("10.32.0.5")
	farAddr2 = netip.MustParseAddr("10.32.0.6")

	mac1 = MAC{2, 0, 0, 0, 0, 1}
	mac2 = MAC{2, 0, 0, 0, 0, 2}
	nic  = MAC{2, 0, 0, 0, 1, 0}
)

const (
	vrf       = 7
	label1    = 1001
	label2    = 1002
	farLabel  = 2005
	farLabel2 = 2006
)

// bench is a node without containers: the programs are run on packets made by
// the test.
type bench struct {
	t      testing.TB
	ns     *nstest.NS
	config Config
	dp     *Dataplane
	eth0   int
	port1  Port
	port2  Port
}

func discardLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newBench makes a node with two ports in one VRF, and routes to them and to
// two addresses on a remote node.
func newBench(t testing.TB, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, ns: nstest.New(t, "node")}
	b.eth0 = b.ns.Dummy("eth0").Attrs().Index
	b.ns.Up("eth0", netip.PrefixFrom(localIP, 24))
	b.config = Config{
		PinDir: filepath.Join(nstest.BPFFS(t), "contrail", "node"), Underlay: "eth0", LocalIP: localIP,
		FlowEntries: 1024, MaxPorts: 64,
		PortUnanswered: 1024, // most tests answer nothing
	}
	for _, f := range change {
		f(&b.config)
	}
	b.open()
	t.Cleanup(func() { b.dp.Close() })
	b.port1 = Port{
		IfIndex: b.ns.Dummy("tap1").Attrs().Index, Name: "tap1", VRF: vrf, Label: label1, MAC: mac1,
		Addresses: []netip.Addr{addr1, addr1b},
	}
	b.port2 = Port{
		IfIndex: b.ns.Dummy("tap2").Attrs().Index, Name: "tap2", VRF: vrf, Label: label2, MAC: mac2,
		Addresses: []netip.Addr{addr2},
	}
	b.putPort(b.port1)
	b.putPort(b.port2)
	b.must(b.dp.PutRoutes(map[RouteKey]NextHop{
		host(vrf, addr1):    {Kind: Local, Label: label1},
		host(vrf, addr1b):   {Kind: Local, Label: label1},
		host(vrf, addr2):    {Kind: Local, Label: label2},
		host(vrf, farAddr):  {Kind: Tunnel, Remote: remoteIP, Label: farLabel},
		host(vrf, farAddr2): {Kind: Tunnel, Remote: remoteIP, Label: farLabel2},
	}))
	return b
}

func (b *bench) open() {
	b.t.Helper()
	b.ns.Must(func() (err error) {
		b.dp, err = Open(discardLog(), b.config)
		return err
	})
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// putPort plugs a port that policy asks nothing of.
func (b *bench) putPort(p Port) {
	b.t.Helper()
	b.ns.Must(func() error { return errors.Join(b.dp.PutPort(p), b.dp.PutPolicies(openTo(p), nil)) })
}

// openTo is the policy of a port without any rule.
func openTo(p Port) map[int]Policy {
	return map[int]Policy{p.IfIndex: {Identity: NewIdentity(p.VRF, nil, nil)}}
}

func host(vrf uint32, a netip.Addr) RouteKey {
	return RouteKey{VRF: vrf, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// skBuff is the part of struct __sk_buff that a test run takes.
type skBuff struct {
	_              [36]byte
	IngressIfIndex uint32
	IfIndex        uint32
	_              [120]byte
	GSOSegs        uint32
	_              [8]byte
	GSOSize        uint32
	_              [12]byte
}

// run passes a frame through a program as if it came in by the interface.
func (b *bench) run(prog *ebpf.Program, ifindex int, frame []byte) (uint32, []byte) {
	b.t.Helper()
	return b.runAs(prog, skBuff{IfIndex: uint32(ifindex)}, frame)
}

func (b *bench) runAs(prog *ebpf.Program, skb skBuff, frame []byte) (uint32, []byte) {
	b.t.Helper()
	out := make([]byte, len(frame)+256)
	options := &ebpf.RunOptions{Data: frame, DataOut: out, Context: &skb}
	var verdict uint32
	b.ns.Must(func() (err error) {
		verdict, err = prog.Run(options)
		return err
	})
	return verdict, options.DataOut
}

// fromPort passes a frame of the container of the port through vif_rx.
func (b *bench) fromPort(p Port, frame []byte) (uint32, []byte) {
	b.t.Helper()
	return b.run(b.dp.objects.VifRx, p.IfIndex, frame)
}

// fromWire passes a frame of the underlay through underlay_rx.
func (b *bench) fromWire(frame []byte) (uint32, []byte) {
	b.t.Helper()
	return b.run(b.dp.objects.UnderlayRx, b.eth0, frame)
}

// dropped returns how many packets were dropped, by reason and interface.
func (b *bench) dropped() map[Drop]bool {
	b.t.Helper()
	drops, err := b.dp.Drops()
	b.must(err)
	all := map[Drop]bool{}
	for _, d := range drops {
		d.Bytes = 0
		all[d] = true
	}
	return all
}

// wantDrop checks that the last packet was dropped and is all that was counted,
// and forgets the count.
func (b *bench) wantDrop(verdict uint32, reason DropReason, ifindex int) {
	b.t.Helper()
	if verdict != tcDrop {
		b.t.Errorf("verdict is %d, want a drop for %s", verdict, reason)
	}
	want := Drop{Reason: reason, IfIndex: ifindex, Packets: 1}
	got := b.dropped()
	if len(got) != 1 || !got[want] {
		b.t.Errorf("drops are %v, want one for %s at interface %d", got, reason, ifindex)
	}
	b.forgetDrops()
}

func (b *bench) forgetDrops() {
	b.t.Helper()
	for d := range b.dropped() {
		b.must(b.dp.maps().DropV1.Delete(bpfDropKey{Reason: uint32(d.Reason), Ifindex: uint32(d.IfIndex)}))
	}
}

func (b *bench) flows() []Flow {
	b.t.Helper()
	var all []Flow
	for f, err := range b.dp.Flows() {
		b.must(err)
		all = append(all, f)
	}
	return all
}

// Building packets.

func hw(m MAC) net.HardwareAddr { return m[:] }

func serialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, ls...); err != nil {
		panic(err) // a mistake in the test
	}
	return buf.Bytes()
}

func ethernet(src, dst MAC) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: hw(src), DstMAC: hw(dst), EthernetType: layers.EthernetTypeIPv4}
}

func ipv4(src, dst netip.Addr, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Id: 77, Protocol: proto,
		SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
	}
}

func udp(ip *layers.IPv4, src, dst int) *layers.UDP {
	u := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	u.SetNetworkLayerForChecksum(ip)
	return u
}

var payload = gopacket.Payload("a few bytes of payload")

// udpFrame is what a container sends by the router.
func udpFrame(from MAC, src, dst netip.Addr, change ...func(*layers.IPv4)) []byte {
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	for _, f := range change {
		f(ip)
	}
	return serialize(ethernet(from, RouterMAC()), ip, udp(ip, 1000, 53), payload)
}

// tunnelled is the MPLSoUDP frame around a frame of a container.
func tunnelled(src, dst netip.Addr, label uint32, sport uint16, frame []byte, change ...func(*layers.IPv4)) []byte {
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	ip.Id, ip.Flags = 0, layers.IPv4DontFragment
	for _, f := range change {
		f(ip)
	}
	stack := binary.BigEndian.AppendUint32(nil, label<<12|1<<8|64)
	inner := append(stack, frame[14:]...)
	out := serialize(ethernet(nic, nic), ip, udp(ip, int(sport), 6635), gopacket.Payload(inner))
	// Over IPv4 the outer UDP checksum is 0 (RFC 7510 section 3).
	out[14+20+6], out[14+20+7] = 0, 0
	return out
}

// byGRE is the MPLSoGRE frame around a frame of a container.
func byGRE(src, dst netip.Addr, label uint32, frame []byte) []byte {
	ip := ipv4(src, dst, layers.IPProtocolGRE)
	ip.Id, ip.Flags = 0, layers.IPv4DontFragment
	head := binary.BigEndian.AppendUint32([]byte{0, 0, 0x88, 0x47}, label<<12|1<<8|64)
	return serialize(ethernet(nic, nic), ip, gopacket.Payload(append(head, frame[14:]...)))
}

// byVXLAN is the VXLAN frame around a whole frame.
func byVXLAN(src, dst netip.Addr, vni uint32, sport uint16, frame []byte) []byte {
	ip := ipv4(src, dst, layers.IPProtocolUDP)
	ip.Id, ip.Flags = 0, layers.IPv4DontFragment
	head := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	out := serialize(ethernet(nic, nic), ip, udp(ip, int(sport), 4789), gopacket.Payload(append(head, frame...)))
	out[14+20+6], out[14+20+7] = 0, 0
	return out
}

// between is the frame with other MACs.
func between(src, dst MAC, frame []byte) []byte {
	return slices.Concat(dst[:], src[:], frame[12:])
}

// routed is what a router makes of a frame: new MACs, TTL less one.
func routed(frame []byte, to MAC) []byte {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	eth.SrcMAC, eth.DstMAC = hw(RouterMAC()), hw(to)
	ip.TTL--
	// All behind the IP header stays as it is.
	return serialize(eth, ip, gopacket.Payload(ip.Payload))
}
