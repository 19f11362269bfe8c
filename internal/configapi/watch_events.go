package configapi

import (
	"cmp"
	"maps"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// watchBatch is how many objects are taken out of the graph at once: the
// memory that a watcher needs beside names.
const watchBatch = 200

// tell sends what changed.
func (s *watchStream) tell(c model.Changes) error {
	if !s.started {
		s.started, s.mode = true, s.api.tenancy.Mode()
		if missed, ok := s.resume(); ok {
			if err := s.write([]byte(": resumed\n\n")); err != nil { // there may be no event for long
				return err
			}
			return s.inOrder(missed, c.Position)
		}
		kinds := slices.Sorted(maps.Keys(s.types))
		for i, kind := range kinds {
			id := ""
			if i == len(kinds)-1 {
				id = s.idOf(c.Position)
			}
			if err := s.init(kind, id); err != nil {
				return err
			}
		}
		return nil
	}
	dirty := map[model.Entity]struct{}{}
	mode := s.api.tenancy.Mode()
	if c.Everything || mode != s.mode || s.rightsChanged(c) {
		s.mode, s.policies = mode, policyIndex{}
		for kind := range s.types {
			s.everything(dirty, kind)
		}
	} else {
		s.named(dirty, c)
	}
	return s.inOrder(dirty, c.Position)
}

// inOrder sends what became of objects. With that everything up to the position
// was told.
func (s *watchStream) inOrder(dirty map[model.Entity]struct{}, at model.Position) error {
	order := slices.SortedFunc(maps.Keys(dirty), func(a, b model.Entity) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.UUID, b.UUID))
	})
	for len(order) > watchBatch {
		if err := s.events(order[:watchBatch], ""); err != nil {
			return err
		}
		order = order[watchBatch:]
	}
	return s.events(order, s.idOf(at))
}

// resumable tells whether a client of the stream can come again: what it knows
// at a position is then all that there was.
func (s *watchStream) resumable() bool {
	for kind := range s.types {
		if hasViews(kind) {
			return false
		}
	}
	var reads bool
	s.api.graph.View(func(v *model.View) { reads = s.api.accessOf(s.ctx, v).reads })
	return reads
}

func (s *watchStream) idOf(p model.Position) string {
	if !s.resumable() {
		return ""
	}
	return eventID(p)
}

// resume goes on after the event that the client had last, if it is known what
// happened since, and returns the objects that it was not told of.
func (s *watchStream) resume() (missed map[model.Entity]struct{}, ok bool) {
	last, ok := parseEventID(s.lastID)
	if !ok || !s.resumable() {
		return nil, false
	}
	// First what there is, then what changed: what is made between the two is
	// among the changes, and not taken for known.
	at := s.api.graph.Position()
	for kind := range s.types {
		for _, id := range s.ids(kind) {
			s.known[kind][id] = struct{}{}
		}
	}
	changed, ok := s.api.history.since(last)
	if !ok || last.Revision > at.Revision {
		for kind := range s.types {
			clear(s.known[kind])
		}
		return nil, false
	}
	missed = map[model.Entity]struct{}{}
	for e, made := range changed {
		if s.types[e.Kind] == "" {
			continue
		}
		missed[e] = struct{}{}
		if made {
			delete(s.known[e.Kind], e.UUID)
		} else {
			s.known[e.Kind][e.UUID] = struct{}{}
		}
	}
	return missed, true
}

// rightsChanged tells whether others than the changed objects may be visible now.
func (s *watchStream) rightsChanged(c model.Changes) bool {
	var all bool
	s.api.graph.View(func(v *model.View) { all = s.api.accessOf(s.ctx, v).all })
	if all {
		return false
	}
	for e := range c.Objects {
		if e.Kind == model.KindAPIAccessList || e.Kind == model.KindProject {
			return true
		}
	}
	return false
}

// everything adds all objects of a kind, and those that the client believes in.
func (s *watchStream) everything(dirty map[model.Entity]struct{}, kind model.Kind) {
	for _, id := range s.ids(kind) {
		dirty[model.Entity{Kind: kind, UUID: id}] = struct{}{}
	}
	for id := range s.known[kind] {
		dirty[model.Entity{Kind: kind, UUID: id}] = struct{}{}
	}
}

// connects are the kinds that give routing instances references to others and
// to route targets. Which ones is not looked for: they change seldom.
var connects = map[model.Kind]bool{
	model.KindLogicalRouter: true, model.KindNetworkPolicy: true, model.KindBGPVPN: true,
	model.KindServiceInstance: true, model.KindServiceTemplate: true, model.KindRoutingInstance: true,
}

// reaches are the kinds that say how the services of chains are reached, which
// their routing instances show.
var reaches = map[model.Kind]bool{
	model.KindVirtualNetwork: true, model.KindNetworkIPAM: true, model.KindPortTuple: true,
	model.KindVirtualMachineInterface: true, model.KindInstanceIP: true,
}

// named adds the objects that are named, and the views that follow from them.
func (s *watchStream) named(dirty map[model.Entity]struct{}, c model.Changes) {
	add := func(e model.Entity) {
		if s.types[e.Kind] != "" {
			dirty[e] = struct{}{}
		}
	}
	targets, instances, services := false, false, false
	for e := range c.Objects {
		add(e)
		services = services || reaches[e.Kind]
		switch e.Kind {
		case model.KindVirtualNetwork:
			add(model.Entity{Kind: model.KindRoutingInstance, UUID: compile.InstanceUUID(e.UUID)})
			targets = true
		case model.KindGlobalSystemConfig: // its autonomous system is in all targets
			instances = true
		default:
			instances = instances || connects[e.Kind]
		}
	}
	for e := range c.References {
		add(e.From)
		instances = instances || connects[e.From.Kind] || connects[e.To.Kind] && e.From.Kind != model.KindVirtualMachineInterface
		services = services || reaches[e.From.Kind]
	}
	if services {
		for id := range s.known[model.KindRoutingInstance] {
			if compile.IsServiceView(id) {
				add(model.Entity{Kind: model.KindRoutingInstance, UUID: id})
			}
		}
	}
	if s.types[model.KindBGPRouter] != "" && s.routersMayChange(c) {
		s.everything(dirty, model.KindBGPRouter)
	}
	if instances {
		targets = true
		if s.types[model.KindRoutingInstance] != "" {
			s.everything(dirty, model.KindRoutingInstance)
		}
	}
	s.changedAccessLists(dirty, c)
	if targets && s.types[model.KindRouteTarget] != "" {
		s.changedTargets(dirty)
	}
}

