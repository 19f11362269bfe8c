package dataplane

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

// pair is the two ends of a case in one variant.
type pair struct{ client, server end }

// variant is one way to join containers: pairs by where they are.
type variant struct {
	name  string
	pairs map[string]pair
	// programs are those on the way of what the client sends across nodes; none
	// but ours has them.
	programs map[string]*ebpf.Program
}

const (
	fabricMTU   = 1500
	vxlanHeader = 50
	mplsHeader  = 32
)

func prefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 24) }

// host makes a namespace that load is made or received in.
func host(s *scope.Scope, name string) *nstest.NS {
	n := nstest.New(s, name)
	n.DisableIPv6()
	n.Must(func() error {
		for name, value := range map[string]string{
			// Connections by the ten thousand a second must not wait for ports.
			"tcp_max_tw_buckets":  "0",
			"ip_local_port_range": "1024 65535",
			"tcp_no_metrics_save": "1",
		} {
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
	return n
}

// veth is a pair of hosts joined directly: the limit.
func veth(s *scope.Scope) variant {
	a, b := host(s, "veth-a"), host(s, "veth-b")
	nstest.Veth(s, a, "eth0", b, "eth0")
	p := pair{end{a, netip.MustParseAddr("10.0.0.1")}, end{b, netip.MustParseAddr("10.0.0.2")}}
	a.Up("eth0", prefix(p.client.addr))
	b.Up("eth0", prefix(p.server.addr))
	// There is no place to speak of: it stands for both.
	return variant{name: "veth", pairs: map[string]pair{"cross": p, "same": p}}
}

// nodes makes two nodes joined by a veth, the underlay of all overlays.
func nodes(s *scope.Scope, name string) [2]*nstest.NS {
	n := [2]*nstest.NS{host(s, name+"-node-1"), host(s, name+"-node-2")}
	nstest.Veth(s, n[0], "eth0", n[1], "eth0")
	for i := range n {
		n[i].MTU("eth0", fabricMTU)
		n[i].Up("eth0", prefix(nodeAddr(i)))
	}
	return n
}

func nodeAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 31, 0, byte(11 + i)}) }

// containers are a and b on the first node and c on the second.
func containers(s *scope.Scope, name string, n [2]*nstest.NS, mtu int, plug func(node int, ns *nstest.NS, tap string, e end)) map[string]pair {
	var ends []end
	for i, node := range []int{0, 0, 1} {
		e := end{host(s, fmt.Sprintf("%s-container-%d", name, i+1)), netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}
		tap := "tap" + strconv.Itoa(i+1)
		nstest.Veth(s, e.ns, "eth0", n[node], tap)
		e.ns.MTU("eth0", mtu)
		n[node].MTU(tap, mtu)
		e.ns.Up("eth0", prefix(e.addr))
		plug(node, n[node], tap, e)
		ends = append(ends, e)
	}
	return map[string]pair{"cross": {ends[0], ends[2]}, "same": {ends[0], ends[1]}}
}

// bridgeVXLAN joins the containers of a node by a bridge and the bridges by a
// VXLAN device, as most overlays of the kernel do.
func bridgeVXLAN(s *scope.Scope) variant {
	n := nodes(s, "vxlan")
	for i := range n {
		n[i].Bridge("br0")
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "vxlan0"
		attrs.MTU = fabricMTU - vxlanHeader
		s.Must(n[i].Links.LinkAdd(&netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: 42, Port: 4789, VtepDevIndex: n[i].Link("eth0").Attrs().Index,
			SrcAddr: nodeAddr(i).AsSlice(), Group: nodeAddr(1 - i).AsSlice(), Learning: true,
		}))
		n[i].Enslave("vxlan0", "br0")
	}
	pairs := containers(s, "vxlan", n, fabricMTU-vxlanHeader, func(_ int, ns *nstest.NS, tap string, _ end) {
		ns.Enslave(tap, "br0")
	})
	return variant{name: "bridge+vxlan", pairs: pairs}
}

// mplsOverUDP is ours.
func mplsOverUDP(s *scope.Scope) variant {
	n := nodes(s, "mplsoudp")
	pins := nstest.BPFFS(s)
	var planes [2]*dataplane.Dataplane
	for i := range n {
		n[i].Must(func() (err error) {
			planes[i], err = dataplane.Open(slog.New(slog.NewTextHandler(io.Discard, nil)), dataplane.Config{
				PinDir: filepath.Join(pins, n[i].Name()), Underlay: "eth0", LocalIP: nodeAddr(i),
				FlowEntries: 512 << 10, PortFlows: 512 << 10,
			})
			return err
		})
		s.Cleanup(func() { removePlane(s, n[i], planes[i]) })
	}
	const vrf = 1
	var routes [2]map[dataplane.RouteKey]dataplane.NextHop
	for i := range routes {
		routes[i] = map[dataplane.RouteKey]dataplane.NextHop{}
	}
	number := uint32(0)
	pairs := containers(s, "mplsoudp", n, fabricMTU-mplsHeader, func(node int, ns *nstest.NS, tap string, e end) {
		number++
		p := dataplane.Port{
			IfIndex: ns.Link(tap).Attrs().Index, Name: tap, VRF: vrf, Label: 1000 + number,
			MAC:       dataplane.MAC(e.ns.Link("eth0").Attrs().HardwareAddr),
			Addresses: []netip.Addr{e.addr},
		}
		open := map[int]dataplane.Policy{p.IfIndex: {Identity: dataplane.NewIdentity(vrf, nil, nil)}}
		ns.Must(func() error { return errors.Join(planes[node].PutPort(p), planes[node].PutPolicies(open, nil)) })
		key := dataplane.RouteKey{VRF: vrf, Prefix: netip.PrefixFrom(e.addr, 32)}
		routes[node][key] = dataplane.NextHop{Kind: dataplane.Local, Label: p.Label}
		routes[1-node][key] = dataplane.NextHop{Kind: dataplane.Tunnel, Remote: nodeAddr(node), Label: p.Label}
	})
	for i := range planes {
		s.Must(planes[i].PutRoutes(routes[i]))
	}
	vif, err := programOfPort(n[0], n[0].Link("tap1").Attrs().Index)
	s.Must(err)
	underlay, err := programOfUnderlay(n[1], n[1].Link("eth0").Attrs().Index)
	s.Must(err)
	return variant{ours, pairs, map[string]*ebpf.Program{"vif_rx": vif, "underlay_rx": underlay}}
}

// removePlane is to be called before the bpffs goes, which is cleaned up later.
func removePlane(s *scope.Scope, ns *nstest.NS, plane *dataplane.Dataplane) {
	if err := ns.Do(func() error { return errors.Join(plane.Remove(), plane.Close()) }); err != nil {
		s.Errorf("remove data plane: %v", err)
	}
}
