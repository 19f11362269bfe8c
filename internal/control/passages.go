package control

import (
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// chainsOf are routes through services as the RIB makes them.
func chainsOf(routes []compile.ChainRoute) []rib.ServiceChain {
	var chains []rib.ServiceChain
	for _, r := range routes {
		chains = append(chains, rib.ServiceChain{
			Name: r.Name, Network: r.Network, To: r.To, From: r.From, Via: r.Via, Address: r.Address, Prefixes: r.Prefixes,
			Policies: r.Policies,
		})
	}
	return chains
}

// readPassages reads what services' forwarding tables have become, and the
// interfaces that what leaves them is looked up for.
func (f *facts) readPassages(v *model.View, u *update, changes map[string]compile.Change[compile.Passages]) {
	if !f.policies {
		return
	}
	for service, change := range changes {
		u.passages[service] = change.After
		for _, p := range []*compile.Passages{change.Before, change.After} {
			if p != nil {
				for _, iface := range slices.Concat(p.Interfaces[0], p.Interfaces[1]) {
					f.readAttachment(v, u, iface)
				}
			}
		}
	}
}

// readPassage reads where what leaves an interface of a service is looked up,
// if that is elsewhere than in its network.
func (f *facts) readPassage(v *model.View, a *attachment) {
	if !f.policies {
		return
	}
	for r := range v.ReferenceSeq(a.Interface, model.KindPortTuple) {
		tuple, ok := v.Find(r.To.UUID)
		if !ok {
			continue
		}
		p := f.compiler.Passages(tuple.GetMeta().ParentUUID)
		if p == nil {
			continue
		}
		for side, interfaces := range p.Interfaces {
			if slices.Contains(interfaces, a.Interface) {
				a.passage = p.Sides[side].Number
			}
		}
	}
}

// putPassages brings the forwarding tables of a service to what is compiled;
// nil where it is in no chain.
func (t *tables) putPassages(service string, now *compile.Passages) {
	before := t.passages[service]
	if t.passages[service] = now; now == nil {
		delete(t.passages, service)
		now = &compile.Passages{}
	}
	for side, p := range now.Sides {
		if p.Own {
			t.rib.SetVRF(rib.VRF{Number: p.Number, Import: targetsOf(p.Import), Chains: chainsOf(p.Routes)})
		} else if before != nil && before.Sides[side].Own {
			t.rib.RemoveVRF(before.Sides[side].Number)
		}
	}
}

// need counts a port, or no longer counts it, where its node needs routes.
func (n *node) need(a *attachment, times int) {
	if n.session != nil {
		n.session.choose = true
	}
	needed := []uint32{a.number, a.lookup()}
	for _, vni := range a.routers {
		needed = append(needed, compile.RouterNumber(vni))
	}
	for _, f := range a.foreign {
		needed = append(needed, f.vrf)
	}
	for _, number := range needed {
		if number == 0 {
			continue
		}
		if n.vrfs[number] += times; n.vrfs[number] == 0 {
			delete(n.vrfs, number)
		}
	}
}

// eachPassage yields the forwarding tables of services, with their names.
func (t *tables) eachPassage(yield func(string, *compile.Passage) bool) {
	for _, p := range t.passages {
		for side := range p.Sides {
			name := fmt.Sprintf("%s (%s)", p.Service.Name, [...]string{"left", "right"}[side])
			if x := &p.Sides[side]; x.Own && !yield(name, x) {
				return
			}
		}
	}
}

// passageName is the name of a service's forwarding table; empty where there is
// none with the number.
func (t *tables) passageName(number uint32) string {
	for name, p := range t.eachPassage {
		if p.Number == number {
			return name
		}
	}
	return ""
}

func (t *tables) showPassages() []ShownInstance {
	var shown []ShownInstance
	for name, p := range t.eachPassage {
		shown = append(shown, ShownInstance{
			VRF: p.Number, Name: name, Import: append([]compile.Target{}, p.Import...), Export: []compile.Target{}, Routes: t.rib.Len(p.Number),
		})
	}
	slices.SortFunc(shown, func(a, b ShownInstance) int { return strings.Compare(a.Name, b.Name) })
	return shown
}
