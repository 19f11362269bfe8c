package configapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// rest serves the classic interface. It is the same for every type: what a
// type has is read from the schema.
func (a *API) rest() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.handle(a.homepage))
	mux.HandleFunc("GET /config-root", a.handle(a.configRoot))
	mux.HandleFunc("GET /openapi.json", a.handle(a.openAPI))
	for _, x := range actions() {
		mux.HandleFunc(x.method+" "+x.path, a.handle(func(r *http.Request) (*answer, error) { return x.handle(a, r) }))
	}
	mux.HandleFunc("GET /obj-cache", a.handle(a.objectCache))
	mux.HandleFunc("GET /watch", a.watch)
	mux.HandleFunc("POST /{collection}", a.handle(a.createObject))
	mux.HandleFunc("GET /{collection}", a.handle(a.listObjects))
	mux.HandleFunc("GET /{type}/{uuid}", a.handle(a.readObject))
	mux.HandleFunc("PUT /{type}/{uuid}", a.handle(a.updateObject))
	mux.HandleFunc("DELETE /{type}/{uuid}", a.handle(a.removeObject))
	return mux
}

// answer is what a handler says when it succeeds: JSON, or nothing.
type answer struct {
	at   model.Position
	body any
	// etag of the object, if it is one.
	etag string
}

