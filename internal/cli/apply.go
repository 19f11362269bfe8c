package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Outcomes of applying a manifest.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
	deleted   = "deleted"
)

// Outcome is what became of one object.
type Outcome struct {
	Kind   model.Kind `json:"kind"`
	Name   string     `json:"name"`
	UUID   string     `json:"uuid,omitempty"`
	Result string     `json:"result"`
	// Fields are those that changed.
	Fields []string `json:"fields,omitempty"`
	// DryRun says that nothing was changed; Checked that the API has said that
	// it would be.
	DryRun  bool `json:"dry_run,omitempty"`
	Checked bool `json:"checked,omitempty"`
}

func (o Outcome) String() string {
	s := string(o.Kind) + " " + o.Name
	if !o.DryRun || o.Result == unchanged {
		s += " " + o.Result
	} else {
		s += " would be " + o.Result
	}
	if len(o.Fields) > 0 {
		s += ": " + strings.Join(o.Fields, ", ")
	}
	if o.DryRun && !o.Checked && o.Result != unchanged {
		s += " (checked here only: it needs objects that are not there yet)"
	}
	return s
}

// Apply says how manifests are applied.
type Apply struct {
	DryRun bool
	// OnlyCreate makes it an error that an object exists.
	OnlyCreate bool
	Output     Output
}

// Apply makes the objects of the API what the manifests say, in the order of
// their needs, and stops at the first error. What it has done is reported in
// any case.
func (c *Client) Apply(ctx context.Context, w io.Writer, manifests []*Manifest, a Apply) error {
	p, err := c.newPlan(ctx, manifests)
	if err != nil {
		return err
	}
	r := &report{w: w, output: a.Output}
	err = p.apply(ctx, a, r)
	return errors.Join(err, r.end())
}

func (p *plan) apply(ctx context.Context, a Apply, r *report) error {
	if a.OnlyCreate {
		for _, i := range p.items {
			if i.live != nil {
				return i.errorf("it already exists with uuid %s; `contrail apply` changes it", i.uuid)
			}
		}
	}
	var again []*item
	for _, i := range p.items {
		out, err := p.client.applyItem(ctx, i, a.DryRun)
		if err != nil {
			return err
		}
		if len(i.later) > 0 && !a.DryRun {
			again = append(again, i)
		}
		if err := r.add(out); err != nil {
			return err
		}
	}
	for _, i := range again {
		if err := p.client.readItem(ctx, i); err != nil {
			return err
		}
		clear(i.later)
		out, err := p.client.applyItem(ctx, i, false)
		if err != nil {
			return err
		}
		if err := r.add(out); err != nil {
			return err
		}
	}
	return nil
}

// tries is how often an object is compared anew when others change it.
const tries = 5

// applyItem creates or updates one object.
func (c *Client) applyItem(ctx context.Context, i *item, dryRun bool) (Outcome, error) {
	out := Outcome{Kind: i.Type.Kind, Name: model.FQString(i.Name), UUID: i.uuid, DryRun: dryRun, Checked: true}
	if i.live == nil {
		out.Result = created
		if dryRun && !i.complete() {
			out.Checked = false
			return out, nil
		}
		id, err := c.create(ctx, i.Type, i.creation(false), write{dryRun: dryRun})
		if err != nil {
			return out, i.errorf("create: %w", err)
		}
		if !dryRun {
			i.uuid, out.UUID = id, id
		}
		return out, nil
	}
	for try := 1; ; try++ {
		changes := changesOf(i.Manifest, i.live, i.targets(false))
		out.Fields = changes.keys
		if len(changes.keys) == 0 {
			out.Result = unchanged
			return out, nil
		}
		out.Result = updated
		if dryRun && !i.complete() {
			out.Checked = false
			return out, nil
		}
		err := c.update(ctx, i.Type, i.uuid, changes.fields, write{dryRun: dryRun, ifMatch: i.etag})
		if err == nil {
			return out, nil
		}
		if !isChanged(err) || try == tries {
			return out, i.errorf("update %s: %w", strings.Join(changes.keys, ", "), err)
		}
		if err := c.readItem(ctx, i); err != nil {
			return out, err
		}
		if i.live == nil {
			return out, i.errorf("it was deleted meanwhile; apply again")
		}
	}
}

// isChanged tells whether a write was refused because the object is no longer
// what it was.
func isChanged(err error) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == http.StatusPreconditionFailed && strings.Contains(e.Text, "If-Match")
}

// report writes outcomes: lines at once, JSON at the end.
type report struct {
	w      io.Writer
	output Output
	all    []Outcome
}

func (r *report) add(o Outcome) error {
	r.all = append(r.all, o)
	var err error
	switch r.output {
	case Name:
		_, err = fmt.Fprintf(r.w, "%s/%s\n", o.Kind, printable(o.Name))
	case Text:
		_, err = fmt.Fprintln(r.w, printable(o.String()))
	}
	return err
}

func (r *report) end() error {
	if r.output != JSON {
		return nil
	}
	if r.all == nil {
		r.all = []Outcome{}
	}
	return writeJSON(r.w, r.all)
}
