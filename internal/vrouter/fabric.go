package vrouter

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

const (
	// lookEvery is how often the names of link-local services and the node's own
	// addresses are looked up, and lookPatience how long a name may take.
	lookEvery    = 30 * time.Second
	lookPatience = 5 * time.Second
	// lookAtOnce bounds how many names are looked up at a time.
	lookAtOnce = 16
)

// fabricState is what the agent knows for NAT to the fabric, beside what control
// nodes say.
type fabricState struct {
	// lookup finds the addresses of a name, own those of the node.
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	own    func() ([]netip.Addr, error)
	// never are prefixes of IPv4 that are refused in any case.
	never []netip.Prefix
	// poke has names looked up that are new.
	poke chan struct{}

	// portsKnown: the ports with SNAT that are desired were read when the graph had
	// told of all ports.
	portsKnown atomic.Bool

	mu sync.Mutex
	// names are those that are needed, with what was found last.
	names map[string]foundName
	// mine are the node's own addresses; nil before they have been read.
	mine []netip.Addr
	// left are the services that an earlier agent left: a name that has not been
	// found yet stays where that found it.
	left map[netip.AddrPort]dataplane.LinkLocal
	// services are the link-local services with what became of each.
	services []vrouterapi.LinkLocalService
	refused  []netip.Prefix
}

type foundName struct {
	addresses []netip.Addr // sorted
	err       error
}

func newFabricState(log *slog.Logger, config Config) *fabricState {
	never := slices.Clone(config.NATRefuse)
	for _, text := range slices.Concat([]string{config.Manager}, config.Control, config.Collectors) {
		at, err := netip.ParseAddrPort(text)
		switch {
		case err != nil:
			log.Warn("--manager, --control and --collector by name are not kept from NAT: give --nat-refuse their addresses", "address", text)
		case at.Addr().Unmap().Is4():
			never = append(never, netip.PrefixFrom(at.Addr().Unmap(), 32))
		}
	}
	return &fabricState{
		never: never,
		lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
		},
		own: ownAddresses, poke: make(chan struct{}, 1), names: map[string]foundName{},
	}
}

// ownAddresses are those of IPv4 of all devices of the node.
func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read own addresses: %w", err)
	}
	var list []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			list = append(list, p.Addr())
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list, nil
}

// runFabric looks names and own addresses up, and has the graph looked at when
// others are found.
func (a *Agent) runFabric(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if a.fabricNAT.lookAtOwn() {
			a.registry.touch() // before names, which may take long
		}
		if a.fabricNAT.lookUp(ctx) {
			a.registry.touch()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-a.fabricNAT.poke:
		}
	}
}

// lookAtOwn tells whether the node has other addresses than before.
func (f *fabricState) lookAtOwn() (changed bool) {
	mine, err := f.own()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || f.mine != nil && slices.Equal(mine, f.mine) {
		return false
	}
	f.mine = slices.Concat([]netip.Addr{}, mine) // never nil
	return true
}

// lookUp looks all names up that are needed, at the same time, and tells whether it
// found others than before. A name that cannot be found keeps its addresses.
func (f *fabricState) lookUp(ctx context.Context) bool {
	f.mu.Lock()
	names := slices.Collect(maps.Keys(f.names))
	f.mu.Unlock()
	var (
		all     sync.WaitGroup
		changed atomic.Bool
		turns   = make(chan struct{}, lookAtOnce)
	)
	for _, name := range names {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if f.lookUpName(ctx, name) {
				changed.Store(true)
			}
		})
	}
	all.Wait()
	return changed.Load()
}

func (f *fabricState) lookUpName(ctx context.Context, name string) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	found, err := f.lookup(ctx, name)
	found = slices.Clone(found)
	for i, a := range found {
		found[i] = a.Unmap()
	}
	found = slices.DeleteFunc(found, func(a netip.Addr) bool { return !a.Is4() })
	slices.SortFunc(found, netip.Addr.Compare)
	found = slices.Compact(found)
	f.mu.Lock()
	defer f.mu.Unlock()
	had, needed := f.names[name]
	now := foundName{found, err}
	if len(found) == 0 {
		now.addresses = had.addresses
	}
	if needed {
		f.names[name] = now
	}
	return needed && (!slices.Equal(had.addresses, now.addresses) || (had.err == nil) != (err == nil))
}

