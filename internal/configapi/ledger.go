package configapi

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/contrail-mesos/contrail/internal/store"
)

// ledger is what the store has given out and what is at rest. It follows the
// store; its answers are hints. Whoever takes something from it holds it until
// the transaction is over, so that writers of this process do not choose the
// same. Who has what is not kept here: the store knows. Safe for concurrent
// use.
type ledger struct {
	mu sync.Mutex
	books
	// revision up to which the books are kept.
	revision atomic.Int64
	// loading is for the goroutine that follows the store.
	loading *ledger
}

// books are the entries of a ledger.
type books struct {
	addresses map[space]*pool
	// allocated are the addresses that ip-alloc gave, by the network's UUID.
	allocated map[space]*pool
	prefixes  *prefixPool
	numbers   map[string]*pool // by kind
	labels    map[string]*pool // by node
	owned     map[string]bool  // uuids that go with their last attachment
	tombs     map[store.Key]grave
}

// space is where addresses are unique: those of one family in one scope.
type space struct {
	scope string
	six   bool
}

func spaceOf(scope string, a netip.Addr) space { return space{scope, a.Is6()} }

// indexOf is the place of an address in its space.
func indexOf(a netip.Addr) index {
	if a.Is4() {
		b := a.As4()
		return index{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return index{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addressAt is the address at a place.
func addressAt(i index, six bool) netip.Addr {
	if !six {
		return netip.AddrFrom4([4]byte{byte(i.lo >> 24), byte(i.lo >> 16), byte(i.lo >> 8), byte(i.lo)})
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], i.hi)
	binary.BigEndian.PutUint64(b[8:], i.lo)
	return netip.AddrFrom16(b)
}

func newLedger() *ledger {
	return &ledger{books: books{
		addresses: map[space]*pool{},
		allocated: map[space]*pool{},
		prefixes:  newPrefixPool(),
		numbers:   map[string]*pool{},
		labels:    map[string]*pool{},
		owned:     map[string]bool{},
		tombs:     map[store.Key]grave{},
	}}
}

// Reset implements store.Follower.
func (l *ledger) Reset(_ uint64, revision int64) error {
	l.loading = newLedger()
	l.loading.revision.Store(revision)
	return nil
}

// Load implements store.Follower.
func (l *ledger) Load(entries []store.Entry) error { return l.loading.apply(entries) }

// Loaded implements store.Follower. What writers hold is forgotten: their
// guards keep them right.
func (l *ledger) Loaded() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books = l.loading.books
	l.revision.Store(l.loading.revision.Load())
	l.loading = nil
	return nil
}

// Apply implements store.Follower.
func (l *ledger) Apply(revision int64, changes []store.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revision.Store(revision)
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
		note(l.addresses, spaceOf(scope, address), indexOf(address), e, rest)
	case store.SpaceAllocated:
		network, address, err := k.ParseAddress()
		if err != nil {
			return err
		}
		note(l.allocated, spaceOf(network, address), indexOf(address), e, rest)
	case store.SpacePrefix:
		p, err := k.ParsePrefix()
		if err != nil {
			return err
		}
		l.prefixes.note(p, e, rest)
	case store.SpaceNumber:
		kind, n, err := k.ParseNumber()
		if err != nil {
			return err
		}
		note(l.numbers, kind, index{lo: uint64(n)}, e, rest)
	case store.SpaceLabel:
		node, n, err := k.ParseNumber()
		if err != nil {
			return err
		}
		note(l.labels, node, index{lo: uint64(n)}, e, rest)
	}
	return nil
}

// note records what the store says of a thing in a pool.
func note[K comparable](pools map[K]*pool, of K, i index, e store.Entry, rest bool) {
	poolOf(pools, of).note(i, e, rest)
	drop(pools, of)
}

// poolOf returns a pool, making an empty one.
func poolOf[K comparable](pools map[K]*pool, of K) *pool {
	p := pools[of]
	if p == nil {
		p = newPool()
		pools[of] = p
	}
	return p
}

// drop forgets a pool of which nothing is left.
func drop[K comparable](pools map[K]*pool, of K) {
	if p := pools[of]; p != nil && p.empty() {
		delete(pools, of)
	}
}

// noteCrowd notes that another controller took an address, a label or a number
// that this one had chosen.
func (l *ledger) noteCrowd(k store.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var p *pool
	switch k.Space() {
	case store.SpaceAddress:
		if scope, address, err := k.ParseAddress(); err == nil {
			p = l.addresses[spaceOf(scope, address)]
		}
	case store.SpaceLabel:
		if node, _, err := k.ParseNumber(); err == nil {
			p = l.labels[node]
		}
	case store.SpaceNumber:
		// Numbers stay low: route targets have no room for all of them.
		if kind, _, err := k.ParseNumber(); err == nil {
			if p = l.numbers[kind]; p != nil {
				p.near = true
			}
		}
	}
	if p != nil {
		p.crowded = true
	}
}

// isOwned tells whether an object goes with its last attachment.
func (l *ledger) isOwned(uuid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owned[uuid]
}

// isUsed tells whether an address is in use in a scope.
func (l *ledger) isUsed(scope string, a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.addresses[spaceOf(scope, a)]
	return p != nil && p.isUsed(indexOf(a))
}

// isLabelUsed tells whether a label is in use on a node.
func (l *ledger) isLabelUsed(node string, label uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.labels[node]
	return p != nil && p.isUsed(index{lo: uint64(label)})
}

// isNumberUsed tells whether a number of a kind is in use.
func (l *ledger) isNumberUsed(kind string, n uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.numbers[kind]
	return p != nil && p.isUsed(index{lo: uint64(n)})
}

// isPrefixUsed tells whether a network has a prefix of the pool.
func (l *ledger) isPrefixUsed(p netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, used := l.prefixes.used[p]
	return used
}

// isAllocated tells whether a network has an address by ip-alloc.
func (l *ledger) isAllocated(network string, a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.allocated[spaceOf(network, a)]
	return p != nil && p.isUsed(indexOf(a))
}

func anyAddress(netip.Addr) bool { return true }

// firstUsed is the lowest address in use of a scope from low to high, of one
// family, that f accepts.
func (l *ledger) firstUsed(scope string, low, high netip.Addr, f func(netip.Addr) bool) (netip.Addr, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return firstOf(l.addresses[spaceOf(scope, low)], low, high, f)
}

// firstAllocated is the lowest address from low to high, of one family, that a
// network has by ip-alloc.
func (l *ledger) firstAllocated(network string, low, high netip.Addr) (netip.Addr, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return firstOf(l.allocated[spaceOf(network, low)], low, high, anyAddress)
}

func firstOf(p *pool, low, high netip.Addr, f func(netip.Addr) bool) (netip.Addr, bool) {
	if p == nil {
		return netip.Addr{}, false
	}
	six := low.Is6()
	i, ok := p.findUsed(indexOf(low), indexOf(high), func(i index) bool { return f(addressAt(i, six)) })
	return addressAt(i, six), ok
}

// usage says how many addresses of the spans are in use and at rest.
func (l *ledger) usage(in space, spans []span) (used, resting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.addresses[in]
	if p == nil {
		return 0, 0
	}
	return p.count(spans...)
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
