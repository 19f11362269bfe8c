package configapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// finding is one key of the store that does not fit to the others.
type finding struct {
	Key     store.Key `json:"key"`
	Problem string    `json:"problem"`
}

// checker looks at a whole store as of one revision.
type checker struct {
	kinds    map[string]model.Kind // of objects, by uuid
	keys     map[store.Key]string
	findings []finding
}

// checkStore finds references without ends, names, children and addresses
// without objects, and objects without names or parents. Nothing of this can
// come from the API; it can from a store that was edited or damaged.
func checkStore(entries []store.Entry) []finding {
	c := &checker{kinds: map[string]model.Kind{}, keys: make(map[store.Key]string, len(entries)), findings: []finding{}}
	for _, e := range entries {
		c.keys[e.Key] = string(e.Value)
		if e.Key.Space() != store.SpaceObject {
			continue
		}
		if s, err := e.Key.Split(2); err == nil {
			c.kinds[s[1]] = model.Kind(s[0])
		}
	}
	for _, e := range entries {
		if err := c.check(e); err != nil {
			c.add(e.Key, "%v", err)
		}
	}
	slices.SortFunc(c.findings, func(a, b finding) int { return cmp.Compare(a.Key, b.Key) })
	return c.findings
}

func (c *checker) add(k store.Key, format string, args ...any) {
	c.findings = append(c.findings, finding{k, fmt.Sprintf(format, args...)})
}

// exists tells whether there is an object, or a network that it follows from.
func (c *checker) exists(kind model.Kind, id string) bool {
	if have, ok := c.kinds[id]; ok {
		return have == kind
	}
	return kind == model.KindRoutingInstance && c.kinds[compile.NetworkOfInstance(id)] == model.KindVirtualNetwork
}

func (c *checker) check(e store.Entry) error {
	switch e.Key.Space() {
	case store.SpaceObject:
		return c.object(e)
	case store.SpaceName:
		s, err := e.Key.Split(2)
		if err == nil && !c.exists(model.Kind(s[0]), string(e.Value)) {
			c.add(e.Key, "names %s %s, which does not exist", s[0], e.Value)
		}
		return err
	case store.SpaceChild:
		s, err := e.Key.Split(3)
		if err == nil && !c.exists(model.Kind(s[1]), s[2]) {
			c.add(e.Key, "%s %s does not exist", s[1], s[2])
		}
		return err
	case store.SpaceRef:
		s, err := e.Key.Split(4)
		if err != nil {
			return err
		}
		for _, end := range [][]string{s[:2], s[2:]} {
			if !c.exists(model.Kind(end[0]), end[1]) {
				c.add(e.Key, "%s %s does not exist", end[0], end[1])
			}
		}
	case store.SpaceBinding, store.SpaceOwned, store.SpacePosition:
		s, err := e.Key.Split(1)
		if err == nil {
			c.owner(e.Key, s[0])
		}
		return err
	case store.SpaceAddress, store.SpacePrefix, store.SpaceNumber, store.SpaceLabel, store.SpaceMAC:
		c.owner(e.Key, string(e.Value))
	case store.SpaceAllocated:
		network, address, err := e.Key.ParseAddress()
		if err != nil {
			return err
		}
		if _, ok := c.keys[store.AddressKey(string(e.Value), address)]; !ok {
			c.add(e.Key, "%s of %s is not in use", address, e.Value)
		}
		c.owner(e.Key, network)
	}
	return nil
}

// owner finds what belongs to an object that does not exist. Owners that are
// no ids are not objects.
func (c *checker) owner(k store.Key, id string) {
	if _, ok := c.kinds[id]; !ok && model.IsUUID(id) {
		c.add(k, "belongs to %s, which does not exist", id)
	}
}

// object checks that an object has its name and its parent.
func (c *checker) object(e store.Entry) error {
	s, err := e.Key.Split(2)
	if err != nil {
		return err
	}
	var m model.Meta
	if err := json.Unmarshal(e.Value, &m); err != nil {
		return err
	}
	entity := model.Entity{Kind: model.Kind(s[0]), UUID: s[1]}
	if m.UUID != entity.UUID {
		c.add(e.Key, "has the uuid %q", m.UUID)
	}
	if owner := c.keys[store.NameKey(entity.Kind, m.FQName)]; owner != entity.UUID {
		c.add(e.Key, "its name %s is that of %q", model.FQString(m.FQName), owner)
	}
	if m.ParentUUID == "" {
		return nil
	}
	if !c.exists(model.Kind(m.ParentType), m.ParentUUID) {
		c.add(e.Key, "its parent %s %s does not exist", m.ParentType, m.ParentUUID)
	}
	if _, ok := c.keys[store.ChildKey(m.ParentUUID, entity)]; !ok {
		c.add(e.Key, "its parent %s does not know it", m.ParentUUID)
	}
	return nil
}
