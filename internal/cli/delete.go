package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Delete says what to delete and how.
type Delete struct {
	// Type and Names, or Manifests.
	Type      *model.Type
	Names     []string
	Manifests []*Manifest
	Scope     Scope
	// Cascade deletes what is below the objects too; it shows what that is, and
	// does it only when Yes is set.
	Cascade, Yes bool
	DryRun       bool
	Output       Output
}

// victim is an object to delete.
type victim struct {
	t    *model.Type
	uuid string
	object
}

func (v *victim) String() string {
	return string(v.t.Kind) + " " + model.FQString(v.name())
}

// ErrNotConfirmed is the error of a cascade that was only shown.
var ErrNotConfirmed = errors.New("nothing is deleted; add --yes to delete these objects")

// Delete deletes objects, those that need others first.
func (c *Client) Delete(ctx context.Context, w io.Writer, d Delete) error {
	victims, err := c.victims(ctx, d)
	if err != nil {
		return err
	}
	if d.Cascade {
		if victims, err = c.cascade(ctx, victims); err != nil {
			return err
		}
	}
	victims = inOrder(victims)
	if d.Cascade {
		if err := isolated(victims); err != nil {
			return err
		}
		if !d.Yes && !d.DryRun {
			for _, v := range victims {
				if _, err := fmt.Fprintf(w, "would delete %s\n", printable(v.String())); err != nil {
					return err
				}
			}
			return ErrNotConfirmed
		}
	}
	r := &report{w: w, output: d.Output}
	return errors.Join(c.deleteAll(ctx, victims, d.DryRun, r), r.end())
}

func (c *Client) deleteAll(ctx context.Context, victims []*victim, dryRun bool, r *report) error {
	for n, v := range victims {
		// What is kept only by others that go too would be refused now.
		kept := dryRun && slices.ContainsFunc(victims, func(o *victim) bool { return o != v && needsOther(o, v) })
		if !dryRun {
			if err := c.breakCircles(ctx, v, victims[n+1:]); err != nil {
				return err
			}
		}
		if !kept {
			if err := c.delete(ctx, v.t, v.uuid, write{dryRun: dryRun}); err != nil && !isNotFound(err) {
				return fmt.Errorf("delete %s: %w", v, c.kept(ctx, err))
			}
		}
		out := Outcome{Kind: v.t.Kind, Name: model.FQString(v.name()), UUID: v.uuid, Result: deleted, DryRun: dryRun, Checked: !kept}
		if err := r.add(out); err != nil {
			return err
		}
	}
	return nil
}

// breakCircles takes out the references to v of objects that go after it: they
// are in a circle, in which each keeps the other.
func (c *Client) breakCircles(ctx context.Context, v *victim, later []*victim) error {
	for _, o := range later {
		if !refersTo(o, v) {
			continue
		}
		_, _, err := c.send(ctx, http.MethodPost, "/ref-update", nil, nil, map[string]any{
			"type": o.t.Kind, "uuid": o.uuid, "ref-type": v.t.Kind, "ref-uuid": v.uuid, "operation": "DELETE",
		})
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("take the reference to %s out of %s: %w", v, o, err)
		}
	}
	return nil
}

// keeper is an object in the API's list of those that keep another.
var keeper = regexp.MustCompile(`/([A-Za-z0-9-]+)/([0-9a-f-]{36})'`)

// kept tells by name what keeps an object; the API lists links.
func (c *Client) kept(ctx context.Context, err error) error {
	var e *APIError
	if !errors.As(err, &e) || e.Status != http.StatusConflict {
		return err
	}
	why := "it is referred to by "
	if strings.HasPrefix(e.Text, "Delete when children still present: [") {
		why = "it still has "
	} else if !strings.HasPrefix(e.Text, "Delete when resource still referred: [") {
		return err
	}
	found := keeper.FindAllStringSubmatch(e.Text, -1)
	if len(found) == 0 {
		return err
	}
	more := ""
	if len(found) > longestList {
		more = fmt.Sprintf(" and %d more", len(found)-longestList)
		found = found[:longestList]
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f[1] + " " + f[2]
		if t, ok := model.TypeOf(f[1]); ok {
			// What went away meanwhile, or may not be read, keeps its UUID.
			if o, _, err := c.read(ctx, t, f[2], url.Values{"fields": {"fq_name"}}); err == nil {
				names[i] = printable(f[1] + " " + model.FQString(o.name()))
			}
		}
	}
	slices.Sort(names)
	return fmt.Errorf("%s%s%s; delete those first, or see `contrail delete --cascade`", why, strings.Join(names, ", "), more)
}

