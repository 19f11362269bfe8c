package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Editor lets a person change a file.
type Editor func(path string) error

// Edit lets a person change the manifest of an object until it is right, and
// applies it. The object must still be what was edited.
func (c *Client) Edit(ctx context.Context, w io.Writer, t *model.Type, s Scope, name string, edit Editor, output Output) error {
	id, err := c.resolve(ctx, t, s, name)
	if err != nil {
		return err
	}
	live, etag, err := c.read(ctx, t, id, map[string][]string{"exclude_children": {""}, "exclude_back_refs": {""}})
	if err != nil {
		return err
	}
	before, err := manifestText(t, live)
	if err != nil {
		return err
	}
	e := &editing{client: c, t: t, scope: s, uuid: id, live: live, etag: etag}
	out, err := e.untilRight(ctx, before, edit)
	if err != nil {
		return err
	}
	r := &report{w: w, output: output}
	return errors.Join(r.add(out), r.end())
}

// editing is an object being edited.
type editing struct {
	client *Client
	t      *model.Type
	scope  Scope
	uuid   string
	live   object
	etag   string
}

// remark begins the lines that say what is wrong.
const remark = "#! "

func (e *editing) untilRight(ctx context.Context, text string, edit Editor) (Outcome, error) {
	f, err := os.CreateTemp("", "contrail-edit-*.yaml")
	if err != nil {
		return Outcome{}, fmt.Errorf("make a file to edit: %w", err)
	}
	path := f.Name()
	f.Close()
	var problem error
	for {
		if err := os.WriteFile(path, []byte(withRemark(text, problem)), 0o600); err != nil {
			return Outcome{}, fmt.Errorf("write %s: %w", path, err)
		}
		if err := edit(path); err != nil {
			return Outcome{}, fmt.Errorf("editor: %w; what was edited is in %s", err, path)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return Outcome{}, fmt.Errorf("read %s: %w", path, err)
		}
		edited := withoutRemark(string(data))
		if problem != nil && edited == text {
			return Outcome{}, fmt.Errorf("nothing is changed: %w; what was edited is in %s", problem, path)
		}
		text = edited
		out, err := e.apply(ctx, text)
		switch {
		case err == nil:
			os.Remove(path)
			return out, nil
		case isChanged(err):
			return Outcome{}, fmt.Errorf("%w; what was edited is in %s: edit anew, or compare it with `contrail diff -f %s`", err, path, path)
		case ctx.Err() != nil:
			return Outcome{}, fmt.Errorf("%w; what was edited is in %s", err, path)
		}
		problem = err
	}
}

func withRemark(text string, problem error) string {
	if problem == nil {
		return text
	}
	lines := strings.ReplaceAll(strings.TrimSpace(problem.Error()), "\n", "\n"+remark)
	return remark + lines + "\n" + remark + "Mend it and save, or leave it as it is to give up.\n" + text
}

func withoutRemark(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, strings.TrimSpace(remark)) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// apply reads what was edited and writes what changed.
func (e *editing) apply(ctx context.Context, text string) (Outcome, error) {
	list, err := ReadManifests("edited", strings.NewReader(text), e.scope)
	if err != nil {
		return Outcome{}, err
	}
	if len(list) == 0 {
		return Outcome{Kind: e.t.Kind, Name: model.FQString(e.live.name()), UUID: e.uuid, Result: unchanged}, nil
	}
	m := list[0]
	if len(list) > 1 || m.Type != e.t || model.FQString(m.Name) != model.FQString(e.live.name()) {
		return Outcome{}, fmt.Errorf("kind and name say which object it is and have to stay: %s %s", e.t.Kind, model.FQString(e.live.name()))
	}
	p := &plan{client: e.client, byName: map[string]*item{}, ids: map[string]string{}}
	i := &item{Manifest: m, uuid: e.uuid, live: e.live, refs: map[string][]refItem{}}
	if err := p.connect(ctx, i); err != nil {
		return Outcome{}, err
	}
	e.cleared(m, i)
	changes := changesOf(m, e.live, i.targets(true))
	out := Outcome{Kind: e.t.Kind, Name: model.FQString(m.Name), UUID: e.uuid, Result: unchanged, Fields: changes.keys}
	if len(changes.keys) == 0 {
		return out, nil
	}
	out.Result = updated
	if err := e.client.update(ctx, e.t, e.uuid, changes.fields, write{ifMatch: e.etag}); err != nil {
		return Outcome{}, fmt.Errorf("update %s: %w", strings.Join(changes.keys, ", "), err)
	}
	return out, nil
}

// cleared takes keys that were there and were taken out for cleared: who edits
// has seen the whole object.
func (e *editing) cleared(m *Manifest, i *item) {
	for key := range manifestFields(e.t, e.live) {
		_, property := m.Properties[key]
		_, refs := m.References[key]
		if property || refs || key == "perms2" {
			continue
		}
		if class, _ := e.t.Classify(key); class == model.ClassReference {
			i.refs[key] = []refItem{}
		} else {
			m.Properties[key] = []byte("null")
		}
	}
}
