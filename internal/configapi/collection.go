package configapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// collection is a property whose elements are changed one by one.
type collection struct {
	elements model.Elements
	isMap    bool
	// rest of the property's value, beside the elements.
	rest map[string]json.RawMessage
	// values and positions are of the same length. The position of an element
	// of a map is its key.
	values    []json.RawMessage
	positions []string
	// at are the places of the elements by position, next is the number that
	// the next element gets; both are made for the first change.
	at   map[string][]int
	next int
	// removed elements leave a gap, which value closes.
	gaps int
}

// collection reads a property of an object.
func (a *API) collection(t *model.Type, o model.Object, name string) (*collection, error) {
	p, ok := t.Property(name)
	if !ok {
		return nil, invalid("Bad property in prop-collection: %s: %s does not have it", brief(name), t.Kind)
	}
	e, ok := p.Elements()
	if !ok {
		return nil, invalid("Bad property in prop-collection: %s of %s is neither a list nor a map; change it with PUT", name, t.Kind)
	}
	c := &collection{elements: e, isMap: p.Collection == "map"}
	encoded, err := model.Encode(o)
	if err != nil {
		return nil, err
	}
	var properties map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &properties); err != nil {
		return nil, fmt.Errorf("read back %s: %w", model.EntityOf(o), err)
	}
	if raw, ok := properties[name]; ok {
		if err := json.Unmarshal(raw, &c.rest); err != nil {
			return nil, fmt.Errorf("read back %s of %s: %w", name, model.EntityOf(o), err)
		}
		if err := json.Unmarshal(nonEmpty(c.rest[e.Field]), &c.values); err != nil {
			return nil, fmt.Errorf("read back %s of %s: %w", name, model.EntityOf(o), err)
		}
	}
	if !c.isMap {
		c.positions = a.positions.list(o.GetMeta().UUID, name, len(c.values))
		return c, nil
	}
	for _, v := range c.values {
		key, err := c.key(v)
		if err != nil {
			return nil, err
		}
		c.positions = append(c.positions, key)
	}
	return c, nil
}

func nonEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

// key is the name of an element of a map: a string or a number.
func (c *collection) key(value json.RawMessage) (string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil || isAbsent(fields[c.elements.Key]) {
		return "", invalid("Bad property in prop-collection-update: value is %s, want an object with the field %s", brief(string(value)), c.elements.Key)
	}
	raw := fields[c.elements.Key]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	return string(raw), nil
}

// value is the whole property, with its elements as they are now.
func (c *collection) value() (json.RawMessage, error) {
	c.closeGaps()
	if len(c.values) == 0 && len(c.rest) <= 1 {
		return json.RawMessage("null"), nil
	}
	list, err := json.Marshal(c.values)
	if err != nil {
		return nil, fmt.Errorf("encode elements: %w", err)
	}
	all := maps.Clone(c.rest)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	all[c.elements.Field] = list
	return encodeFields(all), nil
}

// elementUpdate is one change of one element.
type elementUpdate struct {
	Field     string          `json:"field"`
	Operation string          `json:"operation"`
	Value     json.RawMessage `json:"value"`
	// Position is a string; old clients send numbers for positions in lists.
	Position json.RawMessage `json:"position"`
}

func (u *elementUpdate) position() (string, error) {
	if isAbsent(u.Position) {
		return "", nil
	}
	var text string
	if json.Unmarshal(u.Position, &text) == nil {
		return text, nil
	}
	n, err := strconv.ParseUint(string(u.Position), 10, 31)
	if err != nil {
		return "", invalid("Bad Request, position of %s is %s; want a string", brief(u.Field), brief(string(u.Position)))
	}
	return strconv.FormatUint(n, 10), nil
}

// apply makes one change. Deleting what is not there succeeds, so that a
// request can be repeated.
func (c *collection) apply(u *elementUpdate) error {
	at, err := u.position()
	if err != nil {
		return err
	}
	c.index()
	operation := strings.ToLower(u.Operation)
	allowed := "add, modify or delete"
	if c.isMap {
		allowed = "set or delete"
	}
	switch {
	case operation == "delete" && at == "":
		return invalid("Bad Request, delete of an element of %s has no position", u.Field)
	case operation == "delete":
		c.remove(at)
		return nil
	case operation != "set" && c.isMap, operation != "add" && operation != "modify" && !c.isMap:
		return invalid("Bad Request: operation on %s should be %s: %s", u.Field, allowed, brief(u.Operation))
	case isAbsent(u.Value):
		return invalid("Bad Request, %s of an element of %s has no value", operation, u.Field)
	case c.isMap:
		return c.set(u, at)
	case operation == "add":
		return c.add(u, at)
	}
	places := c.at[at]
	if len(places) == 0 {
		return missing("%s has no element at position %s", u.Field, quoteText(at))
	}
	c.values[places[0]] = u.Value
	return nil
}

// index finds elements by their positions: a request may change many.
func (c *collection) index() {
	if c.at != nil {
		return
	}
	c.at, c.next = make(map[string][]int, len(c.positions)), len(c.positions)
	for i, p := range c.positions {
		c.at[p] = append(c.at[p], i)
		c.after(p)
	}
}

// after makes the next number a later one than a position.
func (c *collection) after(at string) {
	if n, err := strconv.Atoi(at); err == nil && n >= c.next && n < math.MaxInt {
		c.next = n + 1
	}
}

