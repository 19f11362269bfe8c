package configapi

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

const (
	// labels from 16: the lower ones are reserved, RFC 3032 section 2.1.
	firstLabel = 16
	labels     = 1<<20 - firstLabel
	// networkBits is the length of the prefixes that new networks get.
	networkBits = 20
)

// allocated is an address with the subnet it is from.
type allocated struct {
	address netip.Addr
	subnet  subnet
}

// takeAddress gives owner an address of the network, the wanted one if it is
// valid, and holds the subnets in place.
func (c *change) takeAddress(network []string, subnets []subnet, want netip.Addr, owner string) (allocated, error) {
	scope := model.FQString(network)
	if len(subnets) == 0 {
		return allocated{}, invalid("Virtual-Network(%s) has no defined subnets", scope)
	}
	if want.IsValid() {
		return c.takeWanted(scope, subnets, want, owner)
	}
	var spans []span[netip.Addr]
	for i := range subnets {
		spans = append(spans, subnets[i].spans()...)
	}
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	p := of(l.addresses, scope)
	got, ok := p.choose(spans...)
	if !ok {
		return allocated{}, outOfAddresses(p, scope, subnets)
	}
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got.value)
		drop(l.addresses, scope)
	})
	c.take(store.AddressKey(scope, got.value), owner, got.early)
	for _, s := range subnets {
		if s.prefix.Contains(got.value) {
			return allocated{got.value, s}, nil
		}
	}
	return allocated{}, fmt.Errorf("address %s is in no subnet of %s", got.value, scope)
}

func outOfAddresses(p *pool[netip.Addr], scope string, subnets []subnet) error {
	var parts []string
	for i := range subnets {
		s := &subnets[i]
		spans := s.spans()
		used, resting := p.count(spans...)
		var size uint64
		for _, part := range spans {
			size += part.count
		}
		parts = append(parts, fmt.Sprintf("subnet(%s): %d of %d addresses in use, %d at rest", s.prefix, used, size, resting))
	}
	return exhausted("Virtual-Network(%s) has exhausted %s; give it another subnet", scope, strings.Join(parts, ", "))
}

func (c *change) takeWanted(scope string, subnets []subnet, want netip.Addr, owner string) (allocated, error) {
	var found *subnet
	for i := range subnets {
		if subnets[i].prefix.Contains(want) {
			found = &subnets[i]
		}
	}
	switch {
	case found == nil:
		return allocated{}, invalid("Virtual-Network(%s) has invalid subnet(%s): no subnet of the network contains the address", scope, want)
	case want == found.gateway:
		return allocated{}, invalid("Gateway IP cannot be used by VM port: %s", want)
	case found.reserved(want):
		return allocated{}, invalid("address %s of subnet %s is reserved; ask for another", want, found.prefix)
	}
	l := c.api.ledger
	l.mu.Lock()
	user, used := of(l.addresses, scope).used[want]
	drop(l.addresses, scope)
	l.mu.Unlock()
	if used {
		return allocated{}, taken("IP address already in use: %s of %s is held by %s", want, scope, user)
	}
	k := store.AddressKey(scope, want)
	c.Create(k, []byte(owner))
	c.Delete(store.RestKey(k)) // whoever asks for it by name gets it
	return allocated{want, *found}, nil
}

// takeLabel gives an interface a label on a node.
func (c *change) takeLabel(node model.Node, vmi string) (uint32, error) {
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	p := of(l.labels, node.UUID)
	got, ok := p.choose(numbers(firstLabel, labels))
	if !ok {
		return 0, exhausted("node %s has no free label: %d are in use", node.Name, len(p.used))
	}
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got.value)
		drop(l.labels, node.UUID)
	})
	c.take(store.LabelKey(node.UUID, got.value), vmi, got.early)
	return got.value, nil
}

// takeNumber gives owner a number of a kind, from first on.
func (c *change) takeNumber(kind string, first uint32, owner string) (uint32, error) {
	return c.takeFrom(kind, numbers(first, math.MaxUint32-first), owner)
}

// takeFrom gives owner a number of a kind out of a range.
func (c *change) takeFrom(kind string, among span[uint32], owner string) (uint32, error) {
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	p := of(l.numbers, kind)
	got, ok := p.choose(among)
	if !ok {
		return 0, exhausted("no free number for a %s: %d are in use", kind, len(p.used))
	}
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got.value)
	})
	c.take(store.NumberKey(kind, got.value), owner, got.early)
	return got.value, nil
}

func numbers(first, count uint32) span[uint32] {
	return span[uint32]{
		first: first, count: uint64(count),
		next:     func(n uint32) uint32 { return n + 1 },
		contains: func(n uint32) bool { return n >= first && n-first < count },
	}
}

// takePrefix gives a network a prefix of the cluster's pool: the one it had
// before when that is still at rest, else the next free one.
func (c *change) takePrefix(network []string, owner string) (netip.Prefix, error) {
	fq := model.FQString(network)
	pool := c.api.cfg.Pool
	l := c.api.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.prefixes
	for k, r := range p.resting {
		if _, used := p.used[k]; r.owner == fq && !used && p.held[k] == 0 && pool.Overlaps(k) {
			c.Create(store.PrefixKey(k), []byte(owner))
			c.Guard(store.Guard{Condition: store.Unchanged, Key: store.RestKey(store.PrefixKey(k)), Revision: r.since})
			c.Delete(store.RestKey(store.PrefixKey(k)))
			return k, nil
		}
	}
	got, ok := p.choose(prefixes(pool))
	if !ok {
		return netip.Prefix{}, exhausted("network %s: the pool %s has no free /%d: %d networks have one; name the network's subnets with the label network-subnets, or give the controller a larger --pool",
			fq, pool, networkBits, len(p.used))
	}
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got.value)
	})
	c.take(store.PrefixKey(got.value), owner, got.early)
	return got.value, nil
}

// prefixes are the parts of the pool.
func prefixes(pool netip.Prefix) span[netip.Prefix] {
	bits := max(networkBits, pool.Bits())
	return span[netip.Prefix]{
		first: netip.PrefixFrom(pool.Masked().Addr(), bits),
		count: 1 << (bits - pool.Bits()),
		next: func(p netip.Prefix) netip.Prefix {
			return netip.PrefixFrom(netipx.PrefixLastIP(p).Next(), bits)
		},
		contains: func(p netip.Prefix) bool { return p.IsValid() && pool.Contains(p.Addr()) },
	}
}
