package vrouter

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// Maps is what a look at the data plane reads.
type Maps interface {
	Ports() (map[int]dataplane.Port, error)
	Policies() (map[int]dataplane.Policy, error)
	Generations() (node uint32, policies map[int]uint32, err error)
	Labels() (map[uint32]int, error)
	VNIs() (map[uint32]uint32, error)
	Bridges() (map[uint32]dataplane.Bridge, error)
	RouteEntries(match func(dataplane.RouteKey) bool, limit int) ([]dataplane.RouteEntry, int, error)
	RouteTo(vrf uint32, address netip.Addr) (dataplane.RouteEntry, bool, error)
	MACEntries(match func(dataplane.MACKey) bool, limit int) ([]dataplane.MACEntry, int, error)
	RouteCounts() (map[uint32]dataplane.RouteCount, error)
	Hops() ([]dataplane.Hop, error)
	FlowPairs(match func(*dataplane.Flow) bool, limit int) ([]dataplane.FlowPair, int, error)
	PortFlowCount(ifindex int) (own, others dataplane.FlowCount, err error)
	Drops() ([]dataplane.Drop, error)
	Counters(ifindex int) (dataplane.Counters, error)
	MapFills() ([]dataplane.MapFill, error)
	SetsWithRules([]dataplane.SetID) (map[dataplane.SetID]dataplane.SetRules, error)
	Trace(dataplane.TraceQuery) (dataplane.Trace, error)
	TraceArrival(dataplane.ArrivalQuery) (dataplane.Trace, error)
}

// look answers one question about the data plane: it knows the ports that were
// there when it was asked, and what things are called.
type look struct {
	agent  *Agent
	tables Maps
	query  url.Values
	limit  int
	ports  map[int]dataplane.Port
	// records of the agent by interface index.
	records  map[int]*record
	byLabel  map[uint32]int
	networks map[uint32]string
	underlay int
	// onlyVRFs and onlyVif are what the question is about; nil and 0 for all.
	onlyVRFs map[uint32]bool
	onlyVif  int
}

func (a *Agent) look(q url.Values) (*look, error) {
	l := &look{agent: a, tables: a.dataplane, query: q, limit: vrouterapi.DefaultLimit, records: map[int]*record{}}
	if text := q.Get(vrouterapi.ParamLimit); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > vrouterapi.MaxLimit {
			return nil, invalid("limit %q: want a number from 1 to %d", text, vrouterapi.MaxLimit)
		}
		l.limit = n
	}
	var err error
	if l.ports, err = l.tables.Ports(); err != nil {
		return nil, err
	}
	if l.byLabel, err = l.tables.Labels(); err != nil {
		return nil, err
	}
	if l.underlay, err = a.links.find(a.config.Underlay); err != nil {
		return nil, err
	}
	records, _ := a.registry.all()
	for _, r := range records {
		l.records[r.HostIndex] = r
	}
	l.networks = a.networkNames(records)
	if l.onlyVif, err = l.findVif(q.Get(vrouterapi.ParamVif)); err != nil {
		return nil, err
	}
	l.onlyVRFs, err = l.findVRFs(q.Get(vrouterapi.ParamVRF))
	return l, err
}

// networkNames are what the agent knows VRFs by: the networks of its ports, and
// of those that the graph binds to the node.
func (a *Agent) networkNames(records []*record) map[uint32]string {
	names := map[uint32]string{}
	for _, p := range a.routing.graphPorts() {
		names[p.GetVrf()] = p.GetNetworkName()
	}
	for _, r := range records {
		if name := strings.Join(r.NetworkName, ":"); name != "" {
			names[r.VRF] = name
		}
	}
	delete(names, 0)
	return names
}

