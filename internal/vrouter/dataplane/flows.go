package dataplane

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// Ages say after how long without a packet a flow is forgotten.
type Ages struct {
	TCP, UDP, Other time.Duration
}

// DefaultAges are the ages an agent uses if it is told nothing else. A TCP
// connection costs nothing but its entry when it is forgotten too early: the
// next packet enters it again.
func DefaultAges() Ages {
	return Ages{TCP: 3 * time.Minute, UDP: 3 * time.Minute, Other: time.Minute}
}

func (a Ages) of(protocol uint8) time.Duration {
	switch protocol {
	case 6:
		return a.TCP
	case 17:
		return a.UDP
	}
	return a.Other
}

// SweepFlows deletes the flows that had no packet for the time given, by the
// clock of Now, and sets the count of each port's flows right. It returns the
// number of flows deleted and left.
func (d *Dataplane) SweepFlows(now time.Duration, ages Ages) (removed, live int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	removed, live, err = d.sweep(func(f rawFlow) bool {
		return now-time.Duration(f.value.LastSeen) > ages.of(f.key.Proto)
	})
	if err != nil {
		return removed, live, fmt.Errorf("sweep flows: %w", err)
	}
	return removed, live, nil
}

// purgeFlows deletes the flows from and to a port.
func (d *Dataplane) purgeFlows(ifindex int) error {
	_, _, err := d.sweep(func(f rawFlow) bool {
		return int(f.value.Ifindex) == ifindex ||
			f.value.Nh.Kind == uint32(Local) && int(f.value.Nh.Ifindex) == ifindex
	})
	if err != nil {
		return fmt.Errorf("purge flows: %w", err)
	}
	return nil
}

// sweep deletes the flows that match. Then it sets the number of flows gone of
// each slot to those made before less those found: a sum that heals whatever a
// crash left. A flow made while it reads may be found, too; then the port's
// count is too high by it until the next sweep, never too low for long.
func (d *Dataplane) sweep(match func(rawFlow) bool) (removed, live int, err error) {
	made, err := d.slotValues(d.maps().FlowMadeV1)
	if err != nil {
		return 0, 0, err
	}
	left := make(map[uint32]uint32, len(made))
	for f, err := range d.rawFlows() {
		if err != nil {
			return removed, live, err
		}
		if !match(f) {
			left[f.value.Slot]++
			live++
			continue
		}
		if err := deleted(d.maps().FlowV1.Delete(f.key)); err != nil {
			return removed, live, fmt.Errorf("delete flow: %w", err)
		}
		removed++
	}
	for slot, n := range made {
		if err := d.maps().FlowGoneV1.Put(slot, n-left[slot]); err != nil {
			return removed, live, fmt.Errorf("count flows of slot %d: %w", slot, err)
		}
	}
	return removed, live, nil
}

// slotValues reads a per-port array for the slots in use.
func (d *Dataplane) slotValues(m *ebpf.Map) (map[uint32]uint32, error) {
	values := make(map[uint32]uint32, len(d.slots))
	for _, slot := range d.slots {
		var v uint32
		if err := m.Lookup(slot, &v); err != nil {
			return nil, fmt.Errorf("read count of slot %d: %w", slot, err)
		}
		values[slot] = v
	}
	return values, nil
}

// PortFlowCount returns how many flows count against a port's quota.
func (d *Dataplane) PortFlowCount(ifindex int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slot, ok := d.slots[ifindex]
	if !ok {
		return 0, fmt.Errorf("count flows of port %d: %w", ifindex, ErrNoPort)
	}
	var made, gone uint32
	if err := d.maps().FlowMadeV1.Lookup(slot, &made); err != nil {
		return 0, fmt.Errorf("count flows of port %d: %w", ifindex, err)
	}
	if err := d.maps().FlowGoneV1.Lookup(slot, &gone); err != nil {
		return 0, fmt.Errorf("count flows of port %d: %w", ifindex, err)
	}
	return int(int32(made - gone)), nil
}
