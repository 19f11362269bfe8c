package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/contrail-mesos/contrail/internal/model"
)

// item is a manifest with what is known of its object.
type item struct {
	*Manifest
	// uuid is empty while the object does not exist.
	uuid string
	live object
	etag string
	// refs are the references by key, in the manifest's order.
	refs map[string][]refItem
	// needs are the items that have to exist before this one: parent and
	// targets that are made too.
	needs []*item
	// later are the keys of references that close a circle: they are set when
	// all objects exist.
	later map[string]bool
}

// refItem is a reference to an item, or to an object that exists.
type refItem struct {
	to     *item
	target target
}

// plan is what a list of manifests means for what there is.
type plan struct {
	client *Client
	items  []*item
	byName map[string]*item
	mu     sync.Mutex
	ids    map[string]string // UUIDs by type and name, of what the manifests only refer to
}

// reading is how many objects are read at a time.
const reading = 8

func nameKey(kind model.Kind, name []string) string { return string(kind) + " " + model.FQString(name) }

// newPlan finds out what exists, and orders the manifests: parents and targets
// come first.
func (c *Client) newPlan(ctx context.Context, manifests []*Manifest) (*plan, error) {
	p := &plan{client: c, byName: map[string]*item{}, ids: map[string]string{}}
	for _, m := range manifests {
		key := nameKey(m.Type.Kind, m.Name)
		if other, twice := p.byName[key]; twice {
			return nil, m.errorf("it is already at %s; an object can be there once", other.Source)
		}
		i := &item{Manifest: m, refs: map[string][]refItem{}, later: map[string]bool{}}
		p.byName[key] = i
		p.items = append(p.items, i)
	}
	if err := p.readLive(ctx); err != nil {
		return nil, err
	}
	for _, i := range p.items {
		if err := p.connect(ctx, i); err != nil {
			return nil, err
		}
	}
	return p, p.order()
}

// readLive reads the objects that exist.
func (p *plan) readLive(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(reading)
	for _, i := range p.items {
		group.Go(func() error { return p.client.readItem(ctx, i) })
	}
	return group.Wait()
}

func (c *Client) readItem(ctx context.Context, i *item) error {
	id, err := c.idOf(ctx, i.Type, i.Name)
	if err == nil {
		i.live, i.etag, err = c.read(ctx, i.Type, id, map[string][]string{"exclude_children": {""}, "exclude_back_refs": {""}})
	}
	switch {
	case isNotFound(err):
		i.live, i.uuid = nil, ""
		return nil
	case err != nil:
		return i.errorf("%w", err)
	}
	i.uuid = id
	if given := i.Properties.text("uuid"); given != "" && given != id {
		return i.errorf("uuid is %s, and the object of this name has %s; leave uuid out, or delete that object first", given, id)
	}
	return nil
}

// connect finds the parent and the targets of an item.
func (p *plan) connect(ctx context.Context, i *item) error {
	if parent, ok := p.parentOf(i); ok && parent.live == nil {
		i.needs = append(i.needs, parent)
	}
	for key, list := range i.References {
		_, kind := i.Type.Classify(key)
		t, _ := model.TypeOf(string(kind))
		refs := make([]refItem, len(list))
		for n := range list {
			var err error
			if refs[n], err = p.find(ctx, t, &list[n]); err != nil {
				line := i.Source
				if list[n].line > 0 {
					line = i.line(list[n].line)
				}
				return at(line, fmt.Errorf("%s: %s[%d]: %w", i.id(), key, n, err))
			}
		}
		i.refs[key] = refs
	}
	return nil
}

// parentOf is the item that is the parent of another.
func (p *plan) parentOf(i *item) (*item, bool) {
	kinds := i.Type.Parents
	if i.ParentType != "" {
		kinds = []model.Kind{i.ParentType}
	}
	for _, kind := range kinds {
		if parent, ok := p.byName[nameKey(kind, i.Name[:len(i.Name)-1])]; ok {
			return parent, true
		}
	}
	return nil, false
}

