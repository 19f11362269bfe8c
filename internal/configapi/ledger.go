package configapi

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/contrail-mesos/contrail/internal/store"
)

// networkNumbers is the kind of the numbers of virtual networks.
const networkNumbers = "virtual-network"

// ledger is what the store has given out and what is at rest. It follows the
// store; its answers are hints. Whoever takes something from it holds it until
// the transaction is over, so that writers of this process do not choose the
// same. Safe for concurrent use.
type ledger struct {
	mu sync.Mutex
	books
	// loading is for the goroutine that follows the store.
	loading *ledger
}

// books are the entries of a ledger.
type books struct {
	addresses map[string]*pool[netip.Addr] // by scope
	prefixes  *pool[netip.Prefix]
	numbers   map[string]*pool[uint32] // by kind
	labels    map[string]*pool[uint32] // by node
	owned     map[string]bool          // uuids that go with their last attachment
	tombs     map[store.Key]grave
}

func newLedger() *ledger {
	return &ledger{books: books{
		addresses: map[string]*pool[netip.Addr]{},
		prefixes:  newPool[netip.Prefix](),
		numbers:   map[string]*pool[uint32]{},
		labels:    map[string]*pool[uint32]{},
		owned:     map[string]bool{},
		tombs:     map[store.Key]grave{},
	}}
}

// Reset implements store.Follower.
func (l *ledger) Reset(uint64, int64) error {
	l.loading = newLedger()
	return nil
}

// Load implements store.Follower.
func (l *ledger) Load(entries []store.Entry) error { return l.loading.apply(entries) }

// Loaded implements store.Follower. What writers hold is forgotten: their
// guards keep them right.
func (l *ledger) Loaded() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books, l.loading = l.loading.books, nil
	return nil
}

// Apply implements store.Follower.
func (l *ledger) Apply(_ int64, changes []store.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.apply(changes)
}

