package dataplane

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

// What a packet costs in the programs is taken by the kernel's count of their
// time, of programs that are attached to devices as on any node and run on
// packets made here, one system call for each. So a flow's first packet and a
// later one are taken in the same way.

const (
	network    = 1 // of the ports here, also their VRF
	farNetwork = 2
	group      = 8000001 // security group of all
	webPort    = 80
	usualRules = 10
	redirected = 7 // TC_ACT_REDIRECT
)

// machine is a node whose programs are run on packets made here. Its ports have
// a network policy, and the default security group.
type machine struct {
	end
	plane         *dataplane.Dataplane
	eth0          int
	vif, underlay *ebpf.Program
	ports         []dataplane.Port
	far           []netip.Addr // addresses on the other node
}

// farAddress is the one with a number on the other node.
func farAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
}

// newMachine makes a node with so many routes, room for flows, and a port for each
// number of rules of a network policy, and one more.
func newMachine(s *scope.Scope, pins, name string, routes int, flows uint32, rules ...int) *machine {
	m := &machine{end: end{ns: nstest.New(s, name), addr: nodeAddr(0)}}
	m.eth0 = m.ns.Dummy("eth0").Attrs().Index
	m.ns.Up("eth0", prefix(m.addr))
	m.ns.Must(func() (err error) {
		m.plane, err = dataplane.Open(slog.New(slog.NewTextHandler(io.Discard, nil)), dataplane.Config{
			PinDir: filepath.Join(pins, name), Underlay: "eth0", LocalIP: m.addr,
			FlowEntries: flows, PortFlows: flows, PortUnanswered: flows, HostRoutes: 2 << 20,
		})
		return err
	})
	s.Cleanup(func() {
		if err := m.ns.Do(func() error { return errors.Join(m.plane.Remove(), m.plane.Close()) }); err != nil {
			s.Errorf("remove data plane: %v", err)
		}
	})
	to := map[dataplane.RouteKey]dataplane.NextHop{}
	for i, n := range append(rules, usualRules) {
		p := m.plug(i, n)
		to[dataplane.RouteKey{VRF: network, Prefix: netip.PrefixFrom(p.Addresses[0], 32)}] = dataplane.NextHop{
			Kind: dataplane.Local, Label: p.Label, Identity: dataplane.NewIdentity(network, []uint32{group}, nil),
		}
	}
	for i := range routes - len(to) {
		far := farAddress(i)
		m.far = append(m.far, far)
		to[dataplane.RouteKey{VRF: network, Prefix: netip.PrefixFrom(far, 32)}] = dataplane.NextHop{
			Kind: dataplane.Tunnel, Remote: nodeAddr(1), Label: uint32(2000 + i%1000000),
			Identity: dataplane.NewIdentity(farNetwork, []uint32{group}, nil),
		}
	}
	s.Must(m.plane.PutRoutes(to))
	s.Must(m.find(m.ports[0].IfIndex))
	return m
}

// plug makes a port that has a network policy of so many rules.
func (m *machine) plug(i, rules int) dataplane.Port {
	name := "tap" + strconv.Itoa(i+1)
	p := dataplane.Port{
		IfIndex: m.ns.Dummy(name).Attrs().Index, Name: name, VRF: network, Label: uint32(1000 + i),
		MAC: dataplane.MAC{2, 0, 0, 0, 0, byte(i + 1)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})},
	}
	policy := dataplane.Policy{Identity: dataplane.NewIdentity(network, []uint32{group}, nil)}
	sets := map[dataplane.SetID]*dataplane.Set{}
	for kind, set := range map[dataplane.PolicySet]*dataplane.Set{
		dataplane.NetworkPolicy: networkPolicy(rules), dataplane.Arriving: defaultGroup(true), dataplane.Leaving: defaultGroup(false),
	} {
		policy.Sets[kind], sets[set.ID] = set.ID, set
	}
	m.ns.Must(func() error {
		return errors.Join(m.plane.PutPort(p), m.plane.PutPolicies(map[int]dataplane.Policy{p.IfIndex: policy}, sets))
	})
	m.ports = append(m.ports, p)
	return p
}

// rule is one for all ports of the sender.
func rule(src, dst dataplane.Selector, family uint8, protocol int16, port dataplane.PortRange) dataplane.Rule {
	return dataplane.Rule{
		Src: src, Dst: dst, Family: family, Protocol: protocol,
		SrcPorts: []dataplane.PortRange{dataplane.AllPorts}, DstPorts: []dataplane.PortRange{port},
	}
}

// networkPolicy has, as compiled, rules of others, then the one that lets the
// networks here use each other's web servers.
func networkPolicy(rules int) *dataplane.Set {
	set := &dataplane.Set{ID: dataplane.SetID{1, byte(rules >> 8), byte(rules)}}
	all := make([]dataplane.Rule, 0, rules)
	for i := range rules - 1 {
		other := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, byte(i >> 8), byte(i), 0}), 24)
		port := uint16(1024 + i%5000)
		all = append(all, rule(dataplane.Selector{Prefixes: []netip.Prefix{other}}, dataplane.Selector{Own: true}, 4, 6, dataplane.PortRange{First: port, Last: port}))
	}
	both := dataplane.Selector{Networks: []uint32{network, farNetwork}}
	set.Blocks = [][]dataplane.Rule{append(all, rule(both, both, 0, 6, dataplane.PortRange{First: webPort, Last: webPort}))}
	return set
}

