package configapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// listQuery says which objects of a type a client asks for. What is nil is not
// asked for; all that is must hold.
type listQuery struct {
	parents, uuids *idSet
	// referring are ids of objects that the ones asked for refer to.
	referring *idSet
	// names are fully qualified, joined.
	names *idSet
	// parentName is the joined name of a parent of the type parentType, or of
	// any type that may be one.
	parentName, parentType string
	filters                filters
	// shared adds what is shared with everybody or with one of the tenants.
	shared        bool
	detail, count bool
	marker        string
	limit         int
	*selection
}

const (
	// defaultPage is the size of pages where a client says only where one begins.
	defaultPage = 256
	// maxFilters is how many properties one list may be filtered by, maxFields
	// how many fields it may be asked for: each is looked at in every object,
	// while writers wait.
	maxFilters = 64
	maxFields  = 1000
)

func (a *API) listObjects(r *http.Request) (*answer, error) {
	t, err := typeOfCollection(r)
	if err != nil {
		return nil, err
	}
	return a.answerList(t, r, r.URL.Query())
}

// bulkParameters are those that the body of /list-bulk-collection may have.
var bulkParameters = []string{
	"parent_id", "parent_fq_name_str", "parent_type", "back_ref_id", "obj_uuids", "fq_names", "fields", "filters",
	"count", "detail", "shared", "exclude_hrefs", "page_marker", "page_limit",
}

// listBulk is listObjects with its parameters in the body, where lists of ids
// may be long.
func (a *API) listBulk(r *http.Request) (*answer, error) {
	var q map[string]json.RawMessage
	if err := body(r, &q); err != nil {
		return nil, err
	}
	var name string
	if err := json.Unmarshal(q["type"], &name); err != nil {
		return nil, invalid(`Bad Request, no "type" in POST body; name the type of the objects to list`)
	}
	t, ok := model.TypeOf(name)
	if !ok {
		return nil, missing("Resource type '%s' not found", brief(name))
	}
	values := url.Values{}
	for _, p := range bulkParameters {
		text, given, err := parameter(q[p])
		if err != nil {
			return nil, invalid("Bad Request, %s is %s; want a string", p, brief(string(q[p])))
		}
		// Its presence says it all in a query, its value in a body.
		if given && (p != "exclude_hrefs" || isTrue(text)) {
			values.Set(p, text)
		}
	}
	return a.answerList(t, r, values)
}

// parameter reads a parameter in a body as it would be in a query: strings,
// numbers and booleans as they are, lists with commas.
func parameter(raw json.RawMessage) (text string, given bool, err error) {
	raw = bytes.TrimSpace(raw)
	if isAbsent(raw) {
		return "", false, nil
	}
	switch raw[0] {
	case '"':
		err = json.Unmarshal(raw, &text)
	case '[':
		var list []string
		err = json.Unmarshal(raw, &list)
		text = strings.Join(list, ",")
	case '{':
		err = errors.New("an object")
	default:
		text = string(raw)
	}
	return text, true, err
}

func listQueryOf(t *model.Type, q url.Values, at string) (*listQuery, error) {
	l := &listQuery{
		parents: idsOf(q, "parent_id"), referring: idsOf(q, "back_ref_id"), uuids: idsOf(q, "obj_uuids"),
		parentName: q.Get("parent_fq_name_str"), parentType: q.Get("parent_type"),
		detail: isTrue(q.Get("detail")), count: isTrue(q.Get("count")), shared: isTrue(q.Get("shared")),
		marker: strings.ToLower(q.Get("page_marker")), selection: selectionOf(q, at),
	}
	if len(l.fields) > maxFields {
		return nil, invalid("Bad Request, fields has %d names; at most %d are possible", len(l.fields), maxFields)
	}
	// What nobody asked for is not looked at.
	l.children, l.backRefs = false, false
	for f := range l.fields {
		class, _ := t.Classify(f)
		l.children = l.children || class == model.ClassChildren
		l.backRefs = l.backRefs || class == model.ClassBackReference
	}
	if q.Has("fq_names") {
		l.names = newIDSet(csv(q.Get("fq_names")))
	}
	if text := q.Get("page_limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, invalid("Invalid page_limit %q; want a positive number", brief(text))
		}
		l.limit = n
	} else if q.Has("page_marker") {
		l.limit = defaultPage
	}
	var err error
	l.filters, err = readFilters(q.Get("filters"))
	return l, err
}

