package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Transactions that come while others are under way wait for them, and are then
// sent together: one request, one entry of the log, one revision. In it each
// keeps its own guards, and happens or not by itself:
//
//	if   epoch and fence are as they were, and the guards hold that all have
//	then if A's own guards hold then A's puts and deletes
//	     if B's own guards hold then B's puts and deletes
//
// etcd looks at all guards before it writes anything, so only those go together
// of which none writes what another writes or has a guard on: whatever happens
// of them is then what would have happened one after the other, in any order.
//
// Nothing waits for others to come: one that comes alone goes at once.
const (
	// underWay is how many requests are on their way before others wait. With
	// more of them groups are smaller, and every process pays for each revision.
	underWay = 1
	// holdTime is how long one that is not answered keeps others waiting: what
	// a dying leader swallowed must not stop those that the next one would take.
	holdTime = 50 * time.Millisecond
	// mostMembers and mostBytes bound a group.
	mostMembers = 32
	mostBytes   = 256 << 10
	// mostShared bounds what is asked for once.
	mostShared = mostMembers - 2
	// What is bigger than these goes alone and at once. etcd takes the number of
	// members, or of guards before them, off what a member may have.
	memberOps   = 96
	memberBytes = 64 << 10
)

// What goes together fits into an etcd that was not told to take more.
const _ = uint(defaultOps - mostMembers - memberOps)

// groups are the transactions on their way to the store, and those that wait.
type groups struct {
	store *Store

	mu      sync.Mutex
	flying  int
	waiting []*member
}

// member is a transaction that waits for its turn.
type member struct {
	txn      *Txn
	deadline time.Time
	done     chan outcome // of one
}

// outcome is the store's answer to one transaction.
type outcome struct {
	held     bool // the guards did
	revision int64
	fence    int64 // that was demanded
	err      error
}

// send has a transaction sent and returns what became of it.
func (g *groups) send(ctx context.Context, t *Txn) outcome {
	if !t.fitsGroup() {
		// Not counted: a stream of these would keep the others waiting.
		return t.commit(ctx, g.store.fence.Load())
	}
	g.mu.Lock()
	if g.flying < underWay {
		g.flying++
		fence := g.store.fence.Load()
		g.mu.Unlock()
		defer g.hold()()
		return t.commit(ctx, fence)
	}
	m := &member{txn: t, done: make(chan outcome, 1)}
	m.deadline, _ = ctx.Deadline()
	g.waiting = append(g.waiting, m)
	g.mu.Unlock()
	select {
	case o := <-m.done:
		return o
	case <-ctx.Done():
		g.leave(m)
		return outcome{err: fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())}
	}
}

