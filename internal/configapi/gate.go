package configapi

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// door says who gets to a handler of the classic interface.
type door int

const (
	// forAdmins is the door of everything that is not named below: what is new
	// is closed until somebody has thought about it. Who reads everything gets
	// in with GET.
	forAdmins door = iota
	// forAll is for what shows nobody's data.
	forAll
	// byObject is for handlers that ask for the rights on each object that they
	// show; what they write, the change asks for.
	byObject
	// byRule is for actions that api-access-lists name like objects.
	byRule
)

// doors are by the first segment of the path. Types and collections are
// byObject.
var doors = map[string]door{
	"":              forAll,
	"documentation": forAll,
	"openapi.json":  forAll,
	"aaa-mode":      forAll, // PUT asks for itself

	"list-bulk-collection":   byObject,
	"ref-update":             byObject,
	"ref-relax-for-delete":   byObject,
	"prop-collection-get":    byObject,
	"prop-collection-update": byObject,
	"set-tag":                byObject,
	"watch":                  byObject,
	"chown":                  byObject,
	"chmod":                  byObject,
	"obj-perms":              byObject,
	"ipam":                   byObject,
	"compile":                byObject,

	"fqname-to-id": byRule,
	"id-to-fqname": byRule,
}

// networkActions are the last segments of paths below a network, whose
// handlers ask for the rights on it.
var networkActions = map[string]bool{"ip-alloc": true, "ip-free": true, "subnet-ip-count": true}

// gate lets callers of the classic interface through to handlers that they
// have business with.
func (a *API) gate(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.mayEnter(r); err != nil {
			a.refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (a *API) mayEnter(r *http.Request) error {
	caller := serve.CallerOf(r.Context())
	switch caller.Role {
	case ctls.RoleAdmin, ctls.RoleManager, ctls.RoleController:
		return nil
	case serve.RoleUser:
	default:
		return denied("%s may not do this; it is for administrators", caller)
	}
	reader := caller.User.Has(serve.ReadOnly)
	if a.tenancy.Mode() == AdminOnly && !reader {
		return denied("Permission denied: the cluster is in the mode cloud-admin, in which %s has no rights", caller)
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	at, ok := doors[name]
	if !ok && isTypeOrCollection(name) {
		at = byObject
		_, action, below := strings.Cut(rest, "/")
		if below && !networkActions[action] {
			at = forAdmins
		}
	}
	switch {
	case at == forAll, at == byObject:
		return nil
	case reader && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return nil
	case at == byRule:
		return a.mayAct(r, name)
	}
	return denied("Permission denied: %s %s is for administrators, and %s is none", r.Method, brief(r.URL.Path), caller)
}

// mayAct asks the rules whether the caller may use an action. Actions are read
// or written like objects: POST is how questions are asked, too.
func (a *API) mayAct(r *http.Request, action string) error {
	var err error
	a.graph.View(func(v *model.View) {
		may := a.accessOf(r.Context(), v)
		if !may.reads && !may.ruled(opRead, action, "") {
			err = may.refuseByRule(opRead, model.Kind(action), "")
		}
	})
	return err
}

func isTypeOrCollection(name string) bool {
	if t, ok := model.TypeOf(name); ok && string(t.Kind) == name {
		return true
	}
	_, ok := model.TypeOfCollection(name)
	return ok
}

// forReaders lets administrators, the controller side and those through who
// may read everything: what is behind it shows the data of all tenants.
func (a *API) forReaders(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := mayReadAll(r.Context()); err != nil {
			a.refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// mayReadAll refuses those who neither administer nor read everything.
func mayReadAll(ctx context.Context) error {
	if serve.CallerOf(ctx).User.Has(serve.ReadOnly) {
		return nil
	}
	return mayAdminister(ctx)
}

// rpcGate keeps users away from the RPC services, which are for nodes and the
// controller side; who may read everything may list. It logs what is refused.
// What reads waits for what other controllers have answered.
func (a *API) rpcGate() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			caller, procedure := serve.CallerOf(ctx), r.Spec().Procedure
			if caller.Role == serve.RoleUser && !(caller.User.Has(serve.ReadOnly) && strings.HasSuffix(procedure, "/List")) {
				err := denied("Permission denied: %s is for administrators, and %s is none", procedure, caller)
				a.recordRefusal(ctx, audit{"call", procedure}, err)
				return nil, rpcError(err)
			}
			if readingCalls[procedure] {
				wait, cancel := context.WithTimeout(ctx, a.readWait)
				err := a.waitNewest(wait)
				cancel()
				if err != nil {
					return nil, rpcError(err)
				}
			}
			answer, err := next(ctx, r)
			if err != nil {
				a.recordRefusal(ctx, audit{"call", procedure}, err)
			}
			return answer, err
		}
	})
}