// findVif is the interface that somebody names by its index, device, UUID or an
// address; 0 for the empty name.
func (l *look) findVif(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	index, _ := strconv.Atoi(name)
	address, _ := netip.ParseAddr(name)
	if l.underlay != 0 && (index == l.underlay || name == l.agent.config.Underlay || address.IsValid() && address == l.agent.config.Address) {
		return l.underlay, nil
	}
	var found []int
	for ifindex, p := range l.ports {
		if ifindex == index || p.Name == name || portHas(p, address) || l.records[ifindex].isCalled(name) {
			found = append(found, ifindex)
		}
	}
	switch len(found) {
	case 0:
		return 0, notFound("no interface %q of the vRouter; want an interface index, a device, the UUID of a port, an address, or the id or name of a container", name)
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return 0, invalid("the interfaces %v are all called %s; want one of them", found, name)
}

// isCalled tells whether people mean the port by a name.
func (r *record) isCalled(name string) bool {
	return r != nil && slices.Contains([]string{r.ID, r.ContainerID, r.VirtualMachineID, r.DisplayName}, name)
}

// portHas tells whether an address is one of a port's, floating and alias ones
// among them.
func portHas(p dataplane.Port, address netip.Addr) bool {
	return slices.Contains(p.Addresses, address) ||
		slices.ContainsFunc(p.Foreign, func(f dataplane.ForeignAddress) bool { return f.Address == address })
}

// findVRFs are the VRFs that somebody names by a number, or the name of a network
// or its end; nil for the empty name.
func (l *look) findVRFs(name string) (map[uint32]bool, error) {
	if name == "" {
		return nil, nil
	}
	if number, err := strconv.ParseUint(name, 10, 32); err == nil {
		return map[uint32]bool{uint32(number): true}, nil
	}
	found := map[uint32]bool{}
	for vrf, network := range l.networks {
		if network == name || strings.HasSuffix(network, ":"+name) {
			found[vrf] = true
		}
	}
	if len(found) == 0 {
		return nil, notFound("no network %q on this node; want the number of a VRF, or the name of a network or its end", name)
	}
	return found, nil
}

func (l *look) wantsVRF(vrf uint32) bool { return l.onlyVRFs == nil || l.onlyVRFs[vrf] }

func (l *look) wantsVif(ifindex int) bool { return l.onlyVif == 0 || l.onlyVif == ifindex }

func (l *look) wantsUnderlay() bool {
	return l.underlay != 0 && l.wantsVif(l.underlay) && l.onlyVRFs == nil
}

// portID is the UUID of a port.
func (l *look) portID(ifindex int) string {
	if r := l.records[ifindex]; r != nil {
		return r.ID
	}
	return ""
}

func (l *look) device(ifindex int) string {
	if ifindex == l.underlay && ifindex != 0 {
		return l.agent.config.Underlay
	}
	return l.ports[ifindex].Name
}

// number is one that the question is about.
func (l *look) number(what string) (number uint64, asked bool, err error) {
	text := l.query.Get(vrouterapi.ParamID)
	if text == "" {
		return 0, false, nil
	}
	number, err = strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, false, invalid("%s %q: want a number", what, text)
	}
	return number, true, nil
}

// counters are those of an interface with its drops.
func (l *look) counters(drops map[int]dataplane.Drop, ifindex int) (vrouterapi.Counters, error) {
	counters := vrouterapi.Counters{DropsPackets: drops[ifindex].Packets, DropsBytes: drops[ifindex].Bytes}
	c, err := l.tables.Counters(ifindex)
	switch {
	case errors.Is(err, dataplane.ErrNoPort): // it is the underlay, or has gone meanwhile
		return counters, nil
	case err != nil:
		return counters, err
	}
	counters.Passed = &vrouterapi.Passed{FromPackets: c.FromPackets, FromBytes: c.FromBytes, ToPackets: c.ToPackets, ToBytes: c.ToBytes}
	return counters, nil
}

// dropsByVif are the sums over the reasons.
func (l *look) dropsByVif() (map[int]dataplane.Drop, error) {
	list, err := l.tables.Drops()
	if err != nil {
		return nil, err
	}
	sums := map[int]dataplane.Drop{}
	for _, d := range list {
		s := sums[d.IfIndex]
		s.Packets, s.Bytes = s.Packets+d.Packets, s.Bytes+d.Bytes
		sums[d.IfIndex] = s
	}
	return sums, nil
}