// idSet is a list of ids or names, each once; nil stands for any.
type idSet struct {
	list []string
	set  map[string]struct{}
}

func newIDSet(list []string) *idSet {
	s := &idSet{set: map[string]struct{}{}}
	for _, id := range list {
		if _, twice := s.set[id]; !twice {
			s.set[id] = struct{}{}
			s.list = append(s.list, id)
		}
	}
	return s
}

func (s *idSet) allows(id string) bool {
	if s == nil {
		return true
	}
	_, ok := s.set[id]
	return ok
}

// idsOf reads a list of UUIDs; a parameter that is there and empty names none.
func idsOf(q url.Values, name string) *idSet {
	if !q.Has(name) {
		return nil
	}
	return newIDSet(csv(strings.ToLower(q.Get(name))))
}

// isTrue reads booleans as clients of every language write them.
func isTrue(s string) bool { return strings.EqualFold(s, "true") }

// filters are the values that properties may have.
type filters map[string]*allowedValues

// allowedValues are some values in canonical JSON, and how long they are.
type allowedValues struct {
	set               map[string]bool
	shortest, longest int
}

func (a *allowedValues) add(value string) {
	if len(a.set) == 0 {
		a.set, a.shortest, a.longest = map[string]bool{}, len(value), len(value)
	}
	a.set[value] = true
	a.shortest, a.longest = min(a.shortest, len(value)), max(a.longest, len(value))
}

// have tells whether a value is one of them. One that is much longer or shorter
// than all of them is not read: an escape takes six bytes for one.
func (a *allowedValues) have(value json.RawMessage) bool {
	return len(value) <= 6*a.longest && a.shortest <= 6*len(value) && a.set[canonical(value)]
}

// readFilters reads property==JSON,property==JSON.
func readFilters(text string) (filters, error) {
	if text == "" {
		return nil, nil
	}
	wanted := filters{}
	for _, part := range splitFilters(text) {
		name, value, ok := strings.Cut(part, "==")
		name = strings.TrimSpace(name)
		if !ok || name == "" || !json.Valid([]byte(value)) {
			return nil, invalid("Invalid filter %s; write property==JSON, such as display_name==\"blue\"", brief(part))
		}
		if wanted[name] == nil {
			if len(wanted) == maxFilters {
				return nil, invalid("Invalid filter %s; at most %d properties can be filtered by", brief(part), maxFilters)
			}
			wanted[name] = &allowedValues{}
		}
		wanted[name].add(canonical(json.RawMessage(value)))
	}
	return wanted, nil
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

// answerList answers a list by the parameters in q.
func (a *API) answerList(t *model.Type, r *http.Request, q url.Values) (*answer, error) {
	l, err := listQueryOf(t, q, base(r))
	if err != nil {
		return nil, err
	}
	out := &answer{}
	var items []*item
	more := false
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		l.may = a.accessOf(r.Context(), v)
		items = l.may.readable(v, l.find(v, t))
		if l.limit > 0 && !l.count {
			items, more = l.page(inOrder(items))
		}
		if !l.count && (l.detail || l.fields != nil) {
			// As they lie in memory, which is faster than in order.
			collectItems(v, items, l.selection)
		}
	})
	items = inOrder(items)
	if l.count {
		out.body = map[string]any{t.Collection(): map[string]int{"count": len(items)}}
		return out, nil
	}
	out.body = stream(func(w io.Writer) error { return l.writeTo(w, t, items, more) })
	return out, nil
}

// page cuts out the page that is asked for.
func (l *listQuery) page(found []*item) ([]*item, bool) {
	i, exact := slices.BinarySearchFunc(found, l.marker, func(i *item, id string) int {
		return strings.Compare(i.UUID, id)
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
