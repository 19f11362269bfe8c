//go:build net

package dataplane

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// tagged is a frame with a VLAN tag (IEEE 802.1Q).
func tagged(frame []byte, vlan byte) []byte {
	return slices.Concat(frame[:12], []byte{0x81, 0, 0, vlan}, frame[12:])
}

// send puts a frame on a device, past the programs.
func send(t testing.TB, ns *nstest.NS, device string, frame []byte) {
	t.Helper()
	ns.Must(func() error {
		index := ns.Link(device).Attrs().Index
		fd, err := packetSocket(index)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
	})
}

// TestNetTagged: the kernel hides VLAN tags from what looks at frames. What a
// container tags gets nowhere, as the tag would leave by the underlay with the
// tunnel's packet; and a VLAN that the underlay's device carries is not the
// underlay, whoever sends there.
func TestNetTagged(t *testing.T) {
	c := newCluster(t, 2)
	from, to := c.container(0, vrf, "10.32.0.3"), c.container(1, vrf, "10.32.0.4")
	c.connect()
	if err := from.ping(to.addr); err != nil {
		c.dump()
		t.Fatal(err)
	}
	received := func() uint64 {
		t.Helper()
		counters, err := to.node.dp.Counters(to.port.IfIndex)
		if err != nil {
			t.Fatal(err)
		}
		return counters.ToPackets
	}
	before := received()
	// goes sends a frame with and then without a tag, and tells whether both came.
	goes := func(tag byte, ns *nstest.NS, device string, frame []byte) (both bool) {
		t.Helper()
		send(t, ns, device, tagged(frame, tag))
		send(t, ns, device, frame)
		for deadline := time.Now().Add(patience); received() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				c.dump()
				t.Fatal("a frame without a tag does not arrive")
			}
		}
		came := received() - before
		before += came
		return came != 1
	}
	frame := udpFrame(from.port.MAC, from.addr, to.addr)
	if goes(5, from.NS, "eth0", frame) {
		t.Error("a frame that a container tagged was forwarded")
	}
	from.node.waitDrops(t, Drop{Reason: DropProtocol, IfIndex: from.port.IfIndex, Packets: 1})
	outer := func(src, dst netip.Addr) []byte {
		nicOf := MAC(to.node.Link("eth0").Attrs().HardwareAddr)
		return between(nic, nicOf, tunnelled(src, dst, to.port.Label, 50000, frame))
	}
	wire := outer(from.node.config.LocalIP, to.node.config.LocalIP)
	if goes(5, c.fabric, "n2", wire) {
		t.Error("a packet of a VLAN on the underlay's device was taken for one of the underlay")
	}
	// A tag that only has a priority is of no VLAN.
	send(t, c.fabric, "n2", tagged(wire, 0))
	for deadline := time.Now().Add(patience); received() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a frame with a priority is not taken")
		}
	}
}