func (l *look) vifs() (vrouterapi.Vifs, error) {
	answer := vrouterapi.Vifs{Vifs: []vrouterapi.Vif{}}
	drops, err := l.dropsByVif()
	if err != nil {
		return answer, err
	}
	policies, err := l.policiesByVif()
	if err != nil {
		return answer, err
	}
	if l.wantsUnderlay() {
		counters, err := l.counters(drops, l.underlay)
		if err != nil {
			return answer, err
		}
		answer.Vifs = append(answer.Vifs, vrouterapi.Vif{
			Vif: l.underlay, Device: l.agent.config.Underlay, Type: "physical", Addresses: []string{l.agent.config.Address.String()},
			Counters: counters,
		})
	}
	for _, ifindex := range slices.Sorted(maps.Keys(l.ports)) {
		if p := l.ports[ifindex]; l.wantsVif(ifindex) && l.wantsVRF(p.VRF) {
			v := l.vif(p)
			v.Policy = policies[ifindex]
			if v.Counters, err = l.counters(drops, ifindex); err != nil {
				return answer, err
			}
			answer.Vifs = append(answer.Vifs, v)
		}
	}
	return answer, nil
}

func (l *look) vif(p dataplane.Port) vrouterapi.Vif {
	v := vrouterapi.Vif{
		Vif: p.IfIndex, Device: p.Name, Type: "virtual", Port: l.portID(p.IfIndex),
		VRF: p.VRF, Network: l.networks[p.VRF], Label: p.Label, MAC: p.MAC.String(), Blocked: p.Blocked,
	}
	if r := l.records[p.IfIndex]; r != nil {
		v.Name = r.DisplayName
		v.Network = cmp.Or(v.Network, strings.Join(r.NetworkName, ":"))
	}
	for _, a := range p.Addresses {
		v.Addresses = append(v.Addresses, a.String())
	}
	for _, g := range p.Gateways {
		v.Gateways = append(v.Gateways, g.String())
	}
	for _, f := range p.Foreign {
		v.Foreign = append(v.Foreign, vrouterapi.ForeignAddress{
			Address: f.Address.String(), VRF: f.VRF, Network: l.networks[f.VRF], Fixed: f.Fixed.String(),
		})
	}
	v.Egress, v.Ingress = limitState(p.Egress), limitState(p.Ingress)
	if own, others, err := l.tables.PortFlowCount(p.IfIndex); err == nil {
		v.Flows, v.OthersFlows = flowCountOf(own), flowCountOf(others)
	}
	status := portapi.State{State: string(reconcile.Pending)} // it is to go
	if s, desired := l.agent.ports.StatusOf(p.IfIndex); desired {
		status = stateOf(s)
	}
	v.Status = &status
	return v
}

func limitState(l dataplane.Limit) *vrouterapi.Limit {
	if l.Rate == 0 {
		return nil
	}
	return &vrouterapi.Limit{Rate: l.Rate, Burst: l.Burst}
}

func flowCountOf(c dataplane.FlowCount) *vrouterapi.FlowCount {
	return &vrouterapi.FlowCount{Flows: c.Flows, Unanswered: c.Unanswered}
}

// policiesByVif are the policies in the maps.
func (l *look) policiesByVif() (map[int]*vrouterapi.Policy, error) {
	all, err := l.tables.Policies()
	if err != nil {
		return nil, err
	}
	_, generations, err := l.tables.Generations()
	if err != nil {
		return nil, err
	}
	policies := make(map[int]*vrouterapi.Policy, len(all))
	for ifindex, p := range all {
		policies[ifindex] = &vrouterapi.Policy{Identity: *identityState(p.Identity), Sets: p.SetNames(), Generation: generations[ifindex]}
	}
	return policies, nil
}

func identityState(i dataplane.Identity) *vrouterapi.Identity {
	return &vrouterapi.Identity{Network: i.Network(), SecurityGroups: i.Groups(), Tags: i.Tags()}
}

func (l *look) vrfs() (vrouterapi.VRFs, error) {
	answer := vrouterapi.VRFs{VRFs: []vrouterapi.VRF{}}
	routes, err := l.tables.RouteCounts()
	if err != nil {
		return answer, err
	}
	vnis, err := l.tables.VNIs()
	if err != nil {
		return answer, err
	}
	bridges, err := l.tables.Bridges()
	if err != nil {
		return answer, err
	}
	drops, err := l.dropsByVif()
	if err != nil {
		return answer, err
	}
	all := map[uint32]*vrouterapi.VRF{}
	vrf := func(number uint32) *vrouterapi.VRF {
		if all[number] == nil {
			all[number] = &vrouterapi.VRF{VRF: number, Network: l.networks[number], Counters: vrouterapi.Counters{Passed: &vrouterapi.Passed{}}}
		}
		return all[number]
	}
	for number, n := range routes {
		v := vrf(number)
		v.Inet, v.Inet6, v.MACs = n.IPv4, n.IPv6, n.MACs
	}
	for _, vni := range slices.Sorted(maps.Keys(vnis)) {
		v := vrf(vnis[vni])
		v.VNIs = append(v.VNIs, vni)
	}
	for number, b := range bridges {
		vrf(number).Bridge = bridgeState(b)
	}
	for ifindex, p := range l.ports {
		v := vrf(p.VRF)
		v.Ports++
		counters, err := l.counters(drops, ifindex)
		if err != nil {
			return answer, err
		}
		add(&v.Counters, counters)
	}
	for _, number := range slices.Sorted(maps.Keys(all)) {
		if l.wantsVRF(number) {
			answer.VRFs = append(answer.VRFs, *all[number])
		}
	}
	return answer, nil
}