// find finds what a reference is to.
func (p *plan) find(ctx context.Context, t *model.Type, r *reference) (refItem, error) {
	if r.uuid != "" {
		return refItem{target: target{uuid: r.uuid, attr: r.attr}}, nil
	}
	for _, name := range r.names {
		if i, ok := p.byName[nameKey(t.Kind, name)]; ok {
			return refItem{to: i, target: target{uuid: i.uuid, name: name, attr: r.attr}}, nil
		}
		id, err := p.id(ctx, t, name)
		if err != nil {
			return refItem{}, err
		}
		if id != "" {
			return refItem{target: target{uuid: id, name: name, attr: r.attr}}, nil
		}
	}
	return refItem{}, fmt.Errorf("%s %s does not exist, neither in the API nor in what is applied", t.Kind, r)
}

// id is the UUID of an object that is no item, empty when it does not exist.
func (p *plan) id(ctx context.Context, t *model.Type, name []string) (string, error) {
	key := nameKey(t.Kind, name)
	p.mu.Lock()
	id, known := p.ids[key]
	p.mu.Unlock()
	if known {
		return id, nil
	}
	id, err := p.client.idOf(ctx, t, name)
	if err != nil && !isNotFound(err) {
		return "", err
	}
	p.mu.Lock()
	p.ids[key] = id
	p.mu.Unlock()
	return id, nil
}

// order sorts the items so that parents and targets come before what needs
// them, and otherwise as they were written.
func (p *plan) order() error {
	const (
		unseen = iota
		open
		done
	)
	state := map[*item]int{}
	sorted := make([]*item, 0, len(p.items))
	var visit func(i *item) error
	visit = func(i *item) error {
		state[i] = open
		for _, parent := range i.needs {
			if state[parent] == open {
				return i.errorf("its parent %s is below it", parent.id())
			}
			if state[parent] == unseen {
				if err := visit(parent); err != nil {
					return err
				}
			}
		}
		for _, key := range sortedKeys(i.refs) {
			for _, r := range i.refs[key] {
				if r.to == nil || r.to.live != nil {
					continue
				}
				switch state[r.to] {
				case open:
					i.later[key] = true
				case unseen:
					if err := visit(r.to); err != nil {
						return err
					}
				}
			}
		}
		state[i] = done
		sorted = append(sorted, i)
		return nil
	}
	for _, i := range p.items {
		if state[i] == unseen {
			if err := visit(i); err != nil {
				return err
			}
		}
	}
	p.items = sorted
	return nil
}

// targets are the references of an item with the UUIDs that are known now;
// those of a key that is set later are left out unless all is there.
func (i *item) targets(all bool) map[string][]target {
	out := map[string][]target{}
	for key, list := range i.refs {
		if i.later[key] && !all {
			continue
		}
		targets := make([]target, len(list))
		for n, r := range list {
			targets[n] = r.target
			if r.to != nil {
				targets[n].uuid = r.to.uuid
			}
		}
		out[key] = targets
	}
	return out
}

// complete tells whether everything that the item refers to exists.
func (i *item) complete() bool {
	for _, parent := range i.needs {
		if parent.uuid == "" {
			return false
		}
	}
	for _, list := range i.refs {
		if slices.ContainsFunc(list, func(r refItem) bool { return r.to != nil && r.to.uuid == "" }) {
			return false
		}
	}
	return true
}

// creation are the fields to create the object with; references that close a
// circle only if all are asked for.
func (i *item) creation(all bool) object {
	fields := object{"fq_name": mustJSON(i.Name)}
	if i.ParentType != "" {
		fields["parent_type"] = mustJSON(i.ParentType)
	}
	for key, raw := range i.Properties {
		if !empty(raw) {
			fields[key] = raw
		}
	}
	for key, list := range i.targets(all) {
		if merged, _ := mergeReferences(i.Type, key, list, nil); len(merged) > 0 {
			fields[key] = mustJSON(merged)
		}
	}
	return fields
}
