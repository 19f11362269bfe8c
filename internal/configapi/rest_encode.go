package configapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Answers are put together from the JSON that the graph keeps. Only what a
// request restricts or adds is looked at.

// entry is an object as readers find it, in its stored form.
type entry struct {
	model.Stored
	// view is set when the object is a view.
	view *derived
}

// entryOf is the entry of a view.
func entryOf(d derived) (entry, bool) {
	s, err := model.StoredOf(d.object)
	return entry{s, &d}, err == nil
}

// findEntry finds a stored object or a view.
func findEntry(v *model.View, kind model.Kind, id string) (entry, bool) {
	if s, ok := v.Stored(id); ok {
		return entry{Stored: s}, s.Kind == kind
	}
	d, ok := findDerived(v, kind, id)
	if !ok {
		return entry{}, false
	}
	return entryOf(d)
}

// perms2 are the rights on the object.
func (e *entry) perms2() *model.PermType2 {
	raw, ok := e.Property("perms2")
	if !ok {
		return nil
	}
	p := &model.PermType2{}
	if json.Unmarshal(raw, p) != nil {
		return nil
	}
	return p
}

// link is an element of a list of references, children or back references.
type link struct {
	field  string
	target model.Entity
	to     json.RawMessage // the fq name
	attr   json.RawMessage
	// attrs tells whether the field's elements show their attributes.
	attrs bool
}

// item is an object with what hangs on it, taken out of a view so that it can
// be encoded outside. The links of a field follow each other.
type item struct {
	entry
	links []link
	// hidden are the fields that the caller may not read.
	hidden map[string]bool
}

// fieldNames are the fields in which objects show links with those of a kind.
type fieldNames struct{ refs, backRefs, children string }

func newFieldNames(k model.Kind) fieldNames {
	name := k.Name()
	return fieldNames{name + "_refs", name + "_back_refs", name + "s"}
}

// kindTexts are what an answer says of a kind again and again.
type kindTexts struct {
	kind   model.Kind
	fields fieldNames
	// href is the beginning of the addresses of its objects, as JSON.
	href string
}

// textsOf returns the texts of a kind. There are few in one answer, which are
// found sooner one after the other than in a map.
func (s *selection) textsOf(k model.Kind) *kindTexts {
	for i := range s.texts {
		if s.texts[i].kind == k {
			return &s.texts[i]
		}
	}
	href := append(appendQuoted([]byte{'"'}, s.base+"/"+string(k)), '/')
	s.texts = append(s.texts, kindTexts{k, newFieldNames(k), string(href)})
	return &s.texts[len(s.texts)-1]
}

// fewItems are collected by one goroutine: others would begin too late.
const fewItems = 1000

// collectItems takes the links of items out of a view, of many side by side.
func collectItems(v *model.View, items []*item, s *selection) {
	parts := 1
	if s.may.reads { // the access of others remembers what it decided
		parts = min(runtime.GOMAXPROCS(0), 1+len(items)/fewItems)
	}
	group := newCrew(parts)
	for p := range parts {
		group.do(func() error {
			own := *s // with a memory of its own
			own.texts, own.asked, own.many, own.views = nil, nil, len(items) > 1, nil
			for _, i := range items[len(items)*p/parts : len(items)*(p+1)/parts] {
				i.collect(v, &own)
			}
			return nil
		})
	}
	_ = group.wait() // none of them fails
}

// collectItem takes an object out of a view.
func collectItem(v *model.View, e entry, s *selection) item {
	i := item{entry: e}
	i.collect(v, s)
	return i
}

// collect takes the links of an item out of a view.
func (i *item) collect(v *model.View, s *selection) {
	i.links, i.hidden = s.shelf[len(s.shelf):], s.may.hidden(v, &i.entry)
	i.writeOut(v, s)
	if s.refs {
		i.collectReferences(v, s)
	}
	if s.children {
		i.collectChildren(v, s)
	}
	if s.backRefs {
		i.collectBackReferences(v, s)
	}
	if i.view != nil || s.backRefs || s.children {
		// References that clients put on a view come after its own.
		slices.SortStableFunc(i.links, func(a, b link) int { return strings.Compare(a.field, b.field) })
	}
	s.keep(i)
}

// shelfSize is how many links of the objects of a list are kept in one piece.
const shelfSize = 2048

// keep leaves the links of an item where they are, on the shelf if they are
// there, and makes room for the next item's.
func (s *selection) keep(i *item) {
	n := len(i.links)
	if cap(s.shelf)-len(s.shelf) >= n {
		s.shelf = s.shelf[:len(s.shelf)+n]
		i.links = i.links[:n:n]
	}
	if cap(s.shelf)-len(s.shelf) < shelfSize/64 && s.many {
		s.shelf = make([]link, 0, shelfSize)
	}
}

