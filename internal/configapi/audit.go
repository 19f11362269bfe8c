package configapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// touched is something that a write did to one object, for the audit log.
type touched struct {
	// verb is create, update, delete, refer or unrefer; allocate and release
	// for addresses that belong to no object.
	verb   string
	entity model.Entity
	// to is the other end of a reference.
	to model.Entity
	// address is what is allocated or released.
	address string
	// before and after are the object; nil where there is none.
	before, after model.Object
}

// mostTouched is how many objects a line of the audit log names.
const mostTouched = 24

// String names the object and what of it changed, without any value:
// "update virtual-network/UUID default-domain:shop:blue [display_name]".
func (t touched) String() string {
	var b strings.Builder
	b.WriteString(t.verb)
	b.WriteByte(' ')
	b.WriteString(t.entity.String())
	if t.to.UUID != "" {
		b.WriteString(" -> ")
		b.WriteString(t.to.String())
		return b.String()
	}
	if t.address != "" {
		b.WriteByte(' ')
		b.WriteString(t.address)
		return b.String()
	}
	o := t.after
	if o == nil {
		o = t.before
	}
	b.WriteByte(' ')
	b.WriteString(model.FQString(o.GetMeta().FQName))
	if t.before != nil && t.after != nil {
		b.WriteString(" [")
		b.WriteString(strings.Join(differences(t.before, t.after), " "))
		b.WriteByte(']')
	}
	return b.String()
}

// differences are the names of the fields in which two states of an object
// differ, but for those that every update changes.
func differences(before, after model.Object) []string {
	old, now := fieldsOf(before), fieldsOf(after)
	var names []string
	for name, value := range now {
		if !bytes.Equal(old[name], value) {
			names = append(names, name)
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			names = append(names, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return name == "configuration_version" || name == "id_perms" && sameButDates(before, after)
	})
	slices.Sort(names)
	return names
}

// sameButDates tells whether id_perms changed in nothing but the time of the
// last change.
func sameButDates(before, after model.Object) bool {
	a, b := before.GetMeta().IDPerms, after.GetMeta().IDPerms
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.LastModified, y.LastModified = "", ""
	return sameValue(x, y)
}

func samePerms(a, b *model.PermType2) bool { return sameValue(a, b) }

// sameValue compares values of the model by their JSON.
func sameValue(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func fieldsOf(o model.Object) map[string]json.RawMessage {
	data, err := model.Encode(o)
	if err != nil {
		return nil
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(data, &all) != nil {
		return nil
	}
	return all
}

// recordWrite writes the audit log's line of a write that happened.
func (a *API) recordWrite(ctx context.Context, what audit, c *change, at model.Position) {
	a.metrics.early.Add(float64(c.early))
	a.metrics.writes.WithLabelValues(what.operation).Inc()
	changed := make([]string, 0, min(len(c.touched), mostTouched+1))
	for i, t := range c.touched {
		if i == mostTouched {
			changed = append(changed, fmt.Sprintf("and %d more", len(c.touched)-mostTouched))
			break
		}
		changed = append(changed, t.String())
	}
	args := append(callerAttributes(serve.CallerOf(ctx)),
		"operation", what.operation, "object", what.object, "changed", changed, "revision", at.Revision, "result", "ok")
	if c.node != "" {
		args = append(args, "node", c.node)
	}
	a.log.Info("write", args...)
}

// recordRefusal writes the audit log's line of a request that the caller may
// not make. Only so many are logged in a while.
func (a *API) recordRefusal(ctx context.Context, what audit, err error) {
	var r *refusal
	if !errors.As(err, &r) || r.code != connect.CodePermissionDenied {
		return
	}
	silent, ok := a.refusals.Admit(time.Now())
	if !ok {
		return
	}
	args := append(callerAttributes(serve.CallerOf(ctx)),
		"operation", what.operation, "object", what.object, "result", "denied", "error", r.text, "not_logged", silent)
	a.log.Warn("request refused", args...)
}

// refuse answers a refusal and has it logged.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a.recordRefusal(r.Context(), audit{r.Method, brief(r.URL.Path)}, err)
	// What is left of the body is waited for by nobody.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	fail(w, err)
}

func callerAttributes(c serve.Caller) []any {
	args := []any{"who", c.String(), "via", c.Via}
	if c.From != "" {
		args = append(args, "from", c.From)
	}
	if c.User == nil {
		return args
	}
	roles := slices.Clone(c.User.Roles)
	for _, m := range c.User.Projects {
		for _, r := range m.Roles {
			roles = append(roles, r+"@"+m.Project)
		}
	}
	return append(args, "roles", roles)
}

// sortedFields are the names in what a client sent.
func (g *given) sortedFields() []string {
	names := slices.Sorted(maps.Keys(g.properties))
	for kind := range g.references {
		names = append(names, kind.Name()+"_refs")
	}
	return names
}
