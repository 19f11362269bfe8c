package configapi

import (
	"encoding/json"
	"fmt"

	"github.com/contrail-mesos/contrail/internal/store"
)

// grave is a tombstone as the ledger knows it. A detach whose order is known
// forbids what was asked for up to it; one whose order is not forbids all.
type grave struct {
	lease store.Lease
	// revision at which it was written, 0 for none.
	revision int64
	// sequence up to which attachments are forbidden; 0 is all of them.
	sequence uint64
}

// epitaph is the value of a tombstone's key. An empty one has no sequence.
type epitaph struct {
	Sequence uint64 `json:"sequence,omitempty"`
}

// readGrave takes what it cannot read for one that forbids all.
func readGrave(e store.Entry) grave {
	var text epitaph
	if json.Unmarshal(e.Value, &text) != nil {
		text = epitaph{}
	}
	return grave{lease: e.Lease, revision: e.Modified, sequence: text.Sequence}
}

// forbids tells whether an attach with this sequence came too late.
func (g grave) forbids(attach uint64) bool {
	return g.sequence == 0 || attach == 0 || attach <= g.sequence
}

// covers tells whether a detach with this sequence has nothing to add.
func (g grave) covers(detach uint64) bool {
	return g.sequence == 0 || detach != 0 && detach <= g.sequence
}

// guardTomb makes a tombstone, or that there is none, a condition.
func (c *change) guardTomb(k store.Key, g grave) {
	if g.revision == 0 {
		c.Guard(store.Guard{Condition: store.Absent, Key: k})
		return
	}
	// It may end meanwhile.
	c.Guard(store.Guard{Condition: store.NotSince, Key: k, Revision: g.revision})
}

// tombstone leaves a tombstone for a key of an attachment: the one that is
// there stays if it forbids more.
func (c *change) tombstone(k store.Key, sequence uint64) error {
	if c.leases == nil {
		return errNeedLeases
	}
	g, ok := c.api.ledger.tombOf(k)
	if ok && g.covers(sequence) {
		sequence = g.sequence
	}
	c.guardTomb(k, g)
	value, err := json.Marshal(epitaph{sequence})
	if err != nil {
		return fmt.Errorf("encode tombstone: %w", err)
	}
	c.PutLeased(k, value, c.leases.tomb)
	return nil
}