// victims are the objects that are asked for. Those of manifests may be gone.
func (c *Client) victims(ctx context.Context, d Delete) ([]*victim, error) {
	var list []*victim
	add := func(t *model.Type, id string) error {
		v, err := c.victim(ctx, t, id)
		if err == nil && !slices.ContainsFunc(list, func(o *victim) bool { return o.uuid == v.uuid }) {
			list = append(list, v)
		}
		return err
	}
	for _, name := range d.Names {
		id, err := c.resolve(ctx, d.Type, d.Scope, name)
		if err == nil {
			err = add(d.Type, id)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, m := range d.Manifests {
		id, err := c.idOf(ctx, m.Type, m.Name)
		if err == nil {
			err = add(m.Type, id)
		}
		if err != nil && !isNotFound(err) {
			return nil, m.errorf("%w", err)
		}
	}
	return list, nil
}

func (c *Client) victim(ctx context.Context, t *model.Type, id string) (*victim, error) {
	o, _, err := c.read(ctx, t, id, nil)
	if err != nil {
		return nil, err
	}
	return &victim{t: t, uuid: id, object: o}, nil
}

// cascade adds everything that is below the objects.
func (c *Client) cascade(ctx context.Context, victims []*victim) ([]*victim, error) {
	all := slices.Clone(victims)
	seen := map[string]bool{}
	for _, v := range all {
		seen[v.uuid] = true
	}
	for n := 0; n < len(all); n++ {
		v := all[n]
		for _, key := range sortedKeys(v.object) {
			class, kind := v.t.Classify(key)
			t, ok := model.TypeOf(string(kind))
			if class != model.ClassChildren || !ok {
				continue
			}
			for _, l := range v.links(key) {
				if seen[l.UUID] {
					continue
				}
				child, err := c.victim(ctx, t, l.UUID)
				if isNotFound(err) {
					continue
				}
				if err != nil {
					return nil, err
				}
				seen[l.UUID] = true
				if !child.isView() {
					all = append(all, child)
				}
			}
		}
	}
	return all, nil
}

// isView tells whether an object follows from another and goes with it.
func (v *victim) isView() bool {
	switch v.t.Kind {
	case model.KindAccessControlList:
		return true
	case model.KindRoutingInstance:
		return string(v.object["routing_instance_is_default"]) == "true"
	}
	return false
}

// isolated refuses a cascade while something that stays refers to something
// that goes: deleting it would take the ground from under others.
func isolated(victims []*victim) error {
	goes := map[string]bool{}
	for _, v := range victims {
		goes[v.uuid] = true
	}
	var kept []string
	for _, v := range victims {
		for _, key := range sortedKeys(v.object) {
			class, kind := v.t.Classify(key)
			if class != model.ClassBackReference || kind == model.KindRoutingInstance {
				continue
			}
			for _, l := range v.links(key) {
				if !goes[l.UUID] {
					kept = append(kept, fmt.Sprintf("%s %s refers to %s", kind, l.name(), v))
				}
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	slices.Sort(kept)
	more := ""
	if len(kept) > longestList {
		more = fmt.Sprintf("\n  and %d more", len(kept)-longestList)
		kept = kept[:longestList]
	}
	return fmt.Errorf("nothing is deleted, because objects that stay refer to objects that would go; delete them first:\n  %s%s", printableLines(kept), more)
}

func printableLines(list []string) string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = printable(list[i])
	}
	return strings.Join(out, "\n  ")
}

// needsOther tells whether a is below b or refers to it: a goes first.
func needsOther(a, b *victim) bool {
	return a.text("parent_uuid") == b.uuid || refersTo(a, b)
}

func refersTo(a, b *victim) bool {
	for key := range a.object {
		if class, kind := a.t.Classify(key); class == model.ClassReference && kind == b.t.Kind {
			if slices.ContainsFunc(a.links(key), func(l linkTo) bool { return l.UUID == b.uuid }) {
				return true
			}
		}
	}
	return false
}

// inOrder sorts objects so that what needs others goes before them.
func inOrder(victims []*victim) []*victim {
	byID := map[string]*victim{}
	for _, v := range victims {
		byID[v.uuid] = v
	}
	state := map[*victim]bool{}
	var sorted []*victim
	var visit func(v *victim)
	visit = func(v *victim) {
		if state[v] {
			return
		}
		state[v] = true
		if parent := byID[v.text("parent_uuid")]; parent != nil {
			visit(parent)
		}
		for _, key := range sortedKeys(v.object) {
			if class, _ := v.t.Classify(key); class == model.ClassReference {
				for _, l := range v.links(key) {
					if to := byID[l.UUID]; to != nil {
						visit(to)
					}
				}
			}
		}
		sorted = append(sorted, v)
	}
	for _, v := range victims {
		visit(v)
	}
	slices.Reverse(sorted)
	return sorted
}