// need says which names are to be looked up.
func (f *fabricState) need(names map[string]bool) {
	fresh := false
	for name := range names {
		if _, known := f.names[name]; !known {
			f.names[name], fresh = foundName{}, true
		}
	}
	maps.DeleteFunc(f.names, func(name string, _ foundName) bool { return !names[name] })
	if fresh {
		select {
		case f.poke <- struct{}{}:
		default:
		}
	}
}

// followFabric desires what control nodes say of NAT to the fabric: link-local
// services, what nothing may reach by it, and the ports that have SNAT.
func (a *Agent) followFabric(records []*record) {
	said := a.routing.saidOfFabric()
	if said == nil || !a.fabricNAT.begun(a.dataplane.FabricServices) {
		return // what an earlier agent left stays
	}
	a.fabricServices.Replace(map[string]dataplane.FabricServices{fabricKey: a.fabricNAT.wanted(said, a.config.Address)})
	complete := a.routing.allPortsKnown() // asked first: a port told of meanwhile may be missing below
	snats := map[int]uint32{}
	for _, r := range records {
		graph, _ := a.routing.graphPort(r)
		if r.HostIndex != 0 && graph.GetFabricNetwork() != 0 {
			snats[r.HostIndex] = graph.GetFabricNetwork()
		}
	}
	a.snats.Replace(snats)
	a.fabricNAT.portsKnown.Store(complete)
}

// begun tells whether the node's own addresses are known, which nothing may reach,
// and what an earlier agent left.
func (f *fabricState) begun(left func() (dataplane.FabricServices, error)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil {
		have, err := left()
		if err != nil {
			return false
		}
		f.left = map[netip.AddrPort]dataplane.LinkLocal{}
		maps.Copy(f.left, have.LinkLocal)
	}
	return f.mine != nil
}

func (r *routing) saidOfFabric() *controlv1.Fabric {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fabric
}

// wanted is what the data plane is to have of it.
func (f *fabricState) wanted(said *controlv1.Fabric, node netip.Addr) dataplane.FabricServices {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := dataplane.FabricServices{LinkLocal: map[netip.AddrPort]dataplane.LinkLocal{}, Refused: map[netip.Prefix]bool{}}
	refuse := func(a netip.Addr) { want.Refused[netip.PrefixFrom(a, 32)] = true }
	refuse(node)
	for _, p := range f.never {
		want.Refused[p.Masked()] = true
	}
	for _, a := range f.mine {
		refuse(a)
	}
	for raw := said.GetRefused(); len(raw) >= 4; raw = raw[4:] {
		refuse(netip.AddrFrom4([4]byte(raw)))
	}
	names := map[string]bool{}
	f.services = nil
	for _, s := range said.GetServices() {
		at, err := netip.ParseAddr(s.GetAddress())
		if err != nil || s.GetPort() == 0 || s.GetPort() > 65535 || s.GetToPort() == 0 || s.GetToPort() > 65535 {
			continue
		}
		if s.GetDnsName() != "" {
			names[s.GetDnsName()] = true
		}
		shown := vrouterapi.LinkLocalService{Name: s.GetName(), Address: at.String(), Port: uint16(s.GetPort()), DNSName: s.GetDnsName(), ToPort: uint16(s.GetToPort())}
		targets, problem := f.targets(s, want.Refused)
		shown.Problem = problem
		for _, t := range targets {
			shown.To = append(shown.To, t.String())
		}
		f.services = append(f.services, shown)
		if len(targets) == 0 {
			continue
		}
		service := dataplane.LinkLocal{Port: uint16(s.GetToPort())}
		copy(service.Targets[:], targets)
		want.LinkLocal[netip.AddrPortFrom(at, uint16(s.GetPort()))] = service
	}
	f.need(names)
	f.refused = slices.SortedFunc(maps.Keys(want.Refused), func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	})
	return want
}