func bridgeState(b dataplane.Bridge) *vrouterapi.Bridge {
	state := &vrouterapi.Bridge{Routes: b.Routes, FloodsUnknown: b.FloodsUnknown, LeftOut: b.LeftOut, Remotes: []vrouterapi.Remote{}}
	for _, r := range b.Remotes.List() {
		state.Remotes = append(state.Remotes, vrouterapi.Remote{Address: r.Address.String(), VNI: r.VNI})
	}
	return state
}

// add adds to a sum, which counts what passed.
func add(sum *vrouterapi.Counters, c vrouterapi.Counters) {
	if c.Passed != nil {
		sum.FromPackets += c.FromPackets
		sum.FromBytes += c.FromBytes
		sum.ToPackets += c.ToPackets
		sum.ToBytes += c.ToBytes
	}
	sum.DropsPackets += c.DropsPackets
	sum.DropsBytes += c.DropsBytes
}

func (l *look) stats() (vrouterapi.Stats, error) {
	answer := vrouterapi.Stats{Stats: []vrouterapi.Stat{}, Totals: vrouterapi.Counters{Passed: &vrouterapi.Passed{}}}
	drops, err := l.dropsByVif()
	if err != nil {
		return answer, err
	}
	count := func(ifindex int, network string) error {
		counters, err := l.counters(drops, ifindex)
		if err != nil {
			return err
		}
		s := vrouterapi.Stat{Vif: ifindex, Device: l.device(ifindex), Port: l.portID(ifindex), Network: network, Counters: counters}
		add(&answer.Totals, s.Counters)
		answer.Stats = append(answer.Stats, s)
		delete(drops, ifindex)
		return nil
	}
	if l.wantsUnderlay() {
		if err := count(l.underlay, ""); err != nil {
			return answer, err
		}
	}
	for _, ifindex := range slices.Sorted(maps.Keys(l.ports)) {
		if p := l.ports[ifindex]; l.wantsVif(ifindex) && l.wantsVRF(p.VRF) {
			if err := count(ifindex, l.networks[p.VRF]); err != nil {
				return answer, err
			}
		}
	}
	if l.onlyVif == 0 && l.onlyVRFs == nil {
		for _, d := range drops { // of former ports
			add(&answer.Totals, vrouterapi.Counters{DropsPackets: d.Packets, DropsBytes: d.Bytes})
		}
	}
	return answer, nil
}

func (l *look) drops() (vrouterapi.Drops, error) {
	answer := vrouterapi.Drops{Drops: []vrouterapi.Drop{}}
	list, err := l.tables.Drops()
	if err != nil {
		return answer, err
	}
	slices.SortStableFunc(list, func(a, b dataplane.Drop) int { return cmp.Compare(a.Reason, b.Reason) })
	for _, d := range list {
		if !l.wantsVif(d.IfIndex) || l.onlyVRFs != nil && !l.onlyVRFs[l.ports[d.IfIndex].VRF] {
			continue
		}
		answer.Drops = append(answer.Drops, vrouterapi.Drop{
			Reason: d.Reason.String(), Description: d.Reason.Help(), Advice: d.Reason.Advice(),
			Vif: d.IfIndex, Device: l.device(d.IfIndex), Port: l.portID(d.IfIndex), Packets: d.Packets, Bytes: d.Bytes,
		})
	}
	return answer, nil
}

// seconds are those of a duration, to the millisecond.
func seconds(d time.Duration) float64 { return max(d, 0).Round(time.Millisecond).Seconds() }