// leave has a transaction not sent, unless it already was: then its fence was
// read before now, and one that is raised from now on stops it.
func (g *groups) leave(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w == m {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

// hold is called when something was sent, and what it returns when that was
// answered: others go on then, or after holdTime.
func (g *groups) hold() (answered func()) {
	var once sync.Once
	next := func() { once.Do(g.next) }
	timer := time.AfterFunc(holdTime, next)
	return func() {
		timer.Stop()
		next()
	}
}

// next lets those go that wait, now that one fewer is under way.
func (g *groups) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying--
	for g.flying < underWay && len(g.waiting) > 0 {
		g.flying++
		together := g.take()
		// Read in the same moment as they are taken, see leave.
		fence := g.store.fence.Load()
		go func() {
			defer g.hold()()
			g.store.commitGroup(together, fence)
		}()
	}
}

// take takes those that wait longest and can go together.
func (g *groups) take() []*member {
	var together []*member
	rest := g.waiting[:0]
	var all footprint
	size := 0
	for _, m := range g.waiting {
		if len(together) > 0 && (len(together) == mostMembers || size+m.txn.size > mostBytes ||
			m.txn.epoch != together[0].txn.epoch || all.meets(m.txn)) {
			rest = append(rest, m)
			continue
		}
		together = append(together, m)
		size += m.txn.size
		all.add(m.txn)
	}
	clear(g.waiting[len(rest):])
	g.waiting = rest
	return together
}

// fitsGroup tells whether a transaction is small enough to go with others.
func (t *Txn) fitsGroup() bool {
	return t.count <= memberOps && len(t.guards) <= memberOps && t.size <= memberBytes
}

// footprint is what transactions write and have guards on.
type footprint struct {
	written, guarded map[Key]bool
	ranges           []Key
}

func (f *footprint) add(t *Txn) {
	if f.written == nil {
		f.written, f.guarded = map[Key]bool{}, map[Key]bool{}
	}
	for k := range t.keys {
		f.written[k] = true
	}
	for _, g := range t.guards {
		if g.ofRange() {
			f.ranges = append(f.ranges, g.Key)
		} else {
			f.guarded[g.Key] = true
		}
	}
}

// meets tells whether the transaction writes what is in the footprint, or has a
// guard on what is written there.
func (f *footprint) meets(t *Txn) bool {
	for k := range t.keys {
		if f.written[k] || f.guarded[k] {
			return true
		}
		for _, r := range f.ranges {
			if strings.HasPrefix(string(k), string(r)) {
				return true
			}
		}
	}
	for _, g := range t.guards {
		if !g.ofRange() {
			if f.written[g.Key] {
				return true
			}
			continue
		}
		for k := range f.written {
			if strings.HasPrefix(string(k), string(g.Key)) {
				return true
			}
		}
	}
	return false
}

// commit sends one transaction.
func (t *Txn) commit(ctx context.Context, fence int64) outcome {
	operations := t.operations()
	fields := make([]byte, 0, len(operations)+t.guardSize())
	fields = t.store.appendDuring(t.appendGuards(fields, nil), t.epoch, fence)
	resp, err := t.store.transact(ctx, append(fields, operations...))
	if err != nil {
		return outcome{err: t.store.reason(err)}
	}
	return outcome{held: resp.Succeeded, revision: resp.Header.Revision, fence: fence}
}

// commitGroup sends transactions together and tells each what became of it.
func (s *Store) commitGroup(together []*member, fence int64) {
	ctx, cancel := context.WithDeadline(s.client.Ctx(), latest(together))
	defer cancel()
	if len(together) == 1 {
		together[0].done <- together[0].txn.commit(ctx, fence)
		return
	}
	shared := sharedGuards(together)
	first := together[0].txn
	var fields, own []byte
	fields = s.appendDuring(make([]byte, 0, sizeOf(together)), first.epoch, fence)
	for _, g := range first.guards {
		if shared[g] {
			fields = s.appendGuard(fields, g)
		}
	}
	for _, m := range together {
		own = m.txn.appendGuards(own[:0], shared)
		fields = appendTxn(fields, own, m.txn.operations())
	}
	resp, err := s.transact(ctx, fields)
	if err != nil {
		err = s.reason(err)
	}
	if errors.Is(err, ErrLeaseGone) || errors.Is(err, ErrTooBig) {
		// Nothing was written, for the sake of one of them.
		for _, m := range together {
			m.done <- m.txn.commit(ctx, fence)
		}
		return
	}
	for i, m := range together {
		o := outcome{err: err}
		if err == nil {
			o = outcome{revision: resp.Header.Revision, fence: fence}
			o.held = resp.Succeeded && resp.Responses[i].GetResponseTxn().Succeeded
		}
		m.done <- o
	}
}

// guardSize is about how many bytes the guards have on the wire.
func (t *Txn) guardSize() int { return (len(t.guards) + 2) * 160 }

// sizeOf is about how many bytes a group has on the wire.
func sizeOf(together []*member) int {
	size := 0
	for _, m := range together {
		size += len(m.txn.ops) + m.txn.guardSize()
	}
	return size
}

// sharedGuards are those that all have: they are asked for once, before each
// one's own. Where one does not hold, none of the transactions would have happened.
func sharedGuards(together []*member) map[Guard]bool {
	shared := map[Guard]bool{}
	for g := range together[0].txn.guarded {
		if len(shared) < mostShared && !slices.ContainsFunc(together, func(m *member) bool { return !m.txn.guarded[g] }) {
			shared[g] = true
		}
	}
	return shared
}

// latest is when the last of them stops waiting.
func latest(together []*member) time.Time {
	var last time.Time
	for _, m := range together {
		if m.deadline.IsZero() {
			return time.Now().Add(requestTimeout)
		}
		if m.deadline.After(last) {
			last = m.deadline
		}
	}
	return last
}
