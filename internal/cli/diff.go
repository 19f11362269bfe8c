package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/contrail-mesos/contrail/internal/model"
)

// ErrDifferent is the error of Diff when manifests and objects differ.
var ErrDifferent = errors.New("the manifests differ from what there is; `contrail apply` makes it what they say")

// difference is what applying would change of one object.
type difference struct {
	Kind   model.Kind `json:"kind"`
	Name   string     `json:"name"`
	Result string     `json:"result"`
	Fields []string   `json:"fields,omitempty"`
	Diff   string     `json:"diff"`
}

// Diff shows what applying the manifests would change, object by object. The
// error is ErrDifferent when that is anything.
func (c *Client) Diff(ctx context.Context, w io.Writer, manifests []*Manifest, output Output) error {
	p, err := c.newPlan(ctx, manifests)
	if err != nil {
		return err
	}
	list := []difference{}
	for _, i := range p.items {
		d, err := i.difference()
		if err != nil {
			return err
		}
		if d.Result == unchanged {
			continue
		}
		list = append(list, d)
		if output != JSON {
			if _, err := io.WriteString(w, d.Diff); err != nil {
				return err
			}
		}
	}
	if output == JSON {
		if err := writeJSON(w, list); err != nil {
			return err
		}
	}
	if len(list) > 0 {
		return ErrDifferent
	}
	return nil
}

func (i *item) difference() (difference, error) {
	d := difference{Kind: i.Type.Kind, Name: model.FQString(i.Name), Result: created}
	changes := change{fields: i.creation(true)}
	before := ""
	after := object{"fq_name": mustJSON(i.Name), "parent_type": mustJSON(i.ParentType), "uuid": mustJSON("")}
	if i.live != nil {
		d.Result = updated
		changes = changesOf(i.Manifest, i.live, i.targets(true))
		if d.Fields = changes.keys; len(changes.keys) == 0 {
			d.Result = unchanged
			return d, nil
		}
		var err error
		if before, err = plainManifest(i.Type, i.live); err != nil {
			return d, err
		}
		after = maps.Clone(i.live)
	}
	for key, raw := range changes.fields {
		after[key] = raw
	}
	text, err := plainManifest(i.Type, after)
	if err != nil {
		return d, err
	}
	title := fmt.Sprintf("%s/%s", i.Type.Kind, d.Name)
	d.Diff = string(diff.Diff("live/"+title, []byte(before), "wanted/"+title, []byte(text)))
	return d, nil
}