// defaultGroup is what a project's default security group says of what arrives,
// or of what leaves.
func defaultGroup(arrives bool) *dataplane.Set {
	set := &dataplane.Set{ID: dataplane.SetID{2}}
	src, dst := dataplane.Selector{Any: true}, dataplane.Selector{Any: true}
	if arrives {
		set.ID[1] = 1
		src = dataplane.Selector{Groups: []uint32{group}}
	}
	for _, family := range []uint8{4, 6} {
		set.Blocks = append(set.Blocks, []dataplane.Rule{rule(src, dst, family, dataplane.AnyProtocol, dataplane.AllPorts)})
	}
	return set
}

// find opens the programs that the node runs.
func (m *machine) find(port int) (err error) {
	if m.vif, err = programOfPort(m.ns, port); err == nil {
		m.underlay, err = programOfUnderlay(m.ns, m.eth0)
	}
	return err
}

// programOfPort opens the program at a port's device.
func programOfPort(ns *nstest.NS, ifindex int) (prog *ebpf.Program, err error) {
	err = ns.Do(func() error {
		filters, err := netlink.FilterList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, netlink.HANDLE_MIN_INGRESS)
		if err != nil {
			return fmt.Errorf("list filters of interface %d: %w", ifindex, err)
		}
		for _, f := range filters {
			if bpf, ok := f.(*netlink.BpfFilter); ok {
				prog, err = ebpf.NewProgramFromID(ebpf.ProgramID(bpf.Id))
				return err
			}
		}
		return fmt.Errorf("interface %d has no program", ifindex)
	})
	return prog, err
}

// programOfUnderlay opens the one at the device towards the other nodes.
func programOfUnderlay(ns *nstest.NS, ifindex int) (prog *ebpf.Program, err error) {
	err = ns.Do(func() error {
		attached, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("list programs of interface %d: %w", ifindex, err)
		}
		if len(attached.Programs) != 1 {
			return fmt.Errorf("interface %d has %d programs, want one", ifindex, len(attached.Programs))
		}
		prog, err = ebpf.NewProgramFromID(attached.Programs[0].ID)
		return err
	})
	return prog, err
}

// skb is the part of struct __sk_buff that a run takes.
type skb struct {
	_       [40]byte
	IfIndex uint32
}

// packets are what a program is given, one after the other.
type packets struct {
	prog    *ebpf.Program
	ifindex int
	frames  [][]byte
}

// leaving and arriving are the first packets of a port's connections, and what
// the program finds if it is given them again.
func (m *machine) leaving(port int, tuples []tuple) packets {
	p := packets{prog: m.vif, ifindex: m.ports[port].IfIndex}
	for _, t := range tuples {
		p.frames = append(p.frames, fromPort(m.ports[port].MAC, t))
	}
	return p
}

func (m *machine) arriving(port int, tuples []tuple) packets {
	p := packets{prog: m.underlay, ifindex: m.eth0}
	for _, t := range tuples {
		p.frames = append(p.frames, fromTunnel(nodeAddr(1), m.addr, m.ports[port].Label, t))
	}
	return p
}

// run runs the program on each packet. The caller is in the node's namespace.
func (p packets) run() error {
	options := &ebpf.RunOptions{DataOut: make([]byte, 256), Context: &skb{IfIndex: uint32(p.ifindex)}}
	for i, frame := range p.frames {
		options.Data, options.DataOut = frame, options.DataOut[:cap(options.DataOut)]
		verdict, err := p.prog.Run(options)
		if err != nil {
			return fmt.Errorf("run program: %w", err)
		}
		if verdict != redirected {
			return fmt.Errorf("packet %d of %d: verdict %d, want %d", i+1, len(p.frames), verdict, redirected)
		}
	}
	return nil
}

// cost does the same and returns what one packet took, in nanoseconds. The kernel
// has to count.
func (p packets) cost() (float64, error) {
	before, err := p.prog.Stats()
	if err == nil {
		err = p.run()
	}
	if err != nil {
		return 0, err
	}
	return costSince(p.prog, before)
}

// costSince is what a program took for each packet since then, in nanoseconds.
func costSince(prog *ebpf.Program, before *ebpf.ProgramStats) (float64, error) {
	after, err := prog.Stats()
	if err != nil {
		return 0, fmt.Errorf("read statistics: %w", err)
	}
	if after.RunCount == before.RunCount {
		return 0, fmt.Errorf("%s has not run", prog)
	}
	return float64(after.Runtime-before.Runtime) / float64(after.RunCount-before.RunCount), nil
}

// forget removes all flows.
func (m *machine) forget() error {
	now, err := dataplane.Now()
	if err == nil {
		_, _, err = m.plane.SweepFlows(now+24*time.Hour, dataplane.DefaultAges())
	}
	return err
}
