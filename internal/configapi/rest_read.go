package configapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/contrail-mesos/contrail/internal/compile"
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
	// texts are what the answer says of each kind.
	texts []kindTexts
	// asked are the kinds of links that fields name, by the kind that has them.
	asked map[linksOf][]model.Kind
	// shelf is where links of items are kept together, when many are collected.
	shelf []link
	many  bool
	// may is what the caller may see; nothing when it is nil.
	may *access
	// entries are how many entries of access lists the answer may still have.
	entries *atomic.Int64
	// views derives what is not stored, from the view that is collected from.
	views  *compile.Views
	viewed *model.View
}

func (s *selection) viewsOf(v *model.View) *compile.Views {
	if s.viewed != v || s.views == nil {
		s.views, s.viewed = compile.ViewsOf(v), v
	}
	return s.views
}

func selectionOf(q url.Values, at string) *selection {
	s := &selection{refs: true, hrefs: !q.Has("exclude_hrefs"), base: at, entries: newEntries()}
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
		var e entry
		if e, found = findEntry(v, t.Kind, id); found {
			s.may = a.accessOf(r.Context(), v)
			if err = s.may.refuseRead(v, &e); err == nil {
				got = collectItem(v, e, s)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound(t.Kind, id)
	}
	out.etag = got.etag()
	b := appendString(append(make([]byte, 0, got.size()), '{'), string(t.Kind))
	b = got.appendTo(append(b, ':'), s)
	out.body = json.RawMessage(append(b, '}'))
	return out, nil
}

// writeTo writes the JSON of a list, part by part: it may be long. Parts are
// encoded side by side, and while those before them are written.
func (l *listQuery) writeTo(w io.Writer, t *model.Type, items []*item, more bool) error {
	_, err := w.Write(append(appendString([]byte{'{'}, t.Collection()), ":["...))
	parts := make(chan chan encoded, runtime.GOMAXPROCS(0))
	go func() {
		defer close(parts)
		for from := 0; from < len(items); from += partSize {
			part := make(chan encoded, 1)
			parts <- part
			go func() {
				var e encoded
				// A defect is the request's, as it would be without goroutines.
				defer func() {
					e.panicked = caught(recover())
					part <- e
				}()
				e.json = l.encode(t, items[from:min(from+partSize, len(items))], from > 0)
			}()
		}
	}()
	var panicked *defect
	for part := range parts {
		e := <-part
		if e.panicked != nil {
			panicked = e.panicked
			continue
		}
		if err == nil && panicked == nil { // the others are ready soon, and nobody waits for them
			_, err = w.Write(e.json)
		}
		partBuffers.Put(&e.json)
	}
	panicked.raise()
	if err != nil {
		return err
	}
	_, err = w.Write(l.appendEnd(nil, items, more))
	return err
}

// encoded is a part of a list, or what its encoding panicked with.
type encoded struct {
	json     []byte
	panicked *defect
}

// partSize is how many items of a list are encoded together.
const partSize = 128

// partBuffers are those in which parts were encoded.
var partBuffers = sync.Pool{New: func() any { return new([]byte) }}

// encode makes the JSON of some items, after others if they do not come first.
func (l *listQuery) encode(t *model.Type, items []*item, after bool) []byte {
	own := *l // with a memory of its own
	selected := *l.selection
	own.selection, selected.texts = &selected, nil
	b := (*partBuffers.Get().(*[]byte))[:0]
	runtime.KeepAlive(l.fetch(items))
	for i := range items {
		if after || i > 0 {
			b = append(b, ',')
		}
		b = own.appendItem(b, t, items[i])
	}
	return b
}

// cacheLine is how many bytes come from memory together.
const cacheLine = 64

// fetch has what is about to be encoded come from memory: it lies all over it,
// and a processor that only reads waits for many places at once, where one that
// encodes waits for one after the other.
func (l *listQuery) fetch(items []*item) (sum byte) {
	short := !l.detail && l.fields == nil
	for _, i := range items {
		text := i.JSON
		if short {
			text = i.FQNameJSON()
		}
		sum += read(text) + read(i.UUID)
		for n := range i.links {
			sum += read(i.links[n].target.UUID)
		}
	}
	return sum
}

// read reads a byte of each cache line.
func read[T string | json.RawMessage](text T) (sum byte) {
	for at := 0; at < len(text); at += cacheLine {
		sum += text[at]
	}
	return sum
}

func (l *listQuery) appendEnd(b []byte, items []*item, more bool) []byte {
	b = append(b, ']')
	if l.limit > 0 {
		b = append(b, `,"marker":`...)
		if more {
			b = appendString(b, items[len(items)-1].UUID)
		} else {
			b = append(b, "null"...)
		}
	}
	return append(b, '}')
}

func (l *listQuery) appendItem(b []byte, t *model.Type, i *item) []byte {
	switch {
	case !l.detail && l.fields == nil:
		return i.appendShort(b, l.selection)
	case !l.detail:
		return i.appendTo(b, l.selection)
	}
	b = append(appendString(append(b, '{'), string(t.Kind)), ':')
	return append(i.appendTo(b, l.selection), '}')
}
