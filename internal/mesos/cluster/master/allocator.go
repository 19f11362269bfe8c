package master

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// offer is an outstanding offer: all that an agent has left, for one role of
// one framework.
type offer struct {
	id        string
	framework *framework
	agent     *agent
	role      string
	amounts   quantities
}

// allocate offers what is free. Of the roles that may get an agent's resources
// the one that has the least of the cluster so far comes first.
func (m *Master) allocate(now time.Time) {
	made := map[*framework][]*mesosv1.Offer{}
	for _, a := range sorted(m.agents) {
		if !a.active() {
			continue
		}
		free := a.total.minus(a.used()).minus(m.offered(a))
		if !free.offerable() {
			continue
		}
		f, role := m.neediest(a, free, now)
		if f == nil {
			continue
		}
		o := &offer{id: fmt.Sprintf("%s-O%d", m.id, m.nextOffer), framework: f, agent: a, role: role, amounts: free}
		m.nextOffer++
		m.offers[o.id] = o
		made[f] = append(made[f], o.message())
	}
	for f, offers := range made {
		f.send(&schedulerv1.Event{Type: schedulerv1.Event_OFFERS.Enum(), Offers: &schedulerv1.Event_Offers{Offers: offers}})
	}
}

// neediest picks the framework and role for what is free on an agent.
func (m *Master) neediest(a *agent, free quantities, now time.Time) (*framework, string) {
	var best *framework
	var bestRole string
	var bestShare float64
	shares := m.shares()
	for _, f := range sorted(m.frameworks) {
		if f.stream == nil {
			continue
		}
		for _, role := range f.roles() {
			if f.suppressed[role] || m.hasOffer(f, role, a) || f.refuses(a, role, free, now) {
				continue
			}
			share := shares[shareKey{f, role}]
			if best == nil || share < bestShare {
				best, bestRole, bestShare = f, role, share
			}
		}
	}
	return best, bestRole
}

// hasOffer tells whether the framework's role holds an offer of the agent; it
// gets the next one, with all that is free, when it has answered.
func (m *Master) hasOffer(f *framework, role string, a *agent) bool {
	for _, o := range m.offers {
		if o.framework == f && o.role == role && o.agent == a {
			return true
		}
	}
	return false
}

type shareKey struct {
	framework *framework
	role      string
}

// shares is the largest fraction of any of the cluster's resources that each
// framework's role uses or is offered.
func (m *Master) shares() map[shareKey]float64 {
	var total quantities
	held := map[shareKey]quantities{}
	for _, a := range m.agents {
		total = total.plus(a.total)
		for _, t := range a.tasks {
			if !t.released {
				key := shareKey{t.framework, t.role}
				held[key] = held[key].plus(t.amounts)
			}
		}
	}
	for _, o := range m.offers {
		key := shareKey{o.framework, o.role}
		held[key] = held[key].plus(o.amounts)
	}
	shares := make(map[shareKey]float64, len(held))
	for key, amounts := range held {
		for _, q := range amounts {
			if all := total.of(q.name).milli; all > 0 {
				shares[key] = max(shares[key], float64(q.milli)/float64(all))
			}
		}
	}
	return shares
}

func (f *framework) refuses(a *agent, role string, free quantities, now time.Time) bool {
	key := filterKey{a.id(), role}
	f.filters[key] = slices.DeleteFunc(f.filters[key], func(one filter) bool { return now.After(one.until) })
	if len(f.filters[key]) == 0 {
		delete(f.filters, key)
		return false
	}
	return slices.ContainsFunc(f.filters[key], func(one filter) bool { return one.refused.contains(free) })
}

// refuse remembers that the framework does not want these resources for a while.
func (f *framework) refuse(a *agent, role string, amounts quantities, filters *mesosv1.Filters, now time.Time) {
	d := boundedSeconds(filters.GetRefuseSeconds())
	if d == 0 || len(amounts) == 0 {
		return
	}
	key := filterKey{a.id(), role}
	f.filters[key] = append(f.filters[key], filter{amounts, now.Add(d)})
}

func (o *offer) message() *mesosv1.Offer {
	ip, port := splitAddress(o.agent.address)
	return &mesosv1.Offer{
		Id: &mesosv1.OfferID{Value: &o.id}, FrameworkId: o.framework.info.GetId(), AgentId: o.agent.info.GetId(),
		Hostname: o.agent.info.Hostname,
		Url: &mesosv1.URL{
			Scheme: proto.String("http"), Path: proto.String("/slave(1)"),
			Address: &mesosv1.Address{Hostname: o.agent.info.Hostname, Ip: &ip, Port: &port},
		},
		Resources: o.amounts.rangesFirst().resources(o.role, true), Attributes: o.agent.info.GetAttributes(),
		ExecutorIds:    o.agent.executorIDs(o.framework.id()),
		AllocationInfo: &mesosv1.Resource_AllocationInfo{Role: &o.role},
	}
}

func (m *Master) offered(a *agent) quantities {
	var sum quantities
	for _, o := range m.offers {
		if o.agent == a {
			sum = sum.plus(o.amounts)
		}
	}
	return sum
}

func (m *Master) offersOf(f *framework) []*offer {
	var all []*offer
	for _, o := range m.offers {
		if o.framework == f {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *offer) int { return cmp.Compare(a.id, b.id) })
	return all
}

// recoverOffers takes back all offers of a framework, which is not told.
func (m *Master) recoverOffers(f *framework) {
	for _, o := range m.offersOf(f) {
		delete(m.offers, o.id)
	}
}

// rescind takes back an offer and tells the framework.
func (m *Master) rescind(o *offer) {
	delete(m.offers, o.id)
	o.framework.send(&schedulerv1.Event{
		Type: schedulerv1.Event_RESCIND.Enum(), Rescind: &schedulerv1.Event_Rescind{OfferId: &mesosv1.OfferID{Value: &o.id}},
	})
}

func (m *Master) rescindAgent(a *agent) {
	for _, o := range m.offers {
		if o.agent == a {
			m.rescind(o)
		}
	}
}