// routersMayChange tells whether a change may make the routers of BGP services
// others: there is such a service, or there was.
func (s *watchStream) routersMayChange(c model.Changes) bool {
	for e := range c.Objects {
		if e.Kind == model.KindBGPAsAService {
			return true
		}
	}
	for e := range c.References {
		if e.From.Kind == model.KindBGPAsAService {
			return true
		}
	}
	for id := range s.known[model.KindBGPRouter] {
		if compile.IsBGPServiceView(id) {
			return slices.ContainsFunc(slices.Collect(maps.Keys(c.Objects)), func(e model.Entity) bool {
				return reaches[e.Kind] || e.Kind == model.KindGlobalSystemConfig
			})
		}
	}
	return false
}

// changedTargets adds the views of route targets that came or went.
func (s *watchStream) changedTargets(dirty map[model.Entity]struct{}) {
	known := s.known[model.KindRouteTarget]
	now := map[string]struct{}{}
	for _, id := range s.ids(model.KindRouteTarget) {
		now[id] = struct{}{}
		if _, ok := known[id]; !ok {
			dirty[model.Entity{Kind: model.KindRouteTarget, UUID: id}] = struct{}{}
		}
	}
	for id := range known {
		if _, ok := now[id]; !ok {
			dirty[model.Entity{Kind: model.KindRouteTarget, UUID: id}] = struct{}{}
		}
	}
}

// ids are those of all objects and views of a kind, sorted.
func (s *watchStream) ids(kind model.Kind) []string {
	var list []string
	s.api.graph.View(func(v *model.View) {
		for e := range all(v, kind) {
			list = append(list, e.UUID)
		}
	})
	slices.Sort(list)
	return list
}

// take takes objects that the caller may read out of the graph.
func (s *watchStream) take(kind model.Kind, ids []string) (map[string]item, *selection) {
	found := map[string]item{}
	selected := &selection{refs: true, hrefs: true, base: s.base, entries: newEntries()}
	s.api.graph.View(func(v *model.View) {
		selected.may = s.api.accessOf(s.ctx, v)
		for _, id := range ids {
			if e, ok := findEntry(v, kind, id); ok && selected.may.readsEntry(v, &e) {
				found[id] = collectItem(v, e, selected)
			}
		}
	})
	return found, selected
}

// init sends the state of a type: one event, written piece by piece.
func (s *watchStream) init(kind model.Kind, eventID string) error {
	b := appendString(append(appendID(nil, eventID), "event: init\ndata: {"...), s.types[kind]+"s")
	b = append(b, ":["...)
	first := true
	for batch := range slices.Chunk(s.ids(kind), watchBatch) {
		found, selected := s.take(kind, batch)
		for _, id := range batch {
			i, ok := found[id]
			if !ok {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = s.appendObject(b, &i, selected)
			s.known[kind][id] = struct{}{}
		}
		if err := s.write(b); err != nil {
			return err
		}
		b = b[:0]
	}
	return s.write(append(b, "]}\n\n"...))
}

func (s *watchStream) appendObject(b []byte, i *item, selected *selection) []byte {
	b = append(appendString(append(b, '{'), s.types[i.Kind]), ':')
	return append(i.appendTo(b, selected), '}')
}

// appendID gives the event that follows an id, unless that is empty.
func appendID(b []byte, id string) []byte {
	if id == "" {
		return b
	}
	return append(append(append(b, "id: "...), id...), '\n')
}

// events sends what became of objects, which are sorted by kind. The last event
// has the id.
func (s *watchStream) events(batch []model.Entity, eventID string) error {
	var b []byte
	last := 0
	for len(batch) > 0 {
		n := 1
		for n < len(batch) && batch[n].Kind == batch[0].Kind {
			n++
		}
		kind := batch[0].Kind
		ids := make([]string, n)
		for i := range ids {
			ids[i] = batch[i].UUID
		}
		found, selected := s.take(kind, ids)
		for _, id := range ids {
			before := len(b)
			if b = s.appendEvent(b, kind, id, found, selected); len(b) > before {
				last = before
			}
		}
		batch = batch[n:]
	}
	if len(b) == 0 {
		return nil
	}
	return s.write(slices.Insert(b, last, appendID(nil, eventID)...))
}

func (s *watchStream) appendEvent(b []byte, kind model.Kind, id string, found map[string]item, selected *selection) []byte {
	_, known := s.known[kind][id]
	i, ok := found[id]
	switch {
	case ok && !known:
		s.known[kind][id] = struct{}{}
		b = append(b, "event: create\ndata: "...)
	case ok:
		b = append(b, "event: update\ndata: "...)
	case known:
		delete(s.known[kind], id)
		b = appendString(append(b, "event: delete\ndata: {"...), s.types[kind])
		b = appendString(append(b, `:{"uuid":`...), id)
		return append(b, "}}\n\n"...)
	default:
		return b
	}
	return append(s.appendObject(b, &i, selected), "\n\n"...)
}
