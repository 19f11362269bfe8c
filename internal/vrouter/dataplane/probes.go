package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
)

// Probe is how the agent reaches a port from its prober: the port that it asks,
// the address of it, and who asks as far as the port sees.
type Probe struct {
	IfIndex int        `json:"ifindex"`
	Address netip.Addr `json:"address"`
	Source  netip.Addr `json:"source"`
}

// AttachProber makes a device the one that probes come from: whatever comes in
// by it goes to the port of its destination, or nowhere.
func (d *Dataplane) AttachProber(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attachProgram(ifindex, d.objects.ProbeRx, proberFilter)
}

// Probes returns the probes by alias, the address that the port has for the
// prober.
func (d *Dataplane) Probes() (map[netip.Addr]Probe, error) {
	raw, err := entries[uint32, bpfProbe](d.maps().ProbeV1, "probes")
	if err != nil {
		return nil, err
	}
	all := make(map[netip.Addr]Probe, len(raw))
	for alias, p := range raw {
		all[fromWord(alias)] = Probe{int(p.Ifindex), fromWord(p.Addr), fromWord(p.Source)}
	}
	return all, nil
}

// PutProbe gives a port an alias. All addresses are IPv4.
func (d *Dataplane) PutProbe(alias netip.Addr, p Probe) error {
	if !alias.Is4() || !p.Address.Is4() || !p.Source.Is4() {
		return fmt.Errorf("put probe %s: %s from %s: want IPv4 addresses", alias, p.Address, p.Source)
	}
	raw := bpfProbe{Ifindex: uint32(p.IfIndex), Addr: toWord(p.Address), Source: toWord(p.Source)}
	if err := d.maps().ProbeV1.Put(toWord(alias), raw); err != nil {
		return fmt.Errorf("put probe %s: %w", alias, err)
	}
	return nil
}

// DeleteProbe takes an alias back, and no longer awaits answers to it. Absent is
// success.
func (d *Dataplane) DeleteProbe(alias netip.Addr) error {
	err := deleted(d.maps().ProbeV1.Delete(toWord(alias)))
	var key bpfProbeKey
	var to bpfProber
	// A walk that the program disturbs is not repeated: what it misses gets old.
	for it := d.maps().ProbeAnswerV1.Iterate(); it.Next(&key, &to); {
		if to.Alias == toWord(alias) {
			err = errors.Join(err, deleted(d.maps().ProbeAnswerV1.Delete(key)))
		}
	}
	if err != nil {
		return fmt.Errorf("delete probe %s: %w", alias, err)
	}
	return nil
}