// handle turns a function that answers into a handler.
func (a *API) handle(f func(r *http.Request) (*answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		callOf(r.Context()).routed(r)
		if err := checkURL(r); err != nil {
			fail(w, err)
			return
		}
		r, err := withDryRun(r)
		if err != nil {
			fail(w, err)
			return
		}
		r.Body = bounded(w, r)
		got, err := f(r)
		if err != nil {
			a.refuse(w, r, err)
			return
		}
		if got.etag != "" {
			w.Header().Set("ETag", got.etag)
			if r.Header.Get("If-None-Match") == got.etag {
				setPosition(w, got.at)
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		if got.body == nil {
			setPosition(w, got.at)
			return
		}
		reply(w, got.at, got.body)
	}
}

// base is the beginning of the hrefs in the answer to a request.
func base(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func typeOf(r *http.Request) (*model.Type, error) {
	name := r.PathValue("type")
	t, ok := model.TypeOf(name)
	if !ok || string(t.Kind) != name {
		return nil, missing("Resource type '%s' not found", brief(name))
	}
	return t, nil
}

func typeOfCollection(r *http.Request) (*model.Type, error) {
	t, ok := model.TypeOfCollection(r.PathValue("collection"))
	if !ok {
		return nil, missing("Resource type '%s' not found", brief(r.PathValue("collection")))
	}
	return t, nil
}

// pathID is the UUID of the path in lower case.
func pathID(r *http.Request) (string, error) {
	id := strings.ToLower(r.PathValue("uuid"))
	if !model.IsUUID(id) {
		return "", missing("No %s object found for id %s", r.PathValue("type"), brief(r.PathValue("uuid")))
	}
	return id, nil
}

func notFound(kind model.Kind, id string) error {
	return missing("No %s object found for id %s", kind, id)
}

func (a *API) nameToID(r *http.Request) (*answer, error) {
	var q struct {
		Type   string   `json:"type"`
		FQName []string `json:"fq_name"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	t, ok := model.TypeOf(q.Type)
	if !ok {
		return nil, missing("Resource type '%s' not found", brief(q.Type))
	}
	out := &answer{}
	var found bool
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		var d derived
		if d, found = findByName(v, t.Kind, q.FQName); found {
			found = a.accessOf(r.Context(), v).mayName(v, d)
			out.body = map[string]string{"uuid": d.object.GetMeta().UUID}
		}
	})
	if !found {
		return nil, missing("Name %s not found", pyList(q.FQName))
	}
	return out, nil
}

func (a *API) idToName(r *http.Request) (*answer, error) {
	var q struct {
		UUID string `json:"uuid"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if !model.IsUUID(q.UUID) {
		return nil, invalid("Invalid UUID format: %s", brief(q.UUID))
	}
	out := &answer{}
	a.graph.View(func(v *model.View) {
		out.at = v.Position()
		if i, ok := find(v, "", strings.ToLower(q.UUID)); ok && a.accessOf(r.Context(), v).mayName(v, i) {
			out.body = map[string]any{"fq_name": i.object.GetMeta().FQName, "type": i.object.Kind()}
		}
	})
	if out.body == nil {
		return nil, missing("UUID %s not found", q.UUID)
	}
	return out, nil
}

// refUpdate adds or removes one reference, so that concurrent writers of one
// object's references do not undo each other's.
func (a *API) refUpdate(r *http.Request) (*answer, error) {
	var q struct {
		Type      string          `json:"type"`
		UUID      string          `json:"uuid"`
		RefType   string          `json:"ref-type"`
		RefUUID   string          `json:"ref-uuid"`
		RefFQName []string        `json:"ref-fq-name"`
		Operation string          `json:"operation"`
		Attr      json.RawMessage `json:"attr"`
		Relaxed   bool            `json:"relax_ref_for_delete"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	from, ok := model.TypeOf(q.Type)
	if !ok {
		return nil, missing("Resource type '%s' not found", brief(q.Type))
	}
	to, ok := model.TypeOf(q.RefType)
	if !ok {
		return nil, missing("Resource type '%s' not found", brief(q.RefType))
	}
	reference, ok := from.Reference(to.Kind)
	if !ok {
		return nil, invalid("Bad Request: %s has no references to %s", from.Kind, to.Kind)
	}
	if q.RefUUID == "" && len(q.RefFQName) == 0 {
		return nil, invalid("Bad Request: ref-uuid or ref-fq-name must be specified")
	}
	operation := strings.ToUpper(q.Operation)
	if operation != "ADD" && operation != "DELETE" {
		return nil, invalid("Bad Request: operation should be add or delete: %s", brief(q.Operation))
	}
	if err := reference.ValidateAttr(q.Attr); err != nil {
		return nil, invalid("Bad reference in ref-update: %v", err)
	}
	id := strings.ToLower(q.UUID)
	at, err := a.write(r.Context(), audit{"ref-update " + operation, string(from.Kind) + "/" + id + " -> " + string(to.Kind)}, func(c *change) error {
		d, ok := find(c.v, from.Kind, id)
		ok = ok && c.may.mayName(c.v, d)
		if !ok {
			return notFound(from.Kind, brief(q.UUID))
		}
		if err := c.may.mayWrite(d.object, opUpdate, to.Kind.Name()+"_refs"); err != nil {
			return err
		}
		target, ok := c.target(to.Kind, strings.ToLower(q.RefUUID), q.RefFQName)
		if operation == "DELETE" {
			if !ok {
				return nil
			}
			if d.own(target.UUID) {
				return followsFrom(d, "taken off its "+string(to.Kind))
			}
			old, ok := c.v.Reference(id, target.UUID)
			if !ok {
				return c.lackReference(model.Edge{From: model.EntityOf(d.object), To: target})
			}
			if err := c.dropReference(old); err != nil {
				return err
			}
			return c.redate(d)
		}
		if !ok {
			return missing("Name %s not found", pyList(append(slices.Clone(q.RefFQName), q.RefUUID)))
		}
		if err := c.may.mayRefer(c.v, target); err != nil {
			return err
		}
		if d.own(target.UUID) {
			return nil
		}
		r := model.Reference{From: model.EntityOf(d.object), To: target, Attr: nonNull(q.Attr), Relaxed: q.Relaxed}
		if err := c.checkSubnetsOf(&r); err != nil {
			return err
		}
		if old, ok := c.v.Reference(id, target.UUID); ok && sameJSON(old.Attr, r.Attr) && old.Relaxed == r.Relaxed {
			c.holdReference(r.Edge())
			return nil
		}
		if err := c.setReference(r); err != nil {
			return err
		}
		return c.redate(d)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: map[string]string{"uuid": id}}, nil
}

// checkSubnetsOf checks a network's reference to an IPAM and fills it in.
func (c *change) checkSubnetsOf(r *model.Reference) error {
	if r.From.Kind != model.KindVirtualNetwork || r.To.Kind != model.KindNetworkIPAM {
		return nil
	}
	all := []model.Reference{*r}
	for old := range c.v.ReferenceSeq(r.From.UUID, model.KindNetworkIPAM) {
		if old.To != r.To {
			all = append(all, old)
		}
	}
	vn, ok := c.v.Find(r.From.UUID)
	if !ok {
		return notFound(r.From.Kind, r.From.UUID)
	}
	err := c.setSubnets(vn, all, "ref-update")
	r.Attr = all[0].Attr
	return err
}

func resolveTarget(v *model.View, kind model.Kind, id string, name []string) (model.Entity, bool) {
	if id != "" {
		d, ok := find(v, kind, id)
		if !ok {
			return model.Entity{}, false
		}
		return model.EntityOf(d.object), true
	}
	o, ok := byName(v, kind, name)
	if !ok {
		return model.Entity{}, false
	}
	return model.EntityOf(o), true
}

// nonNull is the attribute of a reference, nil when there is none.
func nonNull(attr json.RawMessage) json.RawMessage {
	if string(attr) == "null" {
		return nil
	}
	return attr
}

func (a *API) removeObject(r *http.Request) (*answer, error) {
	t, err := typeOf(r)
	if err != nil {
		return nil, err
	}
	id, err := pathID(r)
	if err != nil {
		return nil, err
	}
	at, err := a.write(r.Context(), audit{"delete", string(t.Kind) + "/" + id}, func(c *change) error {
		o, ok := c.object(t.Kind, id)
		if !ok {
			if d, ok := findDerived(c.v, t.Kind, id); ok && c.may.mayName(c.v, d) {
				return followsFrom(d, "deleted")
			}
			return notFound(t.Kind, id)
		}
		if err := c.mayGo(o); err != nil {
			return err
		}
		if err := checkMatch(r, o); err != nil {
			return err
		}
		return c.deleteObject(o, base(r))
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at}, nil
}

// pyList is a list of names as the classic texts show it.
func pyList(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = "'" + strings.ReplaceAll(brief(n), "'", `\'`) + "'"
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// creator is the tenant that the caller is, for id_perms.
func creator(r *http.Request) string {
	return serve.CallerOf(r.Context()).String()
}
