package configapi

import (
	"net/http"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// compiled answers what a network is compiled to and from what, to whoever may
// read the network.
func (a *API) compiled(w http.ResponseWriter, r *http.Request) {
	wanted := r.URL.Query().Get("network")
	if wanted == "" {
		fail(w, invalid("network is missing: name a virtual-network by its UUID, or by its name joined with colons"))
		return
	}
	var at model.Position
	var found *compile.Explanation
	a.graph.View(func(v *model.View) {
		at = v.Position()
		found = explainTo(v, a.accessOf(r.Context(), v), wanted)
	})
	if found == nil {
		fail(w, missing("network %s does not exist", brief(wanted)))
		return
	}
	reply(w, at, found)
}

// explainTo is the explanation of a network that a caller may read as a whole:
// it tells of all its fields, and of the objects that it follows from.
func explainTo(v *model.View, may *access, wanted string) *compile.Explanation {
	id := strings.ToLower(wanted)
	if e, ok := v.EntityByName(model.KindVirtualNetwork, wanted); ok {
		id = e.UUID
	}
	reads := may.readsAllOf(v)
	if !reads(model.Entity{Kind: model.KindVirtualNetwork, UUID: id}) {
		return nil
	}
	found := compile.Explain(v, id)
	if found != nil {
		found.ShowOnly(may.reads, func(o compile.Origin) bool { return reads(writtenBy(v, model.Entity{Kind: o.Kind, UUID: o.UUID})) })
	}
	return found
}

// writtenBy is what a user wrote of an object: for the view of a routing instance
// its network, else the object.
func writtenBy(v *model.View, e model.Entity) model.Entity {
	if _, stored := v.Stored(e.UUID); !stored && e.Kind == model.KindRoutingInstance {
		return model.Entity{Kind: model.KindVirtualNetwork, UUID: compile.NetworkOfInstance(e.UUID)}
	}
	return e
}

// readsAllOf tells of stored objects whether the caller may read them with all
// their fields, and so what follows from them.
func (may *access) readsAllOf(v *model.View) compile.Reader {
	return func(of model.Entity) bool {
		s, ok := v.Stored(of.UUID)
		e := entry{Stored: s}
		return ok && may.readsEntry(v, &e) && len(may.hidden(v, &e)) == 0
	}
}
