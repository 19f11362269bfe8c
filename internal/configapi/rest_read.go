package configapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// selection is what of an object a client asks for.
type selection struct {
	// fields restricts the answer; nil means all but children and back references.
	fields map[string]bool
	// children, backRefs and refs tell what to collect.
	children, backRefs, refs bool
	hrefs                    bool
	base                     string
}

func selectionOf(q url.Values, at string) *selection {
	s := &selection{refs: true, hrefs: !q.Has("exclude_hrefs"), base: at}
	if list := csv(q.Get("fields")); list != nil {
		s.fields = map[string]bool{}
		for _, f := range list {
			s.fields[f] = true
		}
		s.children, s.backRefs = true, true
	}
	return s
}

func (s *selection) wants(field string) bool {
	return s.fields == nil || s.fields[field] || always[field]
}

// always are the fields that every answer has.
var always = map[string]bool{
	"uuid": true, "fq_name": true, "href": true, "id_perms": true, "perms2": true,
	"name": true, "parent_type": true, "parent_uuid": true, "parent_href": true, "display_name": true,
}

func csv(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// link is an element of a list of references, children or back references.
type link struct {
	To   []string         `json:"to"`
	UUID string           `json:"uuid"`
	HREF string           `json:"href,omitempty"`
	Attr *json.RawMessage `json:"attr,omitempty"`
}

// item is an object with what hangs on it, taken out of a view so that it can
// be encoded outside.
type item struct {
	object model.Object
	links  map[string][]link
}

var noAttr = json.RawMessage("null")

// collectItem takes an object out of a view.
func collectItem(v *model.View, d derived, s *selection) item {
	i := item{d.object, map[string][]link{}}
	e := model.EntityOf(d.object)
	add := func(field string, target model.Entity, attr json.RawMessage, withAttr bool) {
		if !s.wants(field) {
			return
		}
		o, ok := findNear(v, d, target)
		if !ok {
			return
		}
		l := link{To: o.GetMeta().FQName, UUID: target.UUID}
		if s.hrefs {
			l.HREF = href(s.base, target)
		}
		if withAttr {
			l.Attr = &noAttr
			if len(attr) > 0 {
				l.Attr = &attr
			}
		}
		i.links[field] = append(i.links[field], l)
	}
	if s.refs {
		for _, r := range append(d.refs, v.References(e.UUID, "")...) {
			add(r.To.Kind.Name()+"_refs", r.To, r.Attr, true)
		}
	}
	if s.children {
		for _, child := range v.Children(e.UUID, "") {
			add(child.Kind().Name()+"s", model.EntityOf(child), nil, false)
		}
		if e.Kind == model.KindVirtualNetwork && s.wants("routing_instances") {
			for _, d := range deriveOf(v, e.UUID) {
				if d.object.Kind() == model.KindRoutingInstance {
					l := link{To: d.object.GetMeta().FQName, UUID: d.object.GetMeta().UUID}
					if s.hrefs {
						l.HREF = href(s.base, model.EntityOf(d.object))
					}
					i.links["routing_instances"] = append(i.links["routing_instances"], l)
				}
			}
		}
	}
	if s.backRefs {
		for _, r := range v.BackReferences(e.UUID, "") {
			add(r.From.Kind.Name()+"_back_refs", r.From, r.Attr, true)
		}
	}
	return i
}

// findNear finds what an object is linked with: what was derived from the same
// network is looked for there first.
func findNear(v *model.View, d derived, target model.Entity) (model.Object, bool) {
	if o, ok := v.Find(target.UUID); ok {
		return o, true
	}
	if d.network != "" {
		for _, other := range deriveOf(v, d.network) {
			if other.object.GetMeta().UUID == target.UUID {
				return other.object, true
			}
		}
	}
	found, ok := find(v, target.Kind, target.UUID)
	return found.object, ok
}

// encode makes the JSON of an item.
func (i *item) encode(s *selection) (json.RawMessage, error) {
	data, err := model.Encode(i.object)
	if err != nil {
		return nil, err
	}
	m := i.object.GetMeta()
	extra := map[string]any{"name": m.Name()}
	if s.hrefs {
		extra["href"] = href(s.base, model.EntityOf(i.object))
		if m.ParentUUID != "" {
			extra["parent_href"] = href(s.base, model.Entity{Kind: model.Kind(m.ParentType), UUID: m.ParentUUID})
		}
	}
	for field, list := range i.links {
		extra[field] = list
	}
	if s.fields != nil {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, err
		}
		maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return !s.wants(name) })
		data = encodeFields(all)
	}
	more, err := json.Marshal(extra)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(len(data) + len(more))
	b.Write(data[:len(data)-1])
	if len(data) > len("{}") {
		b.WriteByte(',')
	}
	b.Write(more[1:])
	return b.Bytes(), nil
}

