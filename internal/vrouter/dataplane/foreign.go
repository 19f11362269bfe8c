package dataplane

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// ForeignAddress is one that a port has in another network. Others send to it
// there, and what the port sends into that network is from it.
type ForeignAddress struct {
	Address netip.Addr `json:"address"`
	VRF     uint32     `json:"vrf"`
	// Fixed is the port's own address that it is translated to and from; Address
	// itself for an alias, which the port uses as it is.
	Fixed netip.Addr `json:"fixed"`
	// AnswersOnly: the port does not begin anything by it.
	AnswersOnly bool `json:"answers_only,omitempty"`
}

// MaxForeign is how many a port may have; FOREIGN_ADDRS of the programs says the
// same.
const MaxForeign = 16

func compareForeign(a, b ForeignAddress) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.VRF, b.VRF))
}

func (f ForeignAddress) validate() error {
	switch {
	case !f.Address.Is4() || !f.Fixed.Is4():
		return fmt.Errorf("foreign address %s for %s is not IPv4", f.Address, f.Fixed)
	case f.VRF == 0:
		return fmt.Errorf("foreign address %s: vrf is 0; numbers start at 1", f.Address)
	}
	return nil
}

func validateForeign(list []ForeignAddress) error {
	if len(list) > MaxForeign {
		return fmt.Errorf("%d foreign addresses; a port may have %d", len(list), MaxForeign)
	}
	for i, f := range list {
		if err := f.validate(); err != nil {
			return err
		}
		if slices.ContainsFunc(list[:i], func(g ForeignAddress) bool { return f.Address == g.Address }) {
			return fmt.Errorf("foreign address %s is there twice", f.Address)
		}
	}
	return nil
}

// foreignBegins is FOREIGN_BEGINS of the programs.
const foreignBegins = 1

func toForeign(f ForeignAddress) bpfForeignAddr {
	c := bpfForeignAddr{Vrf: f.VRF, Addr: toWord(f.Address), Fixed: toWord(f.Fixed)}
	if !f.AnswersOnly {
		c.Flags = foreignBegins
	}
	return c
}

func fromForeign(c *bpfForeign) []ForeignAddress {
	var list []ForeignAddress
	for _, a := range c.Addr[:min(c.Count, MaxForeign)] {
		list = append(list, fromForeignAddr(a))
	}
	return list
}

func fromForeignAddr(a bpfForeignAddr) ForeignAddress {
	return ForeignAddress{
		Address: fromWord(a.Addr), VRF: a.Vrf, Fixed: fromWord(a.Fixed), AnswersOnly: a.Flags&foreignBegins == 0,
	}
}

// addLostForeign adds to ports what the programs still take for theirs although
// their list has it no more.
func (t *Tables) addLostForeign(ports map[int]Port, vifs map[int]bpfVif) error {
	all, err := entries[bpfPortAddrKey, bpfForeignAddr](t.maps.ForeignAddrV1, "foreign addresses")
	if err != nil {
		return err
	}
	for key, c := range all {
		ifindex, address := int(key.Ifindex), fromAddr(key.Addr)
		p, ok := ports[ifindex]
		if !ok || vifs[ifindex].Foreign == 0 || slices.ContainsFunc(p.Foreign, func(f ForeignAddress) bool { return f.Address == address }) {
			continue
		}
		p.Foreign = append(p.Foreign, fromForeignAddr(c))
		ports[ifindex] = p
	}
	return nil
}

// putForeign writes the addresses that a port has in other networks.
func (d *Dataplane) putForeign(p Port) error {
	list := bpfForeign{Count: uint32(len(p.Foreign))}
	for i, f := range p.Foreign {
		list.Addr[i] = toForeign(f)
		key := bpfPortAddrKey{Ifindex: uint32(p.IfIndex), Addr: toAddr(f.Address)}
		if err := d.maps().ForeignAddrV1.Put(key, list.Addr[i]); err != nil {
			return fmt.Errorf("write foreign address %s: %w", f.Address, err)
		}
	}
	if err := d.maps().ForeignV1.Put(uint32(p.IfIndex), list); err != nil {
		return fmt.Errorf("write foreign addresses: %w", err)
	}
	return nil
}

// trimForeign removes what the maps have of such addresses and the port has not.
func (d *Dataplane) trimForeign(p Port) error {
	all, err := entries[bpfPortAddrKey, bpfForeignAddr](d.maps().ForeignAddrV1, "foreign addresses")
	if err != nil {
		return err
	}
	for key := range all {
		address := fromAddr(key.Addr)
		if int(key.Ifindex) != p.IfIndex || slices.ContainsFunc(p.Foreign, func(f ForeignAddress) bool { return f.Address == address }) {
			continue
		}
		if err := deleted(d.maps().ForeignAddrV1.Delete(key)); err != nil {
			return fmt.Errorf("delete foreign address %s: %w", address, err)
		}
	}
	if len(p.Foreign) > 0 {
		return nil
	}
	if err := deleted(d.maps().ForeignV1.Delete(uint32(p.IfIndex))); err != nil {
		return fmt.Errorf("delete foreign addresses: %w", err)
	}
	return nil
}
