//go:build net

package dataplane

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

const overhead = 32 // MPLSoUDP over IPv4

// vniOf is the VXLAN network identifier of a VRF.
func vniOf(vrf uint32) uint32 { return 5000 + vrf }

// cluster is a fabric with nodes and the containers on them.
type cluster struct {
	t      *testing.T
	fabric *nstest.NS
	bpffs  string
	nodes  []*testNode
	all    []*container
	// encapsulation of all tunnels.
	encapsulation Encapsulation
}

type testNode struct {
	*nstest.NS
	config Config
	dp     *Dataplane
}

type container struct {
	*nstest.NS
	cluster *cluster
	node    *testNode
	port    Port
	addr    netip.Addr
}

func newCluster(t *testing.T, nodes int, change ...func(*Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, fabric: nstest.New(t, "fabric"), bpffs: nstest.BPFFS(t)}
	c.fabric.Bridge("br0")
	for i := range nodes {
		n := &testNode{NS: nstest.New(t, fmt.Sprintf("node-%d", i+1))}
		n.config = Config{
			PinDir:   filepath.Join(c.bpffs, n.Name()),
			Underlay: "eth0", LocalIP: netip.AddrFrom4([4]byte{172, 31, 0, byte(11 + i)}),
			FlowEntries: 8192, MaxPorts: 64,
		}
		for _, f := range change {
			f(&n.config)
		}
		port := fmt.Sprintf("n%d", i+1)
		nstest.Veth(t, n.NS, "eth0", c.fabric, port)
		c.fabric.Enslave(port, "br0")
		n.Up("eth0", netip.PrefixFrom(n.config.LocalIP, 24))
		n.open(t)
		t.Cleanup(func() { n.dp.Close() })
		c.nodes = append(c.nodes, n)
	}
	return c
}

func (n *testNode) open(t *testing.T) {
	t.Helper()
	n.Must(func() (err error) {
		n.dp, err = Open(discardLog(), n.config)
		return err
	})
}

// container starts one on a node and plugs it.
func (c *cluster) container(node int, vrf uint32, addr string, more ...string) *container {
	c.t.Helper()
	n := c.nodes[node]
	number := len(c.all) + 1
	k := &container{NS: nstest.New(c.t, fmt.Sprintf("container-%d", number)), cluster: c, node: n, addr: netip.MustParseAddr(addr)}
	k.DisableIPv6()
	tap := fmt.Sprintf("tap%d", number)
	nstest.Veth(c.t, k.NS, "eth0", n.NS, tap)
	k.MTU("eth0", 1500-c.overhead())
	k.Up("eth0", netip.PrefixFrom(k.addr, 8))
	k.port = Port{
		IfIndex: n.Link(tap).Attrs().Index, Name: tap, VRF: vrf, Label: uint32(1000 + number),
		MAC: MAC(k.Link("eth0").Attrs().HardwareAddr), Addresses: []netip.Addr{k.addr},
	}
	for _, a := range more {
		k.port.Addresses = append(k.port.Addresses, netip.MustParseAddr(a))
	}
	n.Must(func() error {
		return errors.Join(n.dp.PutPort(k.port), n.dp.PutPolicies(openTo(k.port), nil), n.dp.PutVNI(vniOf(vrf), vrf))
	})
	c.all = append(c.all, k)
	return k
}

// connect gives all nodes the routes to all containers, by VRF.
func (c *cluster) connect() {
	c.t.Helper()
	for _, n := range c.nodes {
		routes := map[RouteKey]NextHop{}
		for _, k := range c.all {
			routes[host(k.port.VRF, k.addr)] = k.nextHop(n)
		}
		if err := n.dp.PutRoutes(routes); err != nil {
			c.t.Fatal(err)
		}
	}
}

// nextHop is the way to the container from a node.
func (k *container) nextHop(from *testNode) NextHop {
	if k.node == from {
		return NextHop{Kind: Local, Label: k.port.Label}
	}
	nh := NextHop{Kind: Tunnel, Remote: k.node.config.LocalIP, Encapsulation: k.cluster.encapsulation}
	if nh.Encapsulation == VXLAN {
		nh.VNI, nh.MAC = vniOf(k.port.VRF), k.port.MAC
	} else {
		nh.Label = k.port.Label
	}
	return nh
}

func (c *cluster) overhead() int {
	if c.encapsulation == VXLAN {
		return 50
	}
	return overhead
}

// dump logs what the nodes know, for failures.
func (c *cluster) dump() {
	for _, n := range c.nodes {
		ports, _ := n.dp.Ports()
		routes, _ := n.dp.Routes()
		drops, _ := n.dp.Drops()
		c.t.Logf("%s: ports %+v, routes %v, drops %v", n.Name(), ports, routes, drops)
		for f := range n.dp.Flows() {
			c.t.Logf("%s: flow %+v", n.Name(), f)
		}
	}
}