func (a *API) readObject(r *http.Request) (*answer, error) {
	t, err := typeOf(r)
	if err != nil {
		return nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	s := selectionOf(q, base(r))
	s.children, s.backRefs = !q.Has("exclude_children"), !q.Has("exclude_back_refs")
	var got item
	var found bool
	out := &answer{}
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		var d derived
		if d, found = find(v, t.Kind, id); found {
			got = collectItem(v, d, s)
		}
	})
	if !found {
		return nil, notFound(t.Kind, id)
	}
	data, err := got.encode(s)
	if err != nil {
		return nil, err
	}
	if p := got.object.GetMeta().IDPerms; p != nil {
		out.etag = strconv.Quote(p.LastModified)
	}
	out.body = map[string]json.RawMessage{string(t.Kind): data}
	return out, nil
}

// listQuery says which objects of a type a client asks for.
type listQuery struct {
	parents, backRefs, uuids []string
	names                    map[string]bool
	filters                  map[string][]string
	detail, count            bool
	marker                   string
	limit                    int
	*selection
}

func listQueryOf(r *http.Request) (*listQuery, error) {
	q := r.URL.Query()
	l := &listQuery{
		parents: csv(strings.ToLower(q.Get("parent_id"))), backRefs: csv(strings.ToLower(q.Get("back_ref_id"))),
		uuids: csv(strings.ToLower(q.Get("obj_uuids"))), selection: selectionOf(q, base(r)),
		detail: isTrue(q.Get("detail")), count: isTrue(q.Get("count")), marker: q.Get("page_marker"),
	}
	if list := csv(q.Get("fq_names")); list != nil {
		l.names = map[string]bool{}
		for _, n := range list {
			l.names[n] = true
		}
	}
	if text := q.Get("page_limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, invalid("Invalid page_limit %q; want a positive number", brief(text))
		}
		l.limit = n
	} else if l.marker != "" {
		l.limit = defaultPage
	}
	return l, l.readFilters(q.Get("filters"))
}

const defaultPage = 256

// isTrue reads booleans as clients of every language write them.
func isTrue(s string) bool { return strings.EqualFold(s, "true") }

func (l *listQuery) readFilters(text string) error {
	if text == "" {
		return nil
	}
	l.filters = map[string][]string{}
	for _, part := range splitFilters(text) {
		name, value, ok := strings.Cut(part, "==")
		if !ok || !json.Valid([]byte(value)) {
			return invalid("Invalid filter %s; write property==JSON", brief(part))
		}
		l.filters[name] = append(l.filters[name], canonical(json.RawMessage(value)))
	}
	return nil
}

