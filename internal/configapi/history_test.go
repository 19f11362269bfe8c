package configapi

import (
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// A client that comes again with the id of the last event is told what happened
// since, and nothing else.
func TestContractWatchResumes(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	const query = "resource_type=virtual-machine,security-group"
	vm := func(name string) string { return c.create("virtual-machine", m{"fq_name": l{name}}) }
	kept, changed, gone := vm("kept"), vm("changed"), vm("gone")
	group := c.create("security-group", m{"fq_name": l{"default-domain", "p", "g"}})
	first := c.watch(query)
	for range 2 {
		if name, _, _ := first.next(); name != "init" {
			t.Fatalf("event %s, want init", name)
		}
	}
	made := vm("early")
	first.want("create", "virtual-machine", made)
	id := first.id
	first.stop()
	if id == "" {
		t.Fatal("events have no id")
	}

	c.do("PUT", "/virtual-machine/"+changed, m{"virtual-machine": m{"display_name": "x"}})
	c.delete("virtual-machine", gone)
	late, short := vm("late"), vm("short")
	c.do("PUT", "/virtual-machine/"+late, m{"virtual-machine": m{"display_name": "y"}})
	c.delete("virtual-machine", short) // made and gone: never heard of
	again := c.watchAfter(query, id)
	seen := map[string]string{}
	for range 3 {
		name, _, value := again.next()
		seen[value.(m)["uuid"].(string)] = name
	}
	if want := map[string]string{changed: "update", gone: "delete", late: "create"}; !maps.Equal(seen, want) {
		t.Errorf("told %v, want %v", seen, want)
	}
	// From now on it is a stream as any other, and can be lost once more.
	c.delete("virtual-machine", kept)
	again.want("delete", "virtual-machine", kept)
	c.do("PUT", "/security-group/"+group, m{"security-group": m{"display_name": "z"}})
	again.want("update", "security-group", group)
	quiet := c.watchAfter(query, again.id) // is open although there is nothing to tell
	c.delete("virtual-machine", made)
	quiet.want("delete", "virtual-machine", made)
}

// Where it is not known what happened since, the client begins anew.
func TestContractWatchBeginsAnew(t *testing.T) {
	c := newClassic(t)
	c.bench.api.history.limit = 8
	first := c.watch("resource_type=virtual-machine")
	first.next()
	id := first.id
	p := c.bench.api.graph.Position()
	views := c.watch("resource_type=routing-instance")
	views.next()
	if views.id != "" {
		t.Errorf("events of views have the id %s", views.id)
	}
	for i := range 16 {
		c.create("virtual-machine", m{"fq_name": l{fmt.Sprint("vm", i)}})
	}
	last := c.bench.api.graph.Position()
	for what, id := range map[string]string{
		"too long ago": id, "another epoch": eventID(model.Position{Epoch: p.Epoch + 1, Revision: last.Revision}),
		"the future": eventID(model.Position{Epoch: p.Epoch, Revision: last.Revision + 1000}), "no id": "x-y", "nothing": "-",
	} {
		if name, _, value := c.watchAfter("resource_type=virtual-machine", id).next(); name != "init" || len(value.(l)) != 16 {
			t.Errorf("%s: event %s of %d, want init of 16", what, name, len(value.(l)))
		}
	}
	if name, _, _ := c.watchAfter("resource_type=routing-instance", eventID(last)).next(); name != "init" {
		t.Errorf("views: event %s, want init", name)
	}
}

// Whatever happens, history tells exactly the changes after a position, or that
// it does not know them any more.
func TestHistoryAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory()
		h.limit = rapid.IntRange(1, 12).Draw(t, "limit")
		if err := h.Reset(3, 10); err != nil {
			t.Fatal(err)
		}
		if err := h.Loaded(); err != nil {
			t.Fatal(err)
		}
		exists := map[string]bool{}
		var all []map[model.Entity]bool // by revision after the 10th: what changed, and whether it was made
		entity := func(id string) model.Entity { return model.Entity{Kind: model.KindProject, UUID: id} }
		for range rapid.IntRange(1, 20).Draw(t, "revisions") {
			revision := int64(11 + len(all))
			now := map[model.Entity]bool{}
			var changes []store.Entry
			for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID).Draw(t, "changed") {
				entry := store.Entry{Key: store.ObjectKey(entity(id)), Created: 1, Modified: revision}
				switch {
				case !exists[id]:
					entry.Created, now[entity(id)], exists[id] = revision, true, true
				case rapid.Bool().Draw(t, "reference"):
					entry.Key = store.RefKey(model.Edge{From: entity(id), To: entity("x")})
					now[entity(id)] = false
				default:
					entry.Deleted = rapid.Bool().Draw(t, "deleted")
					now[entity(id)], exists[id] = false, !entry.Deleted
				}
				changes = append(changes, entry)
			}
			if err := h.Apply(revision, changes); err != nil {
				t.Fatal(err)
			}
			all = append(all, now)
		}
		remembered := 0
		for after := range all {
			want := map[model.Entity]bool{}
			for _, now := range all[after:] {
				for e, made := range now {
					if _, ok := want[e]; !ok {
						want[e] = made
					}
				}
			}
			got, ok := h.since(model.Position{Epoch: 3, Revision: uint64(10 + after)})
			if ok {
				remembered++
				if !maps.Equal(got, want) {
					t.Fatalf("after revision %d: %v, want %v", 10+after, got, want)
				}
			} else if remembered > 0 {
				t.Fatalf("revision %d is forgotten, and an earlier one is not", 10+after)
			}
		}
		if _, ok := h.since(model.Position{Epoch: 3, Revision: uint64(10 + len(all))}); !ok {
			t.Fatal("the present is forgotten")
		}
		if len(h.log) > h.limit {
			t.Fatalf("remembers %d, limit %d", len(h.log), h.limit)
		}
	})
}
