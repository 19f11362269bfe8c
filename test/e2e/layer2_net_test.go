//go:build net

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread that is in a network namespace, and ends with it.
func inNamespace(path string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// ethertype is one of those for experiments (IEEE 802).
var ethertype = []byte{0x88, 0xb5}

var toAll = net.HardwareAddr{255, 255, 255, 255, 255, 255}

// party is an interface that sends frames and takes what comes.
type party struct {
	name, path string
	mac        net.HardwareAddr
	file       *os.File
	index      int
}

func newParty(t *testing.T, name, path, mac string) *party {
	t.Helper()
	p := &party{name: name, path: path}
	var err error
	if p.mac, err = net.ParseMAC(mac); err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	err = inNamespace(path, func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		p.index = device.Index
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		p.file = os.NewFile(uintptr(fd), "eth0 of "+name)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: p.index})
	})
	if err != nil {
		t.Fatalf("open eth0 of %s: %v", name, err)
	}
	t.Cleanup(func() { p.file.Close() })
	return p
}

func (p *party) send(t *testing.T, to net.HardwareAddr, text string) {
	t.Helper()
	frame := slices.Concat(to, p.mac, ethertype, []byte(text))
	if _, err := p.file.Write(frame); err != nil {
		t.Fatalf("send from %s: %v", p.name, err)
	}
}

// sendDatagram has the kernel send a broadcast.
func (p *party) sendDatagram(t *testing.T, text string) {
	t.Helper()
	err := inNamespace(p.path, func() error {
		conn, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteToUDP([]byte(text), &net.UDPAddr{IP: net.IPv4bcast, Port: 7777})
		return err
	})
	if err != nil {
		t.Fatalf("broadcast from %s: %v", p.name, err)
	}
}

// until are the texts of frames and datagrams of the test up to one.
func (p *party) until(t *testing.T, end string) (texts []string) {
	t.Helper()
	p.file.SetReadDeadline(time.Now().Add(recovery))
	buf := make([]byte, 70000)
	for {
		n, err := p.file.Read(buf)
		if err != nil {
			t.Fatalf("%s got %q and then %v, want %q", p.name, texts, err, end)
		}
		text := ""
		switch {
		case n > 42 && bytes.Equal(buf[12:14], []byte{8, 0}) && bytes.Equal(buf[36:38], []byte{7777 >> 8, 7777 & 0xff}):
			text = string(buf[42:n])
		case n > 14 && bytes.Equal(buf[12:14], ethertype):
			text = string(buf[14:n])
		default:
			continue
		}
		if text = strings.TrimRight(text, "\x00"); text == end {
			return texts
		}
		texts = append(texts, text)
	}
}

// layer2: what one sends to all of a network gets to each task on any node and to
// the host behind FRR, once, whoever sends; and where the network only bridges,
// all reach each other by MACs.
func (c *cluster) layer2(t *testing.T, frr *frrVTEP, network string, one, two, other task) {
	c.post(t, app("/vtep/three", "stretched", 1, c.On(1)))
	three := c.running(t, "/vtep/three", 1)[0]
	defer c.destroy(t, "/vtep/three")
	frr.knows(t, c.macOf(t, three.Address()), "172.31.0.11")
	open := func(k task) *party { return newParty(t, k.ID, c.namespaceOf(t, k), c.macOf(t, k.Address())) }
	tasks := []*party{open(one), open(two), open(three)}
	host := newParty(t, "the host", frr.host.Path(), frr.mac)
	if _, err := frr.host.Run("ip", "route", "add", "255.255.255.255", "dev", "eth0"); err != nil {
		t.Fatal(err)
	}
	stranger := open(other)
	all := append(slices.Clone(tasks), host)

	// Until the last has got the first, lists may be on their way.
	eventually(t, recovery, "all get broadcasts", func() error {
		for _, p := range all {
			p.send(t, toAll, "first of "+p.name)
		}
		for _, p := range all {
			seen := map[string]bool{}
			p.file.SetReadDeadline(time.Now().Add(2 * time.Second))
			buf := make([]byte, 70000)
			for len(seen) < len(all)-1 {
				n, err := p.file.Read(buf)
				if err != nil {
					return fmt.Errorf("%s has only got those of %v", p.name, seen)
				}
				if text, is := strings.CutPrefix(strings.TrimRight(string(buf[14:max(n, 14)]), "\x00"), "first of "); is && bytes.Equal(buf[12:14], ethertype) {
					seen[text] = true
				}
			}
		}
		return nil
	})
	for _, sender := range all {
		var want []string
		sender.send(t, toAll, "begin "+sender.name)
		for i := range 10 {
			want = append(want, fmt.Sprintf("frame %d of %s", i, sender.name))
			sender.send(t, toAll, want[i])
		}
		want = append(want, "datagram of "+sender.name)
		sender.sendDatagram(t, want[10])
		sender.send(t, toAll, "end "+sender.name)
		for _, p := range all {
			if p == sender {
				continue
			}
			p.until(t, "begin "+sender.name)
			if got := p.until(t, "end "+sender.name); !slices.Equal(got, want) {
				t.Errorf("%s got %q, want %q", p.name, got, want)
			}
		}
	}
	// What is for one gets to that one, also after all that was for many.
	for i, p := range all {
		from := all[(i+1)%len(all)]
		from.send(t, p.mac, "for "+p.name)
		if got := p.until(t, "for "+p.name); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, p.name) }) {
			t.Errorf("%s got back what it had sent: %q", p.name, got)
		}
	}
	stranger.send(t, tasks[0].mac, "from another network")
	tasks[1].send(t, tasks[0].mac, "over")
	if got := tasks[0].until(t, "over"); len(got) != 0 {
		t.Errorf("a task got %q", got)
	}
	stranger.file.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := stranger.file.Read(make([]byte, 2000)); err == nil && n > 0 {
		t.Errorf("a task of another network got %d bytes", n)
	}

	mode := func(mode string) {
		c.api(t, "PUT", "/virtual-network/"+network, map[string]any{"virtual-network": map[string]any{
			"virtual_network_properties": map[string]any{"forwarding_mode": mode},
		}}, nil)
	}
	t.Cleanup(func() { mode("l2_l3") })
	mode("l2")
	forget := func() {
		for _, k := range []task{one, two, three} {
			c.inNamespaceOf(t, k, "ip", "neigh", "flush", "dev", "eth0")
		}
	}
	eventually(t, recovery, "tasks ask each other by ARP", func() error {
		forget()
		return c.check(t, one, two.Address(), "icmp", "1s")
	})
	forget()
	for _, to := range []string{two.Address(), three.Address()} {
		c.reaches(t, one, to)
	}
	for _, k := range []task{one, two} {
		if err := c.check(t, k, frr.address.String(), "icmp", "10s"); err != nil {
			t.Errorf("the task does not reach the host by MAC: %v", err)
		}
	}
	out, err := frr.host.Run("ping", "-n", "-c", "1", "-W", "5", two.Address())
	if err != nil || !strings.Contains(out, "ttl=64") {
		t.Errorf("the host does not reach the task past all routers: %v: %s", err, out)
	}
	mode("l2_l3")
	eventually(t, recovery, "nodes answer ARP again", func() error {
		forget()
		return c.check(t, one, two.Address(), "icmp", "1s")
	})
	forget()
}