const patience = 30 * time.Second

// serve answers on TCP and UDP port 7 with what it gets (RFC 862).
func (k *container) serve(t *testing.T) {
	t.Helper()
	var listener *net.TCPListener
	var conn *net.UDPConn
	k.Must(func() (err error) {
		if listener, err = net.ListenTCP("tcp", &net.TCPAddr{IP: k.addr.AsSlice(), Port: 7}); err != nil {
			return err
		}
		conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: k.addr.AsSlice(), Port: 7})
		return err
	})
	conn.SetReadBuffer(4 << 20)
	t.Cleanup(func() {
		listener.Close()
		conn.Close()
	})
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
}

func (k *container) ping(to netip.Addr) error {
	_, err := k.Run("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", to.String())
	return err
}

// refused succeeds if nothing answers.
func (k *container) refused(to netip.Addr) error {
	if _, err := k.Run("ping", "-n", "-c", "2", "-i", "0.02", "-W", "0.2", to.String()); err == nil {
		return fmt.Errorf("%s reaches %s", k.Name(), to)
	}
	return nil
}

func (k *container) dialTCP(to netip.Addr) (conn *net.TCPConn, err error) {
	err = k.Do(func() error {
		// To an address the dialer dials on the calling thread.
		dialer := net.Dialer{Timeout: patience}
		c, err := dialer.Dial("tcp", netip.AddrPortFrom(to, 7).String())
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return err
	})
	return conn, err
}

// tcp sends size random bytes and compares what comes back.
func (k *container) tcp(to netip.Addr, size int) error {
	conn, err := k.dialTCP(to)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	sent := make([]byte, size)
	rand.Read(sent)
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		failed <- errors.Join(err, conn.CloseWrite())
	}()
	got, err := io.ReadAll(conn)
	if err := errors.Join(err, <-failed); err != nil {
		return fmt.Errorf("tcp to %s: %w", to, err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("tcp to %s: %d bytes came back changed, of %d", to, len(got), len(sent))
	}
	return nil
}

func (k *container) dialUDP(to netip.Addr) (*net.UDPConn, error) {
	var conn *net.UDPConn
	err := k.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: to.AsSlice(), Port: 7})
		return err
	})
	return conn, err
}

// udp sends one datagram and compares what comes back.
func (k *container) udp(to netip.Addr, size int) error {
	conn, err := k.dialUDP(to)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sent := make([]byte, size)
	rand.Read(sent)
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, size+1)
	n, err := conn.Read(got)
	if err != nil {
		return fmt.Errorf("udp of %d bytes to %s: %w", size, to, err)
	}
	if !bytes.Equal(got[:n], sent) {
		return fmt.Errorf("udp of %d bytes to %s: came back changed", size, to)
	}
	return nil
}

// sniffer captures what passes an interface.
type sniffer struct{ file *os.File }

func sniff(t *testing.T, ns *nstest.NS, device string) *sniffer {
	t.Helper()
	s := &sniffer{}
	ns.Must(func() error {
		fd, err := packetSocket(ns.Link(device).Attrs().Index)
		s.file = os.NewFile(uintptr(fd), "packets of "+device)
		return err
	})
	t.Cleanup(func() { s.file.Close() })
	return s
}

func packetSocket(ifindex int) (int, error) {
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// find reads until a frame matches.
func (s *sniffer) find(match func(gopacket.Packet) bool) error {
	s.file.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 70000)
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			return err
		}
		if match(gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default)) {
			return nil
		}
	}
}

// inject sends frames of the test's making.
func (k *container) inject(frames ...[]byte) error {
	return k.Do(func() error {
		index := k.Link("eth0").Attrs().Index
		fd, err := packetSocket(index)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				return err
			}
		}
		return nil
	})
}

// waitDropOf waits until something was dropped for the reason at the interface.
func (n *testNode) waitDropOf(t *testing.T, reason DropReason, ifindex int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		drops, err := n.dp.Drops()
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(drops, func(d Drop) bool { return d.Reason == reason && d.IfIndex == ifindex }) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("drops are %v, want some for %s at interface %d", drops, reason, ifindex)
			return
		}
	}
}

// waitDrops waits until the counts are there.
func (n *testNode) waitDrops(t *testing.T, want ...Drop) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		drops, err := n.dp.Drops()
		if err != nil {
			t.Fatal(err)
		}
		have := map[Drop]bool{}
		for _, d := range drops {
			d.Bytes = 0
			have[d] = true
		}
		missing := 0
		for _, d := range want {
			if !have[d] {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("drops are %v, want %v", drops, want)
			return
		}
		time.Sleep(5 * time.Millisecond) // between looks, not for order
	}
}
