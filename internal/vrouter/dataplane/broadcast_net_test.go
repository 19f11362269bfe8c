//go:build net

package dataplane

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bridges gives all nodes what layer 2 of a network is.
func (c *cluster) bridges(vrf uint32, bridge Bridge) {
	c.t.Helper()
	for _, n := range c.nodes {
		var remotes []Remote
		macs := map[MACKey]NextHop{}
		for _, k := range c.all {
			if k.port.VRF != vrf {
				continue
			}
			nh := NextHop{Kind: Local, Label: k.port.Label}
			if k.node != n {
				nh = NextHop{Kind: Tunnel, Remote: k.node.config.LocalIP, Encapsulation: VXLAN, VNI: vniOf(vrf)}
				remotes = append(remotes, Remote{nh.Remote, nh.VNI})
			}
			macs[MACKey{vrf, k.port.MAC}] = nh
		}
		b := bridge
		b.Remotes, _ = ListRemotes(remotes)
		if err := errors.Join(n.dp.PutBridge(vrf, b), n.dp.PutMACs(macs)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// takes captures what comes to a container.
func (k *container) takes(t *testing.T) *taker {
	t.Helper()
	s := &taker{sniff(t, k.NS, "eth0"), k.Name()}
	if conn, err := s.file.SyscallConn(); err != nil {
		t.Fatal(err)
	} else if err := conn.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// texts are those of the frames of the experiments' protocol.
func texts(frames [][]byte) (list []string) {
	for _, f := range frames {
		if len(f) > 14 && f[12] == someEthertype>>8 && f[13] == someEthertype&0xff {
			list = append(list, strings.TrimRight(string(f[14:]), "\x00"))
		}
	}
	return list
}

// TestNetBroadcastBetweenNodes: each container of a network gets what one sends to
// all, once; nobody else does.
func TestNetBroadcastBetweenNodes(t *testing.T) {
	for mode, bridge := range map[string]Bridge{"l2": {}, "l2_l3": {Routes: true}} {
		t.Run(mode, func(t *testing.T) {
			c := newCluster(t, 3)
			c.encapsulation = VXLAN
			sender := c.container(0, 1, "10.32.0.3")
			others := []*container{c.container(0, 1, "10.32.0.4"), c.container(1, 1, "10.32.0.5"), c.container(1, 1, "10.32.0.6"), c.container(2, 1, "10.32.0.7")}
			stranger := c.container(1, 2, "10.32.0.5")
			c.connect()
			c.bridges(1, bridge)
			c.bridges(2, bridge)
			var takers []*taker
			for _, k := range others {
				takers = append(takers, k.takes(t))
			}
			back, apart := sender.takes(t), stranger.takes(t)
			var sent []string
			var frames [][]byte
			for i := range 20 {
				sent = append(sent, fmt.Sprintf("broadcast %d", i))
				frames = append(frames, rawFrame(sender.port.MAC, everybody, sent[i]))
			}
			frames = append(frames, rawFrame(sender.port.MAC, everybody, "end"))
			if err := sender.inject(frames...); err != nil {
				t.Fatal(err)
			}
			for _, k := range takers {
				if got := texts(k.until(t, "end")); !slices.Equal(got, sent) {
					t.Errorf("%s got %q", k.name, got)
				}
			}
			// A datagram of a program, to programs.
			broadcast := &net.UDPAddr{IP: net.IPv4bcast, Port: 7777}
			var listeners []*net.UDPConn
			for _, k := range others {
				k.Must(func() error {
					conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: broadcast.Port})
					listeners = append(listeners, conn)
					return err
				})
			}
			sender.Must(func() error {
				conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: sender.addr.AsSlice()})
				if err != nil {
					return err
				}
				defer conn.Close()
				if _, err := sender.Run("ip", "route", "add", "255.255.255.255", "dev", "eth0"); err != nil {
					return err
				}
				_, err = conn.WriteToUDP([]byte("to all"), broadcast)
				return err
			})
			for i, l := range listeners {
				l.SetReadDeadline(time.Now().Add(patience))
				buf := make([]byte, 100)
				n, from, err := l.ReadFromUDP(buf)
				l.Close()
				if err != nil || string(buf[:n]) != "to all" || from.AddrPort().Addr().Unmap() != sender.addr {
					t.Errorf("%s got %q from %v, %v", others[i].Name(), buf[:n], from, err)
				}
			}
			// A frame for one, after which nothing of all this can come any more.
			for i, k := range others {
				if err := sender.inject(rawFrame(sender.port.MAC, k.port.MAC, "for one")); err != nil {
					t.Fatal(err)
				}
				if got := texts(takers[i].until(t, "for one")); len(got) != 0 {
					t.Errorf("%s got more: %q", k.Name(), got)
				}
			}
			for _, k := range others {
				if err := k.inject(rawFrame(k.port.MAC, sender.port.MAC, "over from "+k.Name())); err != nil {
					t.Fatal(err)
				}
				if got := texts(back.until(t, "over from "+k.Name())); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "broadcast") }) {
					t.Errorf("what was sent came back: %q", got)
				}
			}
			stranger.node.Run("true")
			peer := c.container(2, 2, "10.32.0.8")
			c.bridges(2, bridge)
			if err := peer.inject(rawFrame(peer.port.MAC, stranger.port.MAC, "of this network")); err != nil {
				t.Fatal(err)
			}
			if got := apart.until(t, "of this network"); len(got) != 0 {
				t.Errorf("another network got %q", got)
			}
			// All kinds of traffic between them, by ARP that is answered or flooded.
			for _, k := range others[:3] {
				k.serve(t)
				if err := errors.Join(sender.ping(k.addr), sender.tcp(k.addr, 16<<20), sender.udp(k.addr, 1400), sender.udp(k.addr, 8000)); err != nil {
					t.Error(err)
				}
				out, err := sender.Run("ip", "neigh", "show", k.addr.String())
				want := map[string]string{"l2": k.port.MAC.String(), "l2_l3": RouterMAC().String()}[mode]
				if err != nil || !strings.Contains(out, want) {
					t.Errorf("the sender knows %q for %s, want %s", out, k.addr, want)
				}
			}
			if t.Failed() {
				c.dump()
			}
		})
	}
}