// targets are where a service may be reached, and why it is not at others.
func (f *fabricState) targets(s *controlv1.LinkLocalService, refused map[netip.Prefix]bool) (targets []netip.Addr, problem string) {
	list := f.names[s.GetDnsName()].addresses
	if to, err := netip.ParseAddr(s.GetTo()); err == nil {
		list = []netip.Addr{to}
	} else if len(list) == 0 {
		list = f.leftOf(s)
	}
	if err := f.names[s.GetDnsName()].err; s.GetTo() == "" && err != nil {
		problem = "the node does not find the name: " + err.Error()
	} else if len(list) == 0 {
		problem = "the name has not been found yet"
	}
	for _, t := range list {
		switch {
		case t.IsLoopback() || isWithin(t, refused):
			problem = fmt.Sprintf("%s is the address of a node or controller, or --nat-refuse has it: tasks do not reach it; have the service on another machine", t)
		case !t.IsGlobalUnicast():
			problem = fmt.Sprintf("%s is no address of a host", t)
		case len(targets) < dataplane.MaxLinkLocalTargets:
			targets = append(targets, t)
		}
	}
	return targets, problem
}

// leftOf are the targets that a service had with an earlier agent.
func (f *fabricState) leftOf(s *controlv1.LinkLocalService) (targets []netip.Addr) {
	at, err := netip.ParseAddr(s.GetAddress())
	had := f.left[netip.AddrPortFrom(at, uint16(s.GetPort()))]
	if err != nil || uint32(had.Port) != s.GetToPort() {
		return nil
	}
	return slices.DeleteFunc(had.Targets[:], func(a netip.Addr) bool { return !a.IsValid() })
}

func isWithin(a netip.Addr, prefixes map[netip.Prefix]bool) bool {
	for p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// fabricKey is that of the one object of its table.
const fabricKey = "fabric"

// fabricTarget makes link-local services and refusals real.
type fabricTarget struct{ plane Dataplane }

func (t fabricTarget) List(context.Context) (map[string]dataplane.FabricServices, error) {
	have, err := t.plane.FabricServices()
	if len(have.LinkLocal)+len(have.Refused) == 0 {
		return nil, err // nobody has said anything of it
	}
	return map[string]dataplane.FabricServices{fabricKey: have}, err
}

func (t fabricTarget) Put(_ context.Context, _ string, f dataplane.FabricServices) error {
	return t.plane.SetFabricServices(f)
}

// Delete is never called: there always is one, as soon as control nodes say it.
func (t fabricTarget) Delete(context.Context, string) error { return nil }

// snatTarget makes SNAT of ports real.
type snatTarget struct{ plane Dataplane }

func (t snatTarget) List(context.Context) (map[int]uint32, error) { return t.plane.SNATs() }

func (t snatTarget) Put(_ context.Context, ifindex int, network uint32) error {
	return t.plane.PutSNAT(ifindex, network)
}

func (t snatTarget) Delete(_ context.Context, ifindex int) error { return t.plane.DeleteSNAT(ifindex) }

// showFabric is NAT to the fabric, as it is and as it cannot be.
func (a *Agent) showFabric() (vrouterapi.Fabric, error) {
	f := a.fabricNAT
	shown := vrouterapi.Fabric{Address: a.config.Address.String(), Ports: a.dataplane.NATPorts().String(), Services: []vrouterapi.LinkLocalService{}, SNAT: []vrouterapi.SNATPort{}, Refused: []string{}}
	if err := a.dataplane.NATProblem(); err != nil {
		shown.Problem = err.Error()
	}
	snats, err := a.dataplane.SNATs()
	if err != nil {
		return shown, err
	}
	names := a.portNames()
	for _, ifindex := range slices.Sorted(maps.Keys(snats)) {
		shown.SNAT = append(shown.SNAT, vrouterapi.SNATPort{Vif: ifindex, Port: names[ifindex], Network: snats[ifindex]})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	shown.Services = append(shown.Services, f.services...)
	slices.SortFunc(shown.Services, func(x, y vrouterapi.LinkLocalService) int { return cmp.Compare(x.Name, y.Name) })
	for _, r := range f.refused {
		text := r.String()
		if r.IsSingleIP() {
			text = r.Addr().String()
		}
		shown.Refused = append(shown.Refused, text)
	}
	return shown, nil
}
