package configapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// inUse refuses what somebody else has. Memory knows that somebody has it; who
// it is, the store tells before the refusal is answered.
type inUse struct {
	key  store.Key
	text string
}

func (e *inUse) Error() string { return e.text }

func addressInUse(scope string, a netip.Addr) error {
	return &inUse{key: store.AddressKey(scope, a), text: fmt.Sprintf("IP address already in use: %s of %s", a, scope)}
}

// withOwner makes a refusal of an inUse, and leaves other errors as they are.
func (a *API) withOwner(ctx context.Context, err error) error {
	var e *inUse
	if !errors.As(err, &e) {
		return err
	}
	text := e.text
	if owner, ok, err := a.store.Value(ctx, e.key); err == nil && ok {
		text += a.heldBy(ctx, string(owner))
	}
	return &refusal{status: http.StatusConflict, code: connect.CodeAlreadyExists, text: text}
}

// heldBy names an owner, if the caller may know it.
func (a *API) heldBy(ctx context.Context, uuid string) (text string) {
	a.graph.View(func(v *model.View) {
		if o, ok := v.Find(uuid); ok && a.accessOf(ctx, v).mayName(v, derived{object: o}) {
			text = "; held by " + model.EntityOf(o).String() + " " + model.FQString(o.GetMeta().FQName)
		}
	})
	return text
}

// takenAtCommit is the refusal that a conflict means for good: nothing in
// memory could have told.
func takenAtCommit(conflict *store.Conflict) (error, bool) {
	g := conflict.Guard
	if g.Condition != store.Absent {
		return nil, false
	}
	switch g.Key.Space() {
	case store.SpaceFabric:
		if s, err := g.Key.Split(1); err == nil {
			return &inUse{key: g.Key, text: fmt.Sprintf("address %s is that of another node; if that one is gone for good, run `contrail node remove`", s[0])}, true
		}
	case store.SpaceMAC:
		if s, err := g.Key.Split(2); err == nil {
			return macInUse(g.Key, s[0], s[1]), true
		}
	}
	return nil, false
}

func macInUse(k store.Key, network, mac string) error {
	return &inUse{key: k, text: fmt.Sprintf("MAC address %s is already in use in virtual-network %s; choose another or leave it out", mac, network)}
}
