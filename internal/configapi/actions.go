package configapi

import (
	"net/http"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// action is a route that is not about the objects of one type.
type action struct {
	// link is the name under which clients find it on the homepage.
	link, method, path string
	handle             func(a *API, r *http.Request) (*answer, error)
}

// actions are all of them, in the order of the homepage.
func actions() []action {
	return []action{
		{"prop-collection-get", "GET", "/prop-collection-get", (*API).collectionGet},
		{"prop-collection-update", "POST", "/prop-collection-update", (*API).collectionUpdate},
		{"ref-update", "POST", "/ref-update", (*API).refUpdate},
		{"ref-relax-for-delete", "POST", "/ref-relax-for-delete", (*API).refRelax},
		{"name-to-id", "POST", "/fqname-to-id", (*API).nameToID},
		{"id-to-name", "POST", "/id-to-fqname", (*API).idToName},
		{"useragent-keyvalue", "POST", "/useragent-kv", (*API).userAgent},
		{"list-bulk-collection", "POST", "/list-bulk-collection", (*API).listBulk},
		{"database-check", "POST", "/db-check", (*API).dbCheck},
		{"fetch-records", "POST", "/fetch-records", (*API).fetchRecords},
		{"obj-cache", "POST", "/obj-cache", (*API).objectCache},
		{"obj-perms", "GET", "/obj-perms", (*API).objectPermissions},
		{"chown", "POST", "/chown", (*API).chown},
		{"chmod", "POST", "/chmod", (*API).chmod},
		{"aaa-mode", "GET", "/aaa-mode", (*API).readMode},
		{"aaa-mode", "PUT", "/aaa-mode", (*API).setMode},
		{"set-tag", "POST", "/set-tag", (*API).setTag},
		{"virtual-network-ip-alloc", "POST", "/virtual-network/{uuid}/ip-alloc", (*API).ipAlloc},
		{"virtual-network-ip-free", "POST", "/virtual-network/{uuid}/ip-free", (*API).ipFree},
		{"virtual-network-subnet-ip-count", "POST", "/virtual-network/{uuid}/subnet-ip-count", (*API).subnetIPCount},
	}
}

// link is an element of the homepage.
type homeLink struct {
	Link struct {
		Rel    string `json:"rel"`
		HREF   string `json:"href"`
		Name   string `json:"name"`
		Method string `json:"method"`
	} `json:"link"`
}

type home struct {
	HREF  string     `json:"href"`
	Links []homeLink `json:"links"`
}

func (h *home) add(rel, href, name, method string) {
	var l homeLink
	l.Link.Rel, l.Link.HREF, l.Link.Name, l.Link.Method = rel, href, name, method
	h.Links = append(h.Links, l)
}

// homepage lists what there is; some clients discover all types from it.
func (a *API) homepage(r *http.Request) (*answer, error) {
	at := base(r)
	h := &home{HREF: at}
	h.add("documentation", at+"/openapi.json", "documentation", "GET")
	h.add("root", at+"/config-root", "config-root", "GET")
	types := slices.DeleteFunc(model.Types(), func(t *model.Type) bool { return t.Kind == model.KindConfigRoot })
	for _, t := range types {
		h.add("collection", at+"/"+t.Collection(), string(t.Kind), "GET")
	}
	for _, t := range types {
		h.add("resource-base", at+"/"+string(t.Kind), string(t.Kind), "GET")
	}
	for _, x := range actions() {
		h.add("action", at+x.path, x.link, x.method)
	}
	return &answer{at: a.graph.Position(), body: h}, nil
}

// configRoot lists the collections of the types that are at the top.
func (a *API) configRoot(r *http.Request) (*answer, error) {
	at := base(r)
	h := &home{HREF: at + "/config-root"}
	for _, t := range model.Types() {
		if t.Kind != model.KindConfigRoot && (len(t.Parents) == 0 || t.MayHaveParent(model.KindConfigRoot)) {
			h.add("collection", at+"/"+t.Collection(), string(t.Kind), "GET")
		}
	}
	return &answer{at: a.graph.Position(), body: h}, nil
}

// refRelax marks a reference as one that does not keep its target from being
// deleted.
func (a *API) refRelax(r *http.Request) (*answer, error) {
	var q struct {
		UUID    string `json:"uuid"`
		RefUUID string `json:"ref-uuid"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	from, err := bodyID("uuid", q.UUID)
	if err != nil {
		return nil, err
	}
	to, err := bodyID("ref-uuid", q.RefUUID)
	if err != nil {
		return nil, err
	}
	at, err := a.write(r.Context(), audit{"ref-relax-for-delete", from + " -> " + to}, func(c *change) error {
		d, ok := find(c.v, "", from)
		if !ok || !c.may.mayName(c.v, d) {
			return missing("ID %s does not exist", from)
		}
		if !d.isView() {
			// Before an answer tells what it refers to.
			if err := c.may.mayTouch(d.object); err != nil {
				return err
			}
		}
		ref, ok := c.v.Reference(from, to)
		switch {
		case !ok && d.own(to):
			return nil // it never keeps its target
		case !ok:
			return missing("%s %s has no reference to %s", d.object.Kind(), from, to)
		}
		if ref.Relaxed {
			c.holdReference(ref.Edge())
			return nil
		}
		ref.Relaxed = true
		return c.setReference(ref)
	})
	if err != nil {
		return nil, err
	}
	return &answer{at: at, body: map[string]string{"uuid": from}}, nil
}
