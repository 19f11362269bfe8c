package dataplane

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unique"
)

// Identity is who is behind a port or at the end of a route, as policy sees it:
// a network, security groups and tags. It can be compared and be a map key. The
// zero Identity is nobody that is known: only rules for anybody, or for its
// address, match it.
type Identity struct {
	// code is the network, the number of groups, groups and tags. A handle, since
	// the routes of a node are many and who is at their ends are few: it is one
	// word to compare and to look for, and the text is there once.
	code unique.Handle[string]
}

// maxIdentityValues is how many groups and tags an identity may have together;
// IDENTITY_VALUES of the programs.
const maxIdentityValues = 126

// NewIdentity makes the identity of a network, groups and tags in any order.
func NewIdentity(network uint32, groups, tags []uint32) Identity {
	if network == 0 && len(groups) == 0 && len(tags) == 0 {
		return Identity{}
	}
	groups, tags = distinct(groups), distinct(tags)
	b := binary.BigEndian.AppendUint32(nil, network)
	b = binary.BigEndian.AppendUint32(b, uint32(len(groups)))
	for _, v := range slices.Concat(groups, tags) {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return identityOf(string(b))
}

// identityOf is the identity with the code, empty being nobody.
func identityOf(code string) Identity {
	if code == "" {
		return Identity{}
	}
	return Identity{unique.Make(code)}
}

// text is the code; of nobody it is empty.
func (i Identity) text() string {
	if i == (Identity{}) {
		return ""
	}
	return i.code.Value()
}

func distinct(list []uint32) []uint32 {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

func (i Identity) values() []uint32 {
	code := i.text()
	values := make([]uint32, len(code)/4)
	for n := range values {
		values[n] = binary.BigEndian.Uint32([]byte(code[4*n:]))
	}
	return values
}

// Network is the number of the network, 0 if there is none.
func (i Identity) Network() uint32 {
	if i == (Identity{}) {
		return 0
	}
	return i.values()[0]
}

// Groups are the numbers of the security groups, sorted.
func (i Identity) Groups() []uint32 {
	if i == (Identity{}) {
		return nil
	}
	v := i.values()
	return v[2 : 2+v[1]]
}

// Tags are the numbers of the tags, sorted.
func (i Identity) Tags() []uint32 {
	if i == (Identity{}) {
		return nil
	}
	v := i.values()
	return v[2+v[1]:]
}

// MarshalJSON writes the parts.
func (i Identity) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Network uint32   `json:"network"`
		Groups  []uint32 `json:"groups,omitempty"`
		Tags    []uint32 `json:"tags,omitempty"`
	}{i.Network(), i.Groups(), i.Tags()})
}

func (i Identity) validate() error {
	if n := len(i.text())/4 - 2; n > maxIdentityValues {
		return fmt.Errorf("identity has %d security groups and tags; the data plane knows up to %d", n, maxIdentityValues)
	}
	return nil
}

func toIdentity(i Identity) (c bpfIdentity) {
	groups, tags := i.Groups(), i.Tags()
	c.Network, c.Groups, c.Tags = i.Network(), uint16(len(groups)), uint16(len(tags))
	copy(c.Values[:], slices.Concat(groups, tags))
	return c
}

func fromIdentity(c bpfIdentity) Identity {
	groups := min(int(c.Groups), len(c.Values))
	end := min(groups+int(c.Tags), len(c.Values))
	return NewIdentity(c.Network, c.Values[:groups], c.Values[groups:end])
}

// identities returns what the numbers in routes and ports stand for.
func (t *Tables) identities() (map[uint32]Identity, error) {
	raw, err := entries[uint32, bpfIdentity](t.maps.IdentityV1, "identities")
	if err != nil {
		return nil, err
	}
	all := make(map[uint32]Identity, len(raw))
	for n, c := range raw {
		all[n] = fromIdentity(c)
	}
	return all, nil
}

// identityTable numbers the identities that routes and ports have. A number is
// never given again: a set decides about those that it was built with only, and
// they are the ones up to the highest number there was.
type identityTable struct {
	numbers map[Identity]uint32
	last    uint32
}

// adoptIdentities reads what an earlier process numbered.
func (d *Dataplane) adoptIdentities() error {
	all, err := d.identities()
	if err != nil {
		return err
	}
	d.who = identityTable{numbers: map[Identity]uint32{}}
	for n, i := range all {
		d.who.numbers[i] = n
		d.who.last = max(d.who.last, n)
	}
	return nil
}

// know numbers the identities that are new, and has every set know them before
// anything leads to them.
func (d *Dataplane) know(all []Identity) error {
	fresh := map[Identity]struct{}{}
	for _, i := range all {
		if _, known := d.who.numbers[i]; !known && i != (Identity{}) {
			fresh[i] = struct{}{}
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	for i := range fresh {
		d.who.last++
		if err := d.maps().IdentityV1.Put(d.who.last, toIdentity(i)); err != nil {
			if errors.Is(err, errTooMany) {
				err = fmt.Errorf("table of %d identities is full: %w", d.maps().IdentityV1.MaxEntries(), err)
			}
			return fmt.Errorf("write identity: %w", err)
		}
		d.who.numbers[i] = d.who.last
	}
	return d.extendSets(slices.Collect(maps.Keys(fresh)))
}

// sweepIdentities removes those that neither routes, by number, nor ports have.
func (d *Dataplane) sweepIdentities(used map[uint32]bool) error {
	for _, p := range d.policies.ports {
		used[p.Identity] = true
	}
	for i, n := range d.who.numbers {
		if used[n] {
			continue
		}
		if err := deleted(d.maps().IdentityV1.Delete(n)); err != nil {
			return fmt.Errorf("delete identity %d: %w", n, err)
		}
		delete(d.who.numbers, i)
	}
	return nil
}