func (c *collection) remove(at string) {
	places := c.at[at]
	if len(places) == 0 {
		return
	}
	c.values[places[0]] = nil
	c.gaps++
	c.at[at] = places[1:]
}

func (c *collection) closeGaps() {
	if c.gaps == 0 {
		return
	}
	n := 0
	for i, v := range c.values {
		if v != nil {
			c.values[n], c.positions[n] = v, c.positions[i]
			n++
		}
	}
	c.values, c.positions, c.at, c.gaps = c.values[:n], c.positions[:n], nil, 0
}

func (c *collection) push(at string, value json.RawMessage) {
	c.at[at] = append(c.at[at], len(c.values))
	c.values, c.positions = append(c.values, value), append(c.positions, at)
	c.after(at)
}

func (c *collection) set(u *elementUpdate, at string) error {
	key, err := c.key(u.Value)
	if err != nil {
		return err
	}
	if at != "" && at != key {
		return invalid("Bad Request, position of %s is %s, but the value is that of %s", u.Field, quoteText(at), quoteText(key))
	}
	if places := c.at[key]; len(places) > 0 {
		c.values[places[0]] = u.Value
		return nil
	}
	c.push(key, u.Value)
	return nil
}

// longestPosition bounds what a client may call a position.
const longestPosition = 64

// add appends an element. Without a position it gets the next number.
func (c *collection) add(u *elementUpdate, at string) error {
	if len(at) > longestPosition {
		return invalid("Bad Request, position of %s has %d bytes; at most %d are possible", u.Field, len(at), longestPosition)
	}
	if at == "" {
		at = strconv.Itoa(max(c.next, len(c.values)-c.gaps))
	}
	if len(c.at[at]) > 0 {
		return taken("%s has an element at position %s already; modify it", u.Field, quoteText(at))
	}
	c.push(at, u.Value)
	return nil
}

// collectionGet answers the elements of lists and maps with their positions.
func (a *API) collectionGet(r *http.Request) (*answer, error) {
	q := r.URL.Query()
	id, err := bodyID("uuid", q.Get("uuid"))
	if err != nil {
		return nil, err
	}
	fields := csv(q.Get("fields"))
	if len(fields) == 0 {
		return nil, invalid("Bad Request, no fields; name the properties to read")
	}
	out := &answer{}
	result := map[string][][2]any{}
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		d, ok := find(v, "", id)
		may := a.accessOf(r.Context(), v)
		if !ok || !may.mayReadDerived(v, d) {
			err = missing("ID %s does not exist", id)
			return
		}
		t, _ := model.TypeOf(string(d.object.Kind()))
		for _, name := range fields {
			if result[name] != nil {
				continue // asked for twice
			}
			if err = may.mayReadField(v, d, name); err != nil {
				return
			}
			var c *collection
			if c, err = a.collection(t, d.object, name); err != nil {
				return
			}
			result[name] = [][2]any{}
			for i, value := range c.values {
				if !q.Has("position") || q.Get("position") == c.positions[i] {
					result[name] = append(result[name], [2]any{value, c.positions[i]})
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	out.body = result
	return out, nil
}

// collectionUpdate changes elements of lists and maps, all of them or none.
func (a *API) collectionUpdate(r *http.Request) (*answer, error) {
	var q struct {
		UUID    string          `json:"uuid"`
		Updates []elementUpdate `json:"updates"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	id, err := bodyID("uuid", q.UUID)
	if err != nil {
		return nil, err
	}
	at, err := a.write(r.Context(), audit{"prop-collection-update", id}, func(c *change) error {
		d, ok := find(c.v, "", id)
		switch {
		case !ok || !c.may.mayName(c.v, d):
			return missing("ID %s does not exist", id)
		case d.isView():
			return followsFrom(d, "changed")
		}
		o := d.object
		// Before an answer tells which elements there are.
		if err := c.may.mayWrite(o, opUpdate, fieldsOfUpdates(q.Updates)...); err != nil {
			return err
		}
		if len(q.Updates) == 0 {
			return nil
		}
		t, _ := model.TypeOf(string(o.Kind()))
		g, err := a.updated(t, o, q.Updates)
		if err != nil {
			return err
		}
		return c.update(t, o, g, &perms{})
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at}, nil
}

// fieldsOfUpdates are the fields that updates change, each once.
func fieldsOfUpdates(updates []elementUpdate) []string {
	seen := map[string]bool{}
	for i := range updates {
		seen[updates[i].Field] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// updated is what a client would have to send with PUT to make the changes.
func (a *API) updated(t *model.Type, o model.Object, updates []elementUpdate) (*given, error) {
	collections := map[string]*collection{}
	for i := range updates {
		u := &updates[i]
		c, ok := collections[u.Field]
		if !ok {
			var err error
			if c, err = a.collection(t, o, u.Field); err != nil {
				return nil, err
			}
			collections[u.Field] = c
		}
		if err := c.apply(u); err != nil {
			return nil, err
		}
	}
	g := &given{properties: map[string]json.RawMessage{}, positions: map[string][]string{}}
	for name, c := range collections {
		value, err := c.value()
		if err != nil {
			return nil, err
		}
		g.properties[name] = value
		if !c.isMap {
			g.positions[name] = c.positions
		}
	}
	return g, nil
}
