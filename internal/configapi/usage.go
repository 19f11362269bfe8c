package configapi

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/api/usageapi"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// networkRef is a network with its subnets, taken out of a view.
type networkRef struct {
	uuid    string
	fqName  []string
	subnets []subnet
}

// networksWithSubnets takes what usage needs out of the graph, of the networks
// that the caller may read.
func networksWithSubnets(v *model.View, may *access) []networkRef {
	list := make([]networkRef, 0, v.Count(model.KindVirtualNetwork))
	for o := range v.All(model.KindVirtualNetwork) {
		if !may.mayRead(o) || may.mayReadField(v, derived{object: o}, "network_ipam_refs") != nil {
			continue
		}
		m := o.GetMeta()
		// What cannot be read was refused when it was written.
		if subnets, err := subnetsOf(v, m.UUID); err == nil && len(subnets) > 0 {
			list = append(list, networkRef{m.UUID, m.FQName, subnets})
		}
	}
	slices.SortFunc(list, func(a, b networkRef) int { return slices.Compare(a.fqName, b.fqName) })
	return list
}

// usage counts the addresses of the networks. Writers wait for one network at
// a time, not for all.
func (a *API) usage(networks []networkRef) []usageapi.Network {
	list := make([]usageapi.Network, len(networks))
	for i, n := range networks {
		list[i] = usageapi.Network{UUID: n.uuid, FQName: n.fqName, Subnets: a.subnetUsage(n)}
	}
	return list
}

func (a *API) subnetUsage(n networkRef) []usageapi.Subnet {
	list := make([]usageapi.Subnet, len(n.subnets))
	for i := range n.subnets {
		s := &n.subnets[i]
		size := s.size()
		used, resting := a.ledger.usage(spaceOf(s.scope, s.prefix.Addr()), s.spans())
		u := usageapi.Subnet{
			UUID: s.uuid, Prefix: s.prefix.String(), Gateway: textOr(s.gateway, s.prefix),
			Size: size, Used: uint64(used), Resting: uint64(resting),
		}
		u.Free = size - min(size, u.Used+u.Resting)
		list[i] = u
	}
	return list
}

// addressUsage lists the addresses of a network's subnets that are not free,
// or looks at one only. The store knows who has them.
func (a *API) addressUsage(ctx context.Context, n networkRef, only netip.Addr) ([]usageapi.Address, error) {
	var list []usageapi.Address
	seen := map[string]bool{}
	for _, s := range n.subnets {
		if seen[s.scope] || only.IsValid() && !s.prefix.Contains(only) {
			continue
		}
		seen[s.scope] = true
		prefix := store.AddressPrefix(s.scope)
		if only.IsValid() {
			prefix = store.AddressKey(s.scope, only)
		}
		for _, p := range []store.Key{prefix, store.RestKey(prefix)} {
			entries, err := a.store.List(ctx, p)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				u := usageapi.Address{State: usageapi.Used, Owner: string(e.Value)}
				k, resting := e.Key.Rested()
				if !resting {
					k = e.Key
				} else {
					u.State = usageapi.Resting
				}
				_, address, err := k.ParseAddress()
				if err != nil {
					return nil, err
				}
				// The keys of other networks and of longer addresses are in between.
				if subnetWith(n.subnets, address) != nil && (!only.IsValid() || address == only) {
					u.Address = address.String()
					list = append(list, u)
				}
			}
		}
	}
	return list, nil
}

// ipam answers how full the subnets are; with addresses=true also which
// addresses are not free and who has them, with address=A only that one. Users
// see the networks that they may read, and of the addresses those whose owners
// they may read.
func (a *API) ipam(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var only netip.Addr
	if text := q.Get("address"); text != "" {
		var err error
		if only, err = netip.ParseAddr(text); err != nil {
			fail(w, invalid("address %q: want an IPv4 or IPv6 address", brief(text)))
			return
		}
	}
	var at model.Position
	var networks []networkRef
	a.graph.View(func(v *model.View) {
		at = v.Position()
		networks = networksWithSubnets(v, a.accessOf(r.Context(), v))
	})
	if wanted := q.Get("network"); wanted != "" {
		networks = slices.DeleteFunc(networks, func(n networkRef) bool {
			return n.uuid != strings.ToLower(wanted) && model.FQString(n.fqName) != wanted
		})
		if len(networks) == 0 {
			fail(w, missing("network %s does not exist, or has no subnets", brief(wanted)))
			return
		}
	}
	list := a.usage(networks)
	if isTrue(q.Get("addresses")) || only.IsValid() {
		var err error
		if list, err = a.withAddresses(r.Context(), networks, list, only); err != nil {
			fail(w, err)
			return
		}
	}
	reply(w, at, usageapi.Answer{Networks: list})
}

// withAddresses adds the addresses that are not free, or only one of them:
// then only the networks in which it is not free are left.
func (a *API) withAddresses(ctx context.Context, networks []networkRef, list []usageapi.Network, only netip.Addr) ([]usageapi.Network, error) {
	for i := range list {
		var err error
		if list[i].Addresses, err = a.addressUsage(ctx, networks[i], only); err != nil {
			return nil, err
		}
	}
	a.graph.View(func(v *model.View) {
		may := a.accessOf(ctx, v)
		for i := range list {
			list[i].Addresses = named(v, may, list[i].Addresses)
		}
	})
	if only.IsValid() {
		list = slices.DeleteFunc(list, func(n usageapi.Network) bool { return len(n.Addresses) == 0 })
	}
	return list, nil
}

// named says whose the addresses are, in order, and leaves out those of owners
// that the caller may not know.
func named(v *model.View, may *access, addresses []usageapi.Address) []usageapi.Address {
	addresses = slices.DeleteFunc(addresses, func(u usageapi.Address) bool {
		o, ok := v.Find(u.Owner)
		return !may.reads && (!ok || !may.mayRead(o))
	})
	for i := range addresses {
		if o, ok := v.Find(addresses[i].Owner); ok {
			addresses[i].Type, addresses[i].Name = string(o.Kind()), o.GetMeta().FQName
		}
	}
	slices.SortFunc(addresses, func(a, b usageapi.Address) int { return compareAddresses(a.Address, b.Address) })
	return addresses
}

func compareAddresses(a, b string) int {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX != nil || errY != nil {
		return strings.Compare(a, b)
	}
	return x.Compare(y)
}
