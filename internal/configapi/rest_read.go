package configapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
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
		if e.Kind == model.KindRouteTarget && s.wants("routing_instance_back_refs") {
			for view, attr := range instancesOf(v, d.object) {
				l := link{To: view.GetMeta().FQName, UUID: view.GetMeta().UUID, Attr: &attr}
				if s.hrefs {
					l.HREF = href(s.base, model.EntityOf(view))
				}
				i.links["routing_instance_back_refs"] = append(i.links["routing_instance_back_refs"], l)
			}
		}
	}
	return i
}

// findNear finds what an object is linked with: what follows from the same
// network is looked for there first.
func findNear(v *model.View, d derived, target model.Entity) (model.Object, bool) {
	if o, ok := v.Find(target.UUID); ok {
		return o, true
	}
	for _, o := range d.near {
		if o.GetMeta().UUID == target.UUID {
			return o, true
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
