package configapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/dbcheck"
	"github.com/contrail-mesos/contrail/internal/model"
)

// For those who look into the API from outside: what is in it, and whether it
// fits together.

// cacheSample is how many objects obj-cache shows when nobody says how many;
// maxCacheSample is the most.
const (
	cacheSample    = 10
	maxCacheSample = 10_000
)

// objectCache shows objects as the API has them in memory, by a running number.
func (a *API) objectCache(r *http.Request) (*answer, error) {
	var q struct {
		UUIDs []string `json:"uuids"`
		Count *int     `json:"count"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	count := model.ValueOr(q.Count, cacheSample)
	if count < 0 || count > maxCacheSample || len(q.UUIDs) > maxCacheSample {
		return nil, invalid("Bad Request, count is %d and uuids has %d elements; at most %d are possible", count, len(q.UUIDs), maxCacheSample)
	}
	out := &answer{}
	selected := selectionOf(nil, base(r))
	selected.may = everything // the gate lets only those in who may read all
	var items []item
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		add := func(e entry) {
			items = append(items, collectItem(v, e, selected))
		}
		for _, id := range q.UUIDs {
			if s, ok := v.Stored(strings.ToLower(id)); ok {
				add(entry{Stored: s})
			}
		}
		if q.UUIDs != nil {
			return
		}
		for _, t := range model.Types() {
			for s := range v.AllStored(t.Kind) {
				if len(items) >= count {
					return
				}
				add(entry{Stored: s})
			}
		}
	})
	shown := map[string]json.RawMessage{}
	for n := range items {
		shown[strconv.Itoa(n+1)] = items[n].appendTo(nil, selected)
	}
	out.body = shown
	return out, nil
}

// fetchRecords lists all objects by type, name and id.
func (a *API) fetchRecords(*http.Request) (*answer, error) {
	out := &answer{}
	b := []byte(`{"results":[`)
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		var list []model.Stored
		for _, t := range model.Types() {
			list = slices.AppendSeq(list, v.AllStored(t.Kind))
		}
		for i := range list {
			if i > 0 {
				b = append(b, ',')
			}
			name := list[i].FQNameJSON()
			b = appendString(append(b, `{"type":`...), string(list[i].Kind))
			b = appendString(append(b, `,"uuid":`...), list[i].UUID)
			b = append(append(append(b, `,"fq_name":`...), name...), '}')
		}
	})
	out.body = json.RawMessage(append(b, "]}"...))
	return out, nil
}

// dbCheck looks for what in the store does not fit together, as `contrail db
// check` does.
func (a *API) dbCheck(r *http.Request) (*answer, error) {
	entries, _, err := dbcheck.Read(r.Context(), a.store)
	if err != nil {
		return nil, err
	}
	return &answer{at: a.graph.Position(), body: map[string][]dbcheck.Finding{"results": dbcheck.Check(entries)}}, nil
}