func (i *item) collectReferences(v *model.View, s *selection) {
	if i.view != nil {
		for _, r := range i.view.refs {
			i.addReference(v, s, s.textsOf(r.To.Kind).fields.refs, r.To, r.Attr)
		}
	}
	i.collectServiceRouters(v, s)
	for r, to := range v.ReferencesWith(i.Stored) {
		i.addLink(v, s, s.textsOf(r.To.Kind).fields.refs, r.To, to, r.Attr)
	}
}

func (i *item) collectBackReferences(v *model.View, s *selection) {
	refs := s.textsOf(i.Kind).fields.refs
	for _, kind := range s.backRefKinds(i.Kind) {
		for _, r := range v.BackReferences(i.UUID, kind) {
			from, _ := v.Stored(r.From.UUID)
			if from.JSON != nil {
				shown, attr := s.may.showsBack(from, refs)
				if !shown {
					continue
				}
				if !attr {
					r.Attr = nil
				}
			}
			i.addLink(v, s, s.textsOf(r.From.Kind).fields.backRefs, r.From, from, r.Attr)
		}
	}
	i.collectServiceOfRouter(v, s)
	if !i.wants(s, "routing_instance_back_refs") {
		return
	}
	for view, attr := range instancesOf(v, &i.entry) {
		if !s.may.sees(i.view, view) {
			continue
		}
		i.addView("routing_instance_back_refs", view, attr, true)
	}
}

// addReference adds a reference, unless its other end cannot be seen.
func (i *item) addReference(v *model.View, s *selection, field string, other model.Entity, attr json.RawMessage) {
	o, _ := v.Stored(other.UUID)
	i.addLink(v, s, field, other, o, attr)
}

// addLink is addReference with the stored form of the other end, empty if it
// is a view.
func (i *item) addLink(v *model.View, s *selection, field string, other model.Entity, o model.Stored, attr json.RawMessage) {
	if !i.wants(s, field) {
		return
	}
	if o.JSON != nil {
		if !s.may.seesStored(o) {
			return
		}
		i.links = append(i.links, link{field, other, o.FQNameJSON(), attr, true})
		return
	}
	if o, ok := i.findNear(v, other); ok && s.may.sees(i.view, o) {
		i.addView(field, o, attr, true)
	}
}

// findNear finds a view that an object is linked with: what follows from the
// same network is looked for there first.
func (i *item) findNear(v *model.View, target model.Entity) (model.Object, bool) {
	if i.view != nil {
		if o, ok := i.view.near[target.UUID]; ok {
			return o, true
		}
	}
	found, ok := findDerived(v, target.Kind, target.UUID)
	return found.object, ok
}

// addView adds a link with a view.
func (i *item) addView(field string, view model.Object, attr json.RawMessage, attrs bool) {
	if to, err := json.Marshal(view.GetMeta().FQName); err == nil {
		i.links = append(i.links, link{field, model.EntityOf(view), to, attr, attrs})
	}
}

func (i *item) collectChildren(v *model.View, s *selection) {
	for _, kind := range s.childKinds(i.Kind) {
		children := slices.SortedFunc(v.StoredChildren(i.UUID, kind), func(a, b model.Stored) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.UUID, b.UUID))
		})
		for _, child := range children {
			if field := s.textsOf(child.Kind).fields.children; i.wants(s, field) && s.may.seesStored(child) {
				i.links = append(i.links, link{field, child.Entity, child.FQNameJSON(), nil, false})
			}
		}
	}
	for _, kind := range kindsOfChildViews {
		field := s.textsOf(kind).fields.children
		if !i.wants(s, field) {
			continue
		}
		for _, d := range childViews(s.viewsOf(v), i.Entity, kind) {
			if s.may.mayReadDerived(v, d) {
				i.addView(field, d.object, nil, false)
			}
		}
	}
}

// backRefKinds are the kinds whose back references to an object of a kind are
// asked for; one empty kind stands for all.
func (s *selection) backRefKinds(of model.Kind) []model.Kind {
	return s.kinds(of, model.ClassBackReference)
}

func (s *selection) childKinds(of model.Kind) []model.Kind { return s.kinds(of, model.ClassChildren) }

// linksOf are the children or back references of objects of a kind.
type linksOf struct {
	kind  model.Kind
	class model.Class
}

// kinds reads the fields once for all objects of a list.
func (s *selection) kinds(of model.Kind, wanted model.Class) []model.Kind {
	t, ok := model.TypeOf(string(of))
	if s.fields == nil || !ok {
		return []model.Kind{""}
	}
	list, ok := s.asked[linksOf{of, wanted}]
	if ok {
		return list
	}
	for _, f := range slices.Sorted(maps.Keys(s.fields)) {
		if class, kind := t.Classify(f); class == wanted {
			list = append(list, kind)
		}
	}
	if s.asked == nil {
		s.asked = map[linksOf][]model.Kind{}
	}
	s.asked[linksOf{of, wanted}] = list
	return list
}

