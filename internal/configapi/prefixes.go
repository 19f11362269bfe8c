package configapi

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// networkBits is the length of the prefixes that new networks get.
const networkBits = 20

// prefixPool are the parts of the cluster's pool that networks have, a few
// thousand at most. The ledger's mutex guards it.
type prefixPool struct {
	used    map[netip.Prefix]string // owner
	resting map[netip.Prefix]prefixRest
	held    map[netip.Prefix]int
	// next is where the next search begins: going on from the last given gives
	// what was freed the longest rest.
	next netip.Prefix
}

// prefixRest is the rest of a prefix that was given back.
type prefixRest struct {
	// since is the revision at which it began.
	since int64
	// owner is the name of the network that had it.
	owner string
}

func newPrefixPool() *prefixPool {
	return &prefixPool{used: map[netip.Prefix]string{}, resting: map[netip.Prefix]prefixRest{}, held: map[netip.Prefix]int{}}
}

func (p *prefixPool) note(k netip.Prefix, e store.Entry, rest bool) {
	switch {
	case rest && e.Deleted:
		delete(p.resting, k)
	case rest:
		p.resting[k] = prefixRest{since: e.Modified, owner: string(e.Value)}
	case e.Deleted:
		delete(p.used, k)
	default:
		p.used[k] = string(e.Value)
	}
}

func (p *prefixPool) busy(k netip.Prefix) bool {
	_, used := p.used[k]
	return used || p.held[k] > 0
}

// formerly is the prefix at rest that a network of this name had.
func (p *prefixPool) formerly(pool netip.Prefix, owner string) (netip.Prefix, bool) {
	for k, r := range p.resting {
		if r.owner == owner && !p.busy(k) && pool.Overlaps(k) {
			return k, true
		}
	}
	return netip.Prefix{}, false
}

// choose finds a free part of the pool: a fresh one, else the one that has
// rested longest; early is set then.
func (p *prefixPool) choose(pool netip.Prefix) (got netip.Prefix, early, ok bool) {
	bits := max(networkBits, pool.Bits())
	count := min(1<<(bits-pool.Bits()), len(p.used)+len(p.resting)+len(p.held)+1)
	k := p.next
	for range count {
		if !k.IsValid() || !pool.Contains(k.Addr()) || k.Bits() != bits {
			k = netip.PrefixFrom(pool.Masked().Addr(), bits)
		}
		_, resting := p.resting[k]
		candidate := k
		k = netip.PrefixFrom(netipx.PrefixLastIP(k).Next(), bits)
		if !resting && !p.busy(candidate) {
			p.next = k
			return candidate, false, true
		}
	}
	for k, r := range p.resting {
		if !p.busy(k) && pool.Contains(k.Addr()) && (!ok || r.since < p.resting[got].since) {
			got, early, ok = k, true, true
		}
	}
	return got, early, ok
}

func (p *prefixPool) release(k netip.Prefix) {
	if p.held[k]--; p.held[k] <= 0 {
		delete(p.held, k)
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
	if k, ok := p.formerly(pool, fq); ok {
		c.Create(store.PrefixKey(k), []byte(owner))
		c.Guard(store.Guard{Condition: store.Unchanged, Key: store.RestKey(store.PrefixKey(k)), Revision: p.resting[k].since})
		c.Delete(store.RestKey(store.PrefixKey(k)))
		return k, nil
	}
	got, early, ok := p.choose(pool)
	if !ok {
		return netip.Prefix{}, exhausted("network %s: the pool %s has no free /%d: %d networks have one; name the network's subnets with the label network-subnets, or give the controller a larger --pool",
			fq, pool, networkBits, len(p.used))
	}
	p.held[got]++
	c.release = append(c.release, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.release(got)
	})
	c.take(store.PrefixKey(got), owner, early)
	return got, nil
}
