package vrouter

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// A look at all ports is followed by a rest of so many times what it took: when
// they change one by one, as a thousand do while they are plugged, some gather,
// and most of the CPU is left to others. It is short where ports are few.
const (
	graphRest        = 4
	longestGraphRest = 50 * time.Millisecond
)

// runGraph keeps ports as the graph has them: it fills in what a classic client
// did not say, follows later changes, and removes ports that the graph lacks.
func (a *Agent) runGraph(ctx context.Context) error {
	for {
		began := time.Now()
		records, changed := a.registry.all()
		for _, r := range records {
			a.followGraph(r)
		}
		a.followPolicies(records)
		a.vnis.Replace(a.routing.vnis())
		a.followServices(records)
		a.followFabric(records)
		a.bridges.Replace(a.routing.bridges())
		a.routing.dropUnneeded()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(graphRest*time.Since(began), longestGraphRest)):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (a *Agent) followGraph(r *record) {
	graph, absent := a.routing.graphPort(r)
	foreign := foreignOf(graph)
	switch {
	case absent:
		end, free := a.registry.tryBegin(r.key())
		if !free {
			return // what is done to it now decides
		}
		defer end()
		if r.isClassic() {
			// The client's word that the interface is there still holds.
			next := *r
			next.VRF, next.Passage, next.Label, next.Epoch, next.Revision = 0, 0, 0, 0, 0
			a.update(r, &next)
		} else if a.registry.get(r.ID) == r {
			a.log.Info("port removed because its attachment is", "port", r.ID, "container", r.ContainerID, "interface", r.Interface)
			a.unplug(r)
		}
	case graph != nil && (a.routing.isNewer(graph, r) || graph.GetPassage() != r.Passage) && (r.isClassic() || graph.GetNamespace() == r.Namespace):
		end, free := a.registry.tryBegin(r.key())
		if !free {
			return
		}
		defer end()
		next := *r
		next.Passage = graph.GetPassage()
		if !a.routing.isNewer(graph, r) { // services and policies change without the attachment
			a.update(r, &next)
			return
		}
		next.VRF, next.Label, next.MAC = graph.GetVrf(), graph.GetLabel(), graph.GetMac()
		next.NetworkID, next.NetworkName = graph.GetNetworkId(), []string{graph.GetNetworkName()}
		next.VirtualMachineID, next.DisplayName = graph.GetVirtualMachineId(), graph.GetDisplayName()
		next.Epoch, next.Revision = a.routing.seen().GetEpoch(), graph.GetRevision()
		next.Addresses = followAddresses(r.Addresses, graph.GetAddresses())
		next.Foreign = foreign
		a.warnForeign(graph, foreign)
		a.update(r, &next)
	case graph != nil && a.routing.isSame(graph, r) && !slices.Equal(r.Foreign, foreign):
		end, free := a.registry.tryBegin(r.key())
		if !free {
			return
		}
		defer end()
		next := *r
		next.Foreign = foreign
		a.warnForeign(graph, foreign)
		a.update(r, &next)
	}
}

// foreignOf are the addresses of other networks that the graph gives a port, as
// far as the data plane can take them.
func foreignOf(port *controlv1.Port) []dataplane.ForeignAddress {
	var list []dataplane.ForeignAddress
	for _, f := range port.GetForeign() {
		address, err1 := netip.ParseAddr(f.GetAddress())
		fixed, err2 := netip.ParseAddr(f.GetFixed())
		has := func(x dataplane.ForeignAddress) bool { return x.Address == address }
		if err1 == nil && err2 == nil && address.Is4() && fixed.Is4() && !slices.ContainsFunc(list, has) && len(list) < dataplane.MaxForeign {
			list = append(list, dataplane.ForeignAddress{Address: address, VRF: f.GetVrf(), Fixed: fixed, AnswersOnly: f.GetAnswersOnly()})
		}
	}
	return list
}

// warnForeign says so when a port does not get all addresses of other networks.
func (a *Agent) warnForeign(port *controlv1.Port, taken []dataplane.ForeignAddress) {
	if left := len(port.GetForeign()) - len(taken); left > 0 {
		a.log.Warn("port does not get all its floating and alias addresses: a port may have so many of IPv4, each once",
			"port", port.GetInterfaceId(), "left_out", left, "limit", dataplane.MaxForeign)
	}
}

// followAddresses keeps prefix and gateway of addresses that stay.
func followAddresses(old []portapi.Address, now []string) []portapi.Address {
	addresses := make([]portapi.Address, 0, len(now))
	for _, text := range now {
		address := portapi.Address{Address: text}
		if prefix, err := netip.ParsePrefix(text); err == nil {
			address.Address, address.PrefixLength = prefix.Addr().String(), prefix.Bits()
		}
		for _, o := range old {
			if o.Address == address.Address {
				address = o
			}
		}
		addresses = append(addresses, address)
	}
	return addresses
}

// update replaces a port's record, on disk, in the registry and in the data plane.
func (a *Agent) update(old, next *record) {
	if err := a.change(old, next); err != nil {
		a.log.Warn("port cannot be changed", "port", next.ID, "error", err)
	}
}

// change is update for who wants to know of errors. One that changed meanwhile is
// left as it is.
func (a *Agent) change(old, next *record) error {
	port, complete, err := next.port()
	if err == nil {
		err = a.files.write(next)
	}
	if err != nil {
		return err
	}
	if !a.registry.replace(old, next) {
		return nil
	}
	if !complete || old.HostIndex != next.HostIndex {
		a.forgetPort(old)
	}
	if complete {
		if err := a.links.prepare(next.HostIndex, next.HostInterface, next.MTU); err != nil {
			a.log.Warn("interface of port cannot be prepared", "port", next.ID, "error", err)
		}
		a.ports.Set(next.HostIndex, port)
	}
	return nil
}

// followClassic looks for the interface of a port that a classic client
// announced: the client makes and removes it when it likes.
func (a *Agent) followClassic(r *record, links map[int]string) {
	if r.HostIndex != 0 && links[r.HostIndex] == r.HostInterface {
		return
	}
	index := 0
	for i, name := range links {
		if name == r.HostInterface {
			index = i
		}
	}
	if index == r.HostIndex {
		return
	}
	end, free := a.registry.tryBegin(r.key())
	if !free {
		return
	}
	defer end()
	next := *r
	next.HostIndex = index
	a.update(r, &next)
}

// sweepEvery is the pause between two looks for what nobody needs any more:
// flows, and what routes and ports that are gone had.
const sweepEvery = 5 * time.Second

// flowCount is of the last walk.
type flowCount struct{ live atomic.Int64 }

func (a *Agent) runFlows(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		live, err := a.sweepFlows()
		if err = errors.Join(err, a.dataplane.SweepNextHops()); err != nil && !failing {
			a.log.Warn("the data plane cannot be swept", "error", err)
		}
		failing = err != nil
		a.flows.live.Store(int64(live))
	}
}

func (a *Agent) sweepFlows() (live int, err error) {
	now, err := dataplane.Now()
	if err != nil {
		return 0, err
	}
	_, live, err = a.dataplane.SweepFlows(now, dataplane.DefaultAges())
	return live, err
}