// wants tells whether a field of the item is asked for, and the caller's to read.
func (i *item) wants(s *selection, field string) bool { return s.wants(field) && !i.hidden[field] }

// size is about how long the item's JSON will be.
func (i *item) size() int {
	return len(i.JSON) + 512 + 300*len(i.links)
}

// appendTo appends the JSON of the item.
func (i *item) appendTo(b []byte, s *selection) []byte {
	b = i.appendProperties(b, s)
	b = append(b, `"name":`...)
	b = append(b, i.NameJSON()...)
	if s.hrefs {
		b = s.appendHref(append(b, `,"href":`...), i.Entity)
		if i.Parent.UUID != "" {
			b = s.appendHref(append(b, `,"parent_href":`...), i.Parent)
		}
	}
	for n := range i.links {
		l := &i.links[n]
		if n > 0 && i.links[n-1].field == l.field {
			b = append(b, ',')
		} else {
			if n > 0 {
				b = append(b, ']')
			}
			b = append(append(append(b, `,"`...), l.field...), `":[`...) // a name of the model
		}
		b = l.appendTo(b, s)
	}
	if len(i.links) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendProperties appends the beginning of the item with those properties
// that are asked for, and a comma if there are any.
func (i *item) appendProperties(b []byte, s *selection) []byte {
	if s.fields == nil && i.hidden == nil {
		if len(i.JSON) <= len("{}") {
			return append(b, '{')
		}
		b = append(b, i.JSON[:len(i.JSON)-1]...)
		return append(b, ',')
	}
	b = append(b, '{')
	i.Properties(func(name string, value json.RawMessage) bool {
		if i.wants(s, name) {
			b = append(appendString(b, name), ':')
			b = append(append(b, value...), ',')
		}
		return true
	})
	return b
}

func (l *link) appendTo(b []byte, s *selection) []byte {
	b = append(append(b, `{"to":`...), l.to...)
	b = appendString(append(b, `,"uuid":`...), l.target.UUID)
	if s.hrefs {
		b = s.appendHref(append(b, `,"href":`...), l.target)
	}
	if l.attrs {
		b = append(b, `,"attr":`...)
		if len(l.attr) == 0 {
			b = append(b, "null"...)
		}
		b = append(b, l.attr...)
	}
	return append(b, '}')
}

// appendShort appends what a list without detail shows of an object.
func (e *entry) appendShort(b []byte, s *selection) []byte {
	b = appendString(append(b, `{"uuid":`...), e.UUID)
	b = append(append(b, `,"fq_name":`...), e.FQNameJSON()...)
	if s.hrefs {
		b = s.appendHref(append(b, `,"href":`...), e.Entity)
	}
	return append(b, '}')
}

// appendHref appends the address of an object as a JSON string.
func (s *selection) appendHref(b []byte, e model.Entity) []byte {
	b = append(b, s.textsOf(e.Kind).href...)
	return append(appendQuoted(b, e.UUID), '"')
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	return append(appendQuoted(append(b, '"'), s), '"')
}

// appendQuoted appends the inside of a JSON string.
func appendQuoted(b []byte, s string) []byte {
	if isPlain(s) {
		return append(b, s...)
	}
	data, err := json.Marshal(s)
	if err != nil {
		return b
	}
	return append(b, data[1:len(data)-1]...)
}

// isPlain tells whether a string is in JSON as it is: printable ASCII without
// quotes and backslashes. It looks at eight bytes at a time.
func isPlain(s string) bool {
	const (
		ones = 0x0101010101010101
		tops = 0x80 * ones
	)
	for ; len(s) >= 8; s = s[8:] {
		x := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		quote, backslash := x^('"'*ones), x^('\\'*ones)
		// The top bit of a byte is set where it is below a blank, zero, or not
		// below 0x7f.
		bad := (x - ' '*ones) | (quote - ones) | (backslash - ones) | (x + ones) | x
		if bad&tops != 0 {
			return false
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			return false
		}
	}
	return true
}

// etag is the object's last change, as clients send it back.
func (e *entry) etag() string {
	if e.view != nil && e.Kind == model.KindAccessControlList {
		return "" // its date is its owner's, and it changes with others
	}
	raw, ok := e.Member("id_perms", "last_modified")
	if !ok {
		return ""
	}
	var modified string
	if err := json.Unmarshal(raw, &modified); err != nil {
		return ""
	}
	return strconv.Quote(modified)
}
