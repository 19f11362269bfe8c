package dataplane

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"
	"unsafe"
)

// FlowID tells an entry of the flow table from all others that there were on the
// node since it was booted. It stays the same while the entry is there, whoever
// reads it.
type FlowID [16]byte

func (id FlowID) String() string { return hex.EncodeToString(id[:]) }

// FlowTotals are one direction of a conversation with what it has counted.
type FlowTotals struct {
	Flow
	ID FlowID
	// Peer is who is at the other end of a tunnel.
	Peer Identity
	// Ended: the entry is gone, and these are its last counts.
	Ended bool
}

// Conversation is both directions. Either may be nil: what has no answer yet, or
// what answers a flow that is forgotten already.
type Conversation struct {
	Begins, Answers *FlowTotals
}

// Changes says what of the flow table somebody wants to know, by times of the
// clock of Now.
type Changes struct {
	// Made after, or a packet seen after.
	Made, Seen time.Duration
	// Pace is called after so many entries have been read. It may wait, and an
	// error ends the reading.
	Pace func(entries int) error
}

// paceEvery is how many entries are read between two calls of Changes.Pace.
const paceEvery = 4096

// Changed yields the conversations of which a direction has changed; one of two
// changed directions may come twice. An error ends it.
func (t *Tables) Changed(c Changes) iter.Seq2[Conversation, error] {
	return func(yield func(Conversation, error) bool) {
		names, read := t.newNames(), 0
		for f, err := range t.rawFlows() {
			if err == nil {
				if read++; read%paceEvery == 0 && c.Pace != nil {
					err = c.Pace(paceEvery)
				}
			}
			var conversation Conversation
			if err == nil {
				if !c.has(f) {
					continue
				}
				conversation, err = t.changed(f, c, names)
			}
			if err != nil {
				yield(Conversation{}, err)
				return
			}
			if conversation != (Conversation{}) && !yield(conversation, nil) {
				return
			}
		}
	}
}

func (c Changes) has(f rawFlow) bool {
	return f.value.Packets > 0 && (time.Duration(f.value.Created) > c.Made || time.Duration(f.value.LastSeen) > c.Seen)
}

// changed is the conversation of a changed flow, empty where the other direction
// brings it.
func (t *Tables) changed(f rawFlow, c Changes, names *flowNames) (Conversation, error) {
	if err := names.read(); err != nil {
		return Conversation{}, err
	}
	other, err := t.reverseOf(f, names.vifs)
	if err != nil {
		return Conversation{}, err
	}
	if f.value.Role == flowAnswers && other != nil && other.value.Role != flowAnswers && c.has(*other) {
		return Conversation{}, nil
	}
	return names.conversation(f, other, false), nil
}

// flowNames is what a walk through the flow table needs to tell of entries, read
// once and not before the first one.
type flowNames struct {
	tables *Tables
	vifs   map[int]bpfVif
	who    map[uint32]Identity
	now    generations
}

func (t *Tables) newNames() *flowNames { return &flowNames{tables: t} }

func (n *flowNames) read() (err error) {
	if n.vifs != nil {
		return nil
	}
	if n.who, err = n.tables.identities(); err != nil {
		return err
	}
	if n.now, err = n.tables.generations(); err != nil {
		return err
	}
	n.vifs, err = n.tables.vifs()
	return err
}

// conversation is that of an entry and the one of its other direction, if any.
func (n *flowNames) conversation(f rawFlow, other *rawFlow, ended bool) Conversation {
	first, second := n.totals(f, ended), (*FlowTotals)(nil)
	if other != nil && other.value.Packets > 0 && other.value.Role != f.value.Role {
		second = n.totals(*other, false)
	}
	if f.value.Role == flowAnswers {
		return Conversation{Begins: second, Answers: first}
	}
	return Conversation{Begins: first, Answers: second}
}

func (n *flowNames) totals(f rawFlow, ended bool) *FlowTotals {
	return &FlowTotals{
		Flow: fromFlow(f.key, f.value, n.now), ID: flowID(f), Peer: n.who[f.value.Nh.Identity], Ended: ended,
	}
}

// flowID is made of what an entry keeps for its life.
func flowID(f rawFlow) (id FlowID) {
	const size = unsafe.Sizeof(bpfFlowKey{})
	var name [size + 8]byte
	copy(name[:], (*[size]byte)(unsafe.Pointer(&f.key))[:])
	binary.LittleEndian.PutUint64(name[size:], f.value.Created)
	sum := sha256.Sum256(name[:])
	copy(id[:], sum[:])
	return id
}

// OnFlowEnd has f told of the flows that are removed from the table, with their
// last counts. It is called while the data plane is locked and must not wait. Nil
// is nobody, as before the first call.
func (d *Dataplane) OnFlowEnd(f func(Conversation)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flowEnded = f
}

// errHalfTold is not that the entry is still there.
var errHalfTold = errors.New("a flow's end is told without its other direction")

// forget removes an entry, and tells of its end who wants to know.
func (d *Dataplane) forget(f rawFlow, names *flowNames) error {
	if d.flowEnded == nil {
		return deleted(d.maps().FlowV3.Delete(f.key))
	}
	if err := names.read(); err != nil {
		return err
	}
	last := rawFlow{key: f.key}
	if err := d.maps().FlowV3.LookupAndDelete(f.key, &last.value); err != nil {
		return deleted(err) // policy ended it meanwhile, and told so
	}
	if last.value.Packets == 0 {
		return nil
	}
	other, err := d.reverseOf(last, names.vifs)
	d.flowEnded(names.conversation(last, other, true)) // nobody else can tell any more
	if err != nil {
		return fmt.Errorf("%w: %w", errHalfTold, err)
	}
	return nil
}
