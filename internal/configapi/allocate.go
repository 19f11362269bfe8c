package configapi

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// labels from 16: the lower ones are reserved, RFC 3032 section 2.1.
	firstLabel = 16
	lastLabel  = 1<<20 - 1
)

// wish is what somebody wants of the addresses of a network or an IPAM.
type wish struct {
	// from names where the address is from, for messages.
	from    string
	subnets []subnet
	// address is invalid when any will do.
	address netip.Addr
	// owner is the UUID of the object that gets it.
	owner string
	// gateway says that the address may be that of the gateway.
	gateway bool
}

// allocated is an address with the subnet it is from.
type allocated struct {
	address netip.Addr
	subnet  subnet
}

func ofNetwork(fqName []string) string { return "Virtual-Network(" + model.FQString(fqName) + ")" }

// takeAddress gives an address out: the one that is wished for if it is valid,
// else the next free one of the first subnet that has one.
func (c *change) takeAddress(w wish) (allocated, error) {
	if len(w.subnets) == 0 {
		return allocated{}, invalid("%s has no defined subnets; give it one", w.from)
	}
	if w.address.IsValid() {
		return c.takeWanted(w)
	}
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, early := range []bool{false, true} {
		for _, s := range w.subnets {
			in := spaceOf(s.scope, s.prefix.Addr())
			p := poolOf(l.addresses, in)
			got, ok := p.pick(s.spans(), early)
			if !ok {
				drop(l.addresses, in)
				continue
			}
			c.release = append(c.release, func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				p.release(got)
				drop(l.addresses, in)
			})
			a := addressAt(got, in.six)
			c.take(store.AddressKey(s.scope, a), w.owner, early)
			return allocated{a, s}, nil
		}
	}
	return allocated{}, l.outOfAddresses(w)
}

// outOfAddresses says what became of the addresses. The caller has the lock.
func (l *ledger) outOfAddresses(w wish) error {
	var parts []string
	for i := range w.subnets {
		s := &w.subnets[i]
		used, resting := 0, 0
		if p := l.addresses[spaceOf(s.scope, s.prefix.Addr())]; p != nil {
			used, resting = p.count(s.spans()...)
		}
		parts = append(parts, fmt.Sprintf("subnet(%s): %d of %d addresses in use, %d at rest", s.prefix, used, s.size(), resting))
	}
	return exhausted("%s has exhausted %s; give it another subnet", w.from, strings.Join(parts, ", "))
}

func (c *change) takeWanted(w wish) (allocated, error) {
	s := subnetWith(w.subnets, w.address)
	if s == nil {
		return allocated{}, invalid("%s has invalid subnet(%s): no subnet of it contains the address; name one of %s", w.from, w.address, prefixList(w.subnets))
	}
	if err := s.mayHave(w.address, w.gateway); err != nil {
		return allocated{}, err
	}
	k := store.AddressKey(s.scope, w.address)
	if c.api.ledger.isUsed(s.scope, w.address) || c.Touches(k) {
		return allocated{}, addressInUse(s.scope, w.address)
	}
	c.Create(k, []byte(w.owner))
	c.Delete(store.RestKey(k)) // whoever asks for it by name gets it
	return allocated{w.address, *s}, nil
}

// mayHave refuses addresses that nobody can ask for.
func (s *subnet) mayHave(a netip.Addr, gateway bool) error {
	switch {
	case a == s.gateway && gateway:
		return nil
	case a == s.gateway:
		return invalid("Gateway IP cannot be used by VM port: %s is the gateway of subnet %s; ask for another address", a, s.prefix)
	case a == s.dns:
		return invalid("address %s is the dns_server_address of subnet %s; ask for another", a, s.prefix)
	case indexOf(a).lo&(s.unit-1) != 0:
		return invalid("address %s is no multiple of the alloc_unit %d of subnet %s; ask for %s", a, s.unit, s.prefix,
			addressAt(alignDown(indexOf(a), s.unit), a.Is6()))
	}
	for _, edge := range s.edges() {
		if a == edge {
			return invalid("address %s is the network or broadcast address of subnet %s; ask for another", a, s.prefix)
		}
	}
	return nil
}

// takeLabel gives an interface a label on a node.
func (c *change) takeLabel(node model.Node, vmi string) (uint32, error) {
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	n, early, err := c.takeNext(l.labels, node.UUID, firstLabel, lastLabel)
	if err != nil {
		return 0, exhausted("node %s has no free label: %v", node.Name, err)
	}
	c.take(store.LabelKey(node.UUID, n), vmi, early)
	return n, nil
}

// takeNumber gives owner a number of a kind, from first to last.
func (c *change) takeNumber(kind string, first, last uint32, owner string) (uint32, error) {
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	n, early, err := c.takeNext(l.numbers, kind, first, last)
	if err != nil {
		return 0, exhausted("no free number for a %s: %v", kind, err)
	}
	c.take(store.NumberKey(kind, n), owner, early)
	return n, nil
}

// takeNext chooses the next number of a pool of the ledger, whose lock the
// caller has, and holds it.
func (c *change) takeNext(pools map[string]*pool, of string, first, last uint32) (n uint32, early bool, err error) {
	p := poolOf(pools, of)
	got, early, ok := p.choose(span{first: index{lo: uint64(first)}, last: index{lo: uint64(last)}, unit: 1})
	if !ok {
		return 0, false, fmt.Errorf("all from %d to %d are in use", first, last)
	}
	l := c.api.ledger
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got)
		drop(pools, of)
	})
	return uint32(got.lo), early, nil
}

// takeThisNumber gives owner the number it asks for; what says which it is.
func (c *change) takeThisNumber(kind string, n uint32, owner, what string) error {
	k := store.NumberKey(kind, n)
	l := c.api.ledger
	l.mu.Lock()
	p := l.numbers[kind]
	used := p != nil && p.isUsed(index{lo: uint64(n)})
	l.mu.Unlock()
	if used || c.Touches(k) {
		return &inUse{key: k, text: fmt.Sprintf("%s %d is in use; choose another", what, n)}
	}
	c.Create(k, []byte(owner))
	c.Delete(store.RestKey(k))
	return nil
}
