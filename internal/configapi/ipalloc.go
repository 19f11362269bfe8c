package configapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"connectrpc.com/connect"
	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// maxAllocated bounds the addresses of one ip-alloc or ip-free: all or none of
// them are taken, in one transaction.
const maxAllocated = 256

// ipAlloc gives a network addresses that belong to no object: whoever asked
// for them gives them back with ip-free.
func (a *API) ipAlloc(r *http.Request) (*answer, error) {
	q := struct {
		Count  int    `json:"count"`
		Subnet string `json:"subnet"`
		Family string `json:"family"`
	}{Count: 1}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	switch {
	case q.Count < 1 || q.Count > maxAllocated:
		return nil, invalid("Bad Request, count %d: want 1 to %d", q.Count, maxAllocated)
	case q.Family != "" && q.Family != familyIPv4 && q.Family != familyIPv6:
		return nil, invalid("Bad Request, family %q: want %s or %s", brief(q.Family), familyIPv4, familyIPv6)
	}
	id, err := networkID(r)
	if err != nil {
		return nil, err
	}
	var list []string
	at, err := a.write(r.Context(), audit{"ip-alloc", fmt.Sprintf("virtual-network/%s %d", id, q.Count)}, func(c *change) (err error) {
		list, err = c.allocate(id, q.Subnet, q.Family, q.Count)
		return err
	})
	if err != nil {
		return nil, asAllocation(err)
	}
	return &answer{at: at, body: map[string][]string{"ip_addr": list}}, nil
}

// networkID is the network of the path of an action.
func networkID(r *http.Request) (string, error) {
	r.SetPathValue("type", string(model.KindVirtualNetwork))
	return pathID(r)
}

// asAllocation says that nothing is left with the status that ip-alloc has for
// it, which is another one than that of a create.
func asAllocation(err error) error {
	var r *refusal
	if errors.As(err, &r) && r.code == connect.CodeResourceExhausted {
		return refuse(http.StatusConflict, r.code, "%s", r.text)
	}
	return err
}

// writableNetwork finds a network that the caller may write.
func (c *change) writableNetwork(id string) (*model.VirtualNetwork, error) {
	o, ok := c.object(model.KindVirtualNetwork, id)
	if !ok {
		return nil, notFound(model.KindVirtualNetwork, id)
	}
	if !c.may.all {
		if err := c.may.mayWrite(o, opUpdate); err != nil {
			return nil, err
		}
	}
	return o.(*model.VirtualNetwork), nil
}

func (c *change) allocate(network, subnetID, family string, count int) ([]string, error) {
	vn, err := c.writableNetwork(network)
	if err != nil {
		return nil, err
	}
	from := ofNetwork(vn.FQName)
	subnets, err := c.choices(vn)
	if err != nil {
		return nil, err
	}
	if len(subnets) == 0 {
		return nil, missing("%s has no defined subnets; give it one", from)
	}
	if subnetID != "" {
		subnets = slices.DeleteFunc(subnets, func(s subnet) bool { return s.uuid != subnetID })
		if len(subnets) == 0 {
			return nil, invalid("%s has invalid subnet(%s)", from, brief(subnetID))
		}
	}
	six := family == familyIPv6 || family == "" && len(ofFamily(subnets, false)) == 0
	if subnets = ofFamily(subnets, six); len(subnets) == 0 {
		return nil, invalid("%s has no subnet of family %s", from, family)
	}
	c.Need(model.EntityOf(vn))
	c.disown(network)
	c.holdSubnets(network)
	var list []string
	for range count {
		got, err := c.takeAddress(wish{from: from, subnets: subnets, owner: network})
		if err != nil {
			return nil, err
		}
		c.Put(store.AllocatedKey(network, got.address), []byte(got.subnet.scope))
		list = append(list, got.address.String())
		c.touched = append(c.touched, touched{verb: "allocate", entity: model.EntityOf(vn), address: got.address.String()})
	}
	return list, nil
}

// ipFree gives back what ip-alloc gave. What is free already is fine: an
// answer may have been lost.
func (a *API) ipFree(r *http.Request) (*answer, error) {
	var q struct {
		Addresses []string `json:"ip_addr"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if len(q.Addresses) > maxAllocated {
		return nil, invalid("Bad Request, ip_addr has %d addresses; at most %d are possible", len(q.Addresses), maxAllocated)
	}
	id, err := networkID(r)
	if err != nil {
		return nil, err
	}
	at, err := a.write(r.Context(), audit{"ip-free", fmt.Sprintf("virtual-network/%s %d", id, len(q.Addresses))}, func(c *change) error {
		return c.free(id, q.Addresses)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at}, nil
}

func (c *change) free(network string, texts []string) error {
	vn, err := c.writableNetwork(network)
	if err != nil {
		return err
	}
	subnets, err := subnetsOf(c.v, network)
	if err != nil {
		return err
	}
	for _, text := range texts {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return invalid("Bad Request, ip_addr: %q is no address", brief(text))
		}
		s := subnetWith(subnets, address)
		if s == nil {
			return invalid("%s has invalid subnet(%s): no subnet of it contains the address", ofNetwork(vn.FQName), address)
		}
		k := store.AllocatedKey(network, address)
		switch {
		case c.Touches(k):
		case c.api.ledger.isAllocated(network, address):
			c.Guard(store.Guard{Condition: store.Present, Key: k})
			c.Delete(k)
			if err := c.giveBackAddress(s.scope, address); err != nil {
				return err
			}
			c.touched = append(c.touched, touched{verb: "release", entity: model.EntityOf(vn), address: address.String()})
		case c.api.ledger.isUsed(s.scope, address):
			return &inUse{
				key:  store.AddressKey(s.scope, address),
				text: fmt.Sprintf("IP address %s of %s was not given by ip-alloc of this network; delete what has it", address, s.scope),
			}
		}
	}
	return nil
}

// subnetIPCount answers how many addresses of a network's subnets are in use.
func (a *API) subnetIPCount(r *http.Request) (*answer, error) {
	var q struct {
		Subnets []string `json:"subnet_list"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	id, err := networkID(r)
	if err != nil {
		return nil, err
	}
	out := &answer{}
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		var counts []int
		if counts, err = a.countAddresses(a.accessOf(r.Context(), v), v, id, q.Subnets); err == nil {
			out.body = map[string][]int{"ip_count_list": counts}
		}
	})
	return out, err
}

func (a *API) countAddresses(may *access, v *model.View, network string, texts []string) ([]int, error) {
	vn, ok := model.Get[*model.VirtualNetwork](v, network)
	if !ok || !may.mayRead(vn) {
		return nil, notFound(model.KindVirtualNetwork, network)
	}
	if err := may.mayReadField(v, derived{object: vn}, "network_ipam_refs"); err != nil {
		return nil, err
	}
	subnets, err := subnetsOf(v, network)
	if err != nil {
		return nil, err
	}
	counts := []int{}
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, invalid("Bad Request, subnet_list: %q is no subnet; write it as 10.1.0.0/24", brief(text))
		}
		i := slices.IndexFunc(subnets, func(s subnet) bool { return s.prefix == p.Masked() })
		if i < 0 {
			return nil, invalid("%s has invalid subnet(%s); name one of %s", ofNetwork(vn.FQName), p, prefixList(subnets))
		}
		s, whole := &subnets[i], netipx.RangeOfPrefix(p)
		used, _ := a.ledger.usage(spaceOf(s.scope, s.prefix.Addr()), []span{{first: indexOf(whole.From()), last: indexOf(whole.To()), unit: 1}})
		counts = append(counts, used)
	}
	return counts, nil
}
