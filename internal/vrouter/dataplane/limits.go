package dataplane

import (
	"errors"
	"fmt"
	"time"
)

// Limit is what may pass a port in one direction; the zero value is no limit.
// Bits are those of the container's frames, Ethernet header included. What is more
// is dropped, not queued.
type Limit struct {
	// Rate is in bits in a second, LeastRate to MostRate.
	Rate uint64 `json:"rate"`
	// Burst is how many bits may pass at once after a pause, at most MostBurst. TCP
	// makes pauses after a loss, so it is never less than what passes in LeastBurst:
	// see there.
	Burst uint64 `json:"burst"`
}

// Bounds of limits.
const (
	LeastRate = 1000 // bits in a second
	MostRate  = 1e12
	MostBurst = 8 << 32 // bits
)

// LeastBurst is how long a port may be silent and then make up for it, however
// small its burst. Without a queue TCP learns of the limit by losses, and where
// round trips are short it then often has nothing in flight but what was lost: it
// waits for its timeout, 200 ms at least (Linux), and twice that when it is lost
// again. What it may not make up for is lost to it. Measured at 1 Mbit/s to 1 Gbit/s,
// 100 ms give it half of the rate, 250 ms all of it most of the time.
const LeastBurst = 500 * time.Millisecond

func (l Limit) validate(name string) error {
	switch {
	case l == Limit{}:
		return nil
	case l.Rate == 0:
		return fmt.Errorf("%s burst %d without a rate", name, l.Burst)
	case l.Burst == 0:
		return fmt.Errorf("%s rate %d without a burst", name, l.Rate)
	case l.Rate < LeastRate || l.Rate > MostRate:
		return fmt.Errorf("%s rate %d is outside %d..%d bits in a second", name, l.Rate, LeastRate, uint64(MostRate))
	case l.Burst > MostBurst:
		return fmt.Errorf("%s burst %d is above %d bits", name, l.Burst, uint64(MostBurst))
	}
	return nil
}

// Of bpf/types.h.
const (
	limitDirs  = 2
	limitFrom  = 0
	limitTo    = 1
	limitShift = 20
)

func limitOf(slot uint32, dir uint32) uint32 { return slot*limitDirs + dir }

// bucket is the limit as the programs have it.
func (l Limit) bucket() bpfLimit {
	if l.Rate == 0 {
		return bpfLimit{}
	}
	burst := l.Burst * 1e6 / l.Rate * 1000 // the product has 56 bits at most
	return bpfLimit{
		Cost:  8 * uint64(time.Second) << limitShift / l.Rate,
		Burst: max(burst, uint64(LeastBurst)),
		Rate:  l.Rate, BurstBits: l.Burst,
	}
}

// putLimits gives a slot the limits of its port. A bucket that stays the same
// keeps what is in it.
func (d *Dataplane) putLimits(slot uint32, p Port) error {
	for dir, l := range map[uint32]Limit{limitFrom: p.Egress, limitTo: p.Ingress} {
		var there bpfLimit
		if err := d.maps().LimitV1.Lookup(limitOf(slot, dir), &there); err != nil {
			return fmt.Errorf("read limit: %w", err)
		}
		want := l.bucket()
		there.PaidUntil = 0
		if there == want {
			continue
		}
		if err := d.maps().LimitV1.Put(limitOf(slot, dir), want); err != nil {
			return fmt.Errorf("write limit: %w", err)
		}
	}
	return nil
}

// readLimits reads those of a slot into its port.
func (t *Tables) readLimits(slot uint32, p *Port) error {
	read := func(dir uint32) (Limit, error) {
		var b bpfLimit
		err := t.maps.LimitV1.Lookup(limitOf(slot, dir), &b)
		return Limit{Rate: b.Rate, Burst: b.BurstBits}, err
	}
	var from, to error
	p.Egress, from = read(limitFrom)
	p.Ingress, to = read(limitTo)
	if err := errors.Join(from, to); err != nil {
		return fmt.Errorf("read limits of port %d: %w", p.IfIndex, err)
	}
	return nil
}