func (l *ledger) apply(entries []store.Entry) error {
	for _, e := range entries {
		switch e.Key.Space() {
		case store.SpaceTomb:
			if e.Deleted {
				delete(l.tombs, e.Key)
			} else {
				l.tombs[e.Key] = readGrave(e)
			}
		case store.SpaceOwned:
			s, err := e.Key.Split(1)
			if err != nil {
				return err
			}
			l.owned[s[0]] = true
			if e.Deleted {
				delete(l.owned, s[0])
			}
		case store.SpaceRest:
			k, _ := e.Key.Rested()
			if err := l.note(k, e, true); err != nil {
				return err
			}
		default:
			if err := l.note(e.Key, e, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// note records that a key was given out, taken back, or put to rest.
func (l *ledger) note(k store.Key, e store.Entry, rest bool) error {
	switch k.Space() {
	case store.SpaceAddress:
		scope, address, err := k.ParseAddress()
		if err != nil {
			return err
		}
		note(of(l.addresses, scope), address, e, rest)
		drop(l.addresses, scope)
	case store.SpacePrefix:
		p, err := k.ParsePrefix()
		if err != nil {
			return err
		}
		note(l.prefixes, p, e, rest)
	case store.SpaceNumber:
		kind, n, err := k.ParseNumber()
		if err != nil {
			return err
		}
		note(of(l.numbers, kind), n, e, rest)
	case store.SpaceLabel:
		node, n, err := k.ParseNumber()
		if err != nil {
			return err
		}
		note(of(l.labels, node), n, e, rest)
		drop(l.labels, node)
	}
	return nil
}

// of returns the pool of a name, making an empty one.
func of[K comparable](pools map[string]*pool[K], name string) *pool[K] {
	p := pools[name]
	if p == nil {
		p = newPool[K]()
		pools[name] = p
	}
	return p
}

// drop forgets a pool of which nothing is left.
func drop[K comparable](pools map[string]*pool[K], name string) {
	p := pools[name]
	if p != nil && len(p.used)+len(p.resting)+len(p.held) == 0 {
		delete(pools, name)
	}
}

// isOwned tells whether an object goes with its last attachment.
func (l *ledger) isOwned(uuid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owned[uuid]
}

// addressesOf returns the addresses in use of a scope.
func (l *ledger) addressesOf(scope string) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.addresses[scope]
	if !ok {
		return nil
	}
	return slices.Collect(maps.Keys(p.used))
}

// prefixesOf returns the prefixes of the pool that a network has.
func (l *ledger) prefixesOf(network string) []netip.Prefix {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []netip.Prefix
	for p, owner := range l.prefixes.used {
		if owner == network {
			list = append(list, p)
		}
	}
	return list
}

// tombstones returns all tombstones.
func (l *ledger) tombstones() map[store.Key]grave {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.tombs)
}

// tombOf returns the tombstone with a key.
func (l *ledger) tombOf(k store.Key) (grave, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok := l.tombs[k]
	return g, ok
}

// restingAddress is an address at rest.
type restingAddress struct {
	scope   string
	address netip.Addr
	lease   store.Lease
}

// restingAddresses returns all addresses at rest.
func (l *ledger) restingAddresses() []restingAddress {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []restingAddress
	for scope, p := range l.addresses {
		for a, r := range p.resting {
			list = append(list, restingAddress{scope, a, r.lease})
		}
	}
	return list
}

// pool is one set of things to give out. The ledger's mutex guards it.
type pool[K comparable] struct {
	used    map[K]string // owner
	resting map[K]rest
	held    map[K]int
	// cursor is where the next search begins, by the first of the range: going
	// on from the last given gives what was freed the longest rest.
	cursor map[K]K
}

// rest of a thing that was given back.
type rest struct {
	// since is the revision at which it began.
	since int64
	lease store.Lease
	// owner is who had it.
	owner string
}

func newPool[K comparable]() *pool[K] {
	return &pool[K]{used: map[K]string{}, resting: map[K]rest{}, held: map[K]int{}, cursor: map[K]K{}}
}

func note[K comparable](p *pool[K], k K, e store.Entry, resting bool) {
	switch {
	case resting && e.Deleted:
		delete(p.resting, k)
	case resting:
		p.resting[k] = rest{since: e.Modified, lease: e.Lease, owner: string(e.Value)}
	case e.Deleted:
		delete(p.used, k)
	default:
		p.used[k] = string(e.Value)
	}
}

// span is a range of things to choose from: count things from first on, each
// the next of the one before.
type span[K comparable] struct {
	first K
	count uint64
	next  func(K) K
	// contains tells whether a thing is in the range.
	contains func(K) bool
}

// choice is what a pool chose.
type choice[K comparable] struct {
	value K
	// early is set when the thing was still at rest, since this revision.
	early *rest
}

// choose finds a free thing in the first range that has one, and holds it.
// When all free ones are at rest, it takes the one that has rested longest.
func (p *pool[K]) choose(spans ...span[K]) (choice[K], bool) {
	for _, s := range spans {
		if k, ok := p.fresh(s); ok {
			p.held[k]++
			return choice[K]{value: k}, true
		}
	}
	var best choice[K]
	for _, s := range spans {
		if c := p.oldest(s); c.early != nil && (best.early == nil || c.early.since < best.early.since) {
			best = c
		}
	}
	if best.early == nil {
		return best, false
	}
	p.held[best.value]++
	return best, true
}

func (p *pool[K]) fresh(s span[K]) (K, bool) {
	k, ok := p.cursor[s.first]
	if !ok {
		k = s.first
	}
	// More than these cannot be in the way.
	tries := min(s.count, uint64(len(p.used)+len(p.resting)+len(p.held)+1))
	for range tries {
		if !s.contains(k) {
			k = s.first
		}
		candidate := k
		k = s.next(k)
		if p.free(candidate) {
			p.cursor[s.first] = k
			return candidate, true
		}
	}
	return k, false
}

func (p *pool[K]) free(k K) bool {
	_, used := p.used[k]
	_, resting := p.resting[k]
	return !used && !resting && p.held[k] == 0
}

func (p *pool[K]) oldest(s span[K]) choice[K] {
	var best choice[K]
	for k, r := range p.resting {
		if _, used := p.used[k]; used || p.held[k] > 0 || !s.contains(k) {
			continue
		}
		if best.early == nil || r.since < best.early.since {
			best = choice[K]{k, &r}
		}
	}
	return best
}

func (p *pool[K]) release(k K) {
	if p.held[k]--; p.held[k] <= 0 {
		delete(p.held, k)
	}
}

// count says how many of the ranges are in use (or about to be) and at rest.
func (p *pool[K]) count(spans ...span[K]) (used, resting int) {
	inside := func(k K) bool {
		return slices.ContainsFunc(spans, func(s span[K]) bool { return s.contains(k) })
	}
	for k := range p.used {
		if inside(k) {
			used++
		}
	}
	for k := range p.held {
		if _, counted := p.used[k]; !counted && inside(k) {
			used++
		}
	}
	for k := range p.resting {
		if inside(k) {
			resting++
		}
	}
	return used, resting
}