// splitFilters splits at commas that are not inside of JSON.
func splitFilters(text string) []string {
	var parts []string
	depth, start, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// matches tells whether an object is asked for.
func (l *listQuery) matches(v *model.View, d derived) (bool, error) {
	m := d.object.GetMeta()
	switch {
	case l.parents != nil && !slices.Contains(l.parents, m.ParentUUID),
		l.uuids != nil && !slices.Contains(l.uuids, m.UUID),
		l.names != nil && !l.names[model.FQString(m.FQName)]:
		return false, nil
	}
	if l.backRefs != nil && !slices.ContainsFunc(l.backRefs, func(to string) bool {
		_, ok := v.Reference(m.UUID, to)
		return ok || slices.ContainsFunc(d.refs, func(r model.Reference) bool { return r.To.UUID == to })
	}) {
		return false, nil
	}
	if l.filters == nil {
		return true, nil
	}
	encoded, err := model.Encode(d.object)
	if err != nil {
		return false, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &all); err != nil {
		return false, err
	}
	for name, values := range l.filters {
		if isAbsent(all[name]) || !slices.Contains(values, canonical(all[name])) {
			return false, nil
		}
	}
	return true, nil
}

func (a *API) listObjects(r *http.Request) (*answer, error) {
	t, err := typeOfCollection(r)
	if err != nil {
		return nil, err
	}
	l, err := listQueryOf(r)
	if err != nil {
		return nil, err
	}
	out := &answer{}
	var items []item
	total, more := 0, false
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		var found []derived
		if found, err = l.find(v, t.Kind); err != nil {
			return
		}
		total = len(found)
		if l.count {
			return
		}
		found, more = l.page(found)
		items = make([]item, len(found))
		for i, d := range found {
			if l.detail || l.fields != nil {
				items[i] = collectItem(v, d, l.selection)
			} else {
				items[i].object = d.object
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if l.count {
		out.body = map[string]any{t.Collection(): map[string]int{"count": total}}
		return out, nil
	}
	out.body, err = l.encode(t, items, more)
	return out, err
}

// find returns the objects that match, in the order of their UUIDs.
func (l *listQuery) find(v *model.View, kind model.Kind) ([]derived, error) {
	var found []derived
	add := func(d derived) error {
		ok, err := l.matches(v, d)
		if ok {
			found = append(found, d)
		}
		return err
	}
	if l.uuids != nil || l.parents != nil {
		seen := map[string]bool{}
		for _, o := range l.candidates(v, kind) {
			if id := o.GetMeta().UUID; !seen[id] {
				seen[id] = true
				if err := add(derived{object: o}); err != nil {
					return nil, err
				}
			}
		}
	} else {
		for o := range v.All(kind) {
			if err := add(derived{object: o}); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range derive(v, kind) {
		if err := add(d); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b derived) int { return cmp.Compare(a.object.GetMeta().UUID, b.object.GetMeta().UUID) })
	return found, nil
}

// candidates are the stored objects that a query by ids can mean.
func (l *listQuery) candidates(v *model.View, kind model.Kind) []model.Object {
	var list []model.Object
	if l.uuids != nil {
		for _, id := range l.uuids {
			if o, ok := v.Object(kind, id); ok {
				list = append(list, o)
			}
		}
		return list
	}
	for _, p := range l.parents {
		list = slices.AppendSeq(list, v.ChildSeq(p, kind))
	}
	return list
}

// page cuts out the page that is asked for.
func (l *listQuery) page(found []derived) ([]derived, bool) {
	if l.limit == 0 {
		return found, false
	}
	i, exact := slices.BinarySearchFunc(found, l.marker, func(d derived, id string) int {
		return cmp.Compare(d.object.GetMeta().UUID, id)
	})
	if exact {
		i++
	}
	found = found[i:]
	if len(found) <= l.limit {
		return found, false
	}
	return found[:l.limit], true
}

func (l *listQuery) encode(t *model.Type, items []item, more bool) (json.RawMessage, error) {
	list := make([]json.RawMessage, len(items))
	for i := range items {
		var err error
		if list[i], err = l.encodeItem(t, &items[i]); err != nil {
			return nil, err
		}
	}
	body := map[string]any{t.Collection(): list}
	if l.limit > 0 {
		body["marker"] = nil
		if more {
			body["marker"] = items[len(items)-1].object.GetMeta().UUID
		}
	}
	return json.Marshal(body)
}

func (l *listQuery) encodeItem(t *model.Type, i *item) (json.RawMessage, error) {
	if !l.detail && l.fields == nil {
		m := i.object.GetMeta()
		short := struct {
			UUID   string   `json:"uuid"`
			FQName []string `json:"fq_name"`
			HREF   string   `json:"href,omitempty"`
		}{UUID: m.UUID, FQName: m.FQName}
		if l.hrefs {
			short.HREF = href(l.base, model.EntityOf(i.object))
		}
		return json.Marshal(short)
	}
	data, err := i.encode(l.selection)
	if err != nil || !l.detail {
		return data, err
	}
	return json.Marshal(map[string]json.RawMessage{string(t.Kind): data})
}
