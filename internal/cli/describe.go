package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// noEffect marks what is stored and returned, and does nothing.
const noEffect = "  (no effect yet)"

// longestList is how many links of one kind are shown.
const longestList = 20

// Describe tells everything about an object that a person wants to know.
func (c *Client) Describe(ctx context.Context, w io.Writer, t *model.Type, s Scope, name string, output Output) error {
	id, err := c.resolve(ctx, t, s, name)
	if err != nil {
		return err
	}
	o, _, err := c.read(ctx, t, id, nil)
	if err != nil {
		return err
	}
	if output == JSON {
		return writeJSON(w, struct {
			Object object `json:"object"`
			// NoEffect are the properties, fields and references of the object
			// that nothing acts on.
			NoEffect []string `json:"no_effect"`
		}{o, ineffective(t, o)})
	}
	d := &description{w: w, t: t, o: o, idle: map[string]bool{}}
	for _, path := range ineffective(t, o) {
		d.idle[path] = true
	}
	d.owner = c.ownerName(ctx, o)
	d.write()
	return d.err
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// ownerName is the owner of an object: the name of a project where it is one.
func (c *Client) ownerName(ctx context.Context, o object) string {
	var p model.PermType2
	if json.Unmarshal(o["perms2"], &p) != nil || p.Owner == "" {
		return ""
	}
	id := p.Owner
	if len(id) == 32 {
		id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	}
	if t, ok := model.TypeOf(string(model.KindProject)); ok && model.IsUUID(id) {
		if project, _, err := c.read(ctx, t, id, map[string][]string{"fields": {"display_name"}}); err == nil {
			return "project " + model.FQString(project.name())
		}
	}
	return p.Owner
}

// description writes one object and remembers the first error.
type description struct {
	w     io.Writer
	t     *model.Type
	o     object
	owner string
	idle  map[string]bool // paths without effect
	err   error
}

func (d *description) line(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintln(d.w, strings.TrimRight(printable(fmt.Sprintf(format, args...)), " "))
	}
}

func (d *description) write() {
	d.line("Name:      %s", model.FQString(d.o.name()))
	d.line("Type:      %s", d.t.Kind)
	d.line("UUID:      %s", d.o.uuid())
	if parent := d.o.text("parent_type"); parent != "" && len(d.o.name()) > 1 {
		d.line("Parent:    %s %s", parent, model.FQString(d.o.name()[:len(d.o.name())-1]))
	}
	if d.owner != "" {
		d.line("Owner:     %s", d.owner)
	}
	d.date("Created:  ", "created")
	d.date("Modified: ", "last_modified")
	if who := plainValues(d.o.at("id_perms.creator")); who != "" {
		d.line("Creator:   %s", who)
	}
	if d.t.Effect == "none" {
		d.line("Effect:    none; objects of this type are stored and returned, and nothing acts on them yet")
	}
	d.properties()
	d.references()
	d.links("Children:", model.ClassChildren)
	d.links("Referred to by:", model.ClassBackReference)
}

func plainValues(values []any) string {
	var list []string
	for _, v := range values {
		if text := plainText(v); text != "" {
			list = append(list, text)
		}
	}
	return strings.Join(list, ",")
}

func (d *description) date(title, which string) {
	if at := dateOf(d.o, which); !at.IsZero() {
		d.line("%s %s (%s ago)", title, at.Format("2006-01-02 15:04:05 UTC"), span(time.Since(at)))
	}
}

// hidden are properties that the head of the description tells.
var hidden = map[string]bool{
	"uuid": true, "fq_name": true, "parent_type": true, "parent_uuid": true, "id_perms": true, "configuration_version": true,
}

func (d *description) properties() {
	titled := false
	for _, key := range slices.Sorted(maps.Keys(d.o)) {
		class, _ := d.t.Classify(key)
		if class != model.ClassProperty || hidden[key] || empty(d.o[key]) || key == "display_name" && d.o.text(key) == d.o.text("name") {
			continue
		}
		tree, err := decodeTree(d.o[key])
		if err != nil {
			continue
		}
		if !titled {
			d.line("Properties:")
			titled = true
		}
		d.tree("  ", key, key, tree)
	}
}

// tree writes a value under its name, marking what has no effect.
func (d *description) tree(indent, name, path string, v any) {
	mark := ""
	if d.idle[path] {
		mark = noEffect
	}
	switch v := v.(type) {
	case map[string]any:
		d.line("%s%s:%s", indent, name, mark)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if v[key] != nil {
				d.tree(indent+"  ", key, path+"."+key, v[key])
			}
		}
	case []any:
		if !slices.ContainsFunc(v, isStructured) {
			words := make([]string, len(v))
			for i := range v {
				words[i] = plainText(v[i])
			}
			d.line("%s%s: %s%s", indent, name, strings.Join(words, ", "), mark)
			return
		}
		d.line("%s%s:%s", indent, name, mark)
		for i, item := range v {
			d.tree(indent+"  ", fmt.Sprintf("[%d]", i), path, item)
		}
	default:
		d.line("%s%s: %s%s", indent, name, plainText(v), mark)
	}
}

func isStructured(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func (d *description) references() {
	titled := false
	for _, key := range slices.Sorted(maps.Keys(d.o)) {
		class, kind := d.t.Classify(key)
		list := d.o.links(key)
		if class != model.ClassReference || len(list) == 0 {
			continue
		}
		if !titled {
			d.line("References:")
			titled = true
		}
		mark := ""
		if d.idle[key] {
			mark = noEffect
		}
		for i, l := range list {
			if i == longestList {
				d.line("  %s: %d more; `contrail get %s %s -o json` shows all", kind, len(list)-i, d.t.Kind, d.o.uuid())
				break
			}
			d.line("  %s %s%s", kind, l.name(), mark)
			if tree, err := decodeTree(l.Attr); err == nil {
				if fields, ok := tree.(map[string]any); ok {
					for _, name := range slices.Sorted(maps.Keys(fields)) {
						d.tree("    ", name, key+".attr."+name, fields[name])
					}
				}
			}
		}
	}
}

// links writes children or back references, some of each type.
func (d *description) links(title string, wanted model.Class) {
	titled := false
	for _, key := range slices.Sorted(maps.Keys(d.o)) {
		class, kind := d.t.Classify(key)
		list := d.o.links(key)
		if class != wanted || len(list) == 0 {
			continue
		}
		if !titled {
			d.line("%s", title)
			titled = true
		}
		slices.SortFunc(list, func(a, b linkTo) int { return strings.Compare(a.name(), b.name()) })
		for _, l := range list[:min(len(list), longestList)] {
			d.line("  %s %s", kind, l.name())
		}
		if more := len(list) - longestList; more > 0 {
			d.line("  %s: %d more", kind, more)
		}
	}
}

// ineffective are the paths of what an object has and nothing acts on. What is
// inside of something without effect is not listed again.
func ineffective(t *model.Type, o object) []string {
	list := []string{}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		class, kind := t.Classify(key)
		tree, err := decodeTree(o[key])
		if err != nil || empty(o[key]) || identity[key] && key != "perms2" {
			continue
		}
		switch class {
		case model.ClassProperty:
			p, _ := t.Property(key)
			if !p.Effective {
				list = append(list, key)
				continue
			}
			list = append(list, idleFields(tree, p.Value.Struct(), key)...)
		case model.ClassReference:
			r, _ := t.Reference(kind)
			if !r.Effective {
				list = append(list, key)
				continue
			}
			for _, l := range o.links(key) {
				if attr, err := decodeTree(l.Attr); err == nil {
					list = append(list, idleFields(attr, r.Struct(), key+".attr")...)
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func idleFields(tree any, s *model.Struct, path string) []string {
	var list []string
	switch v := tree.(type) {
	case []any:
		for _, item := range v {
			list = append(list, idleFields(item, s, path)...)
		}
	case map[string]any:
		if s == nil {
			return nil
		}
		for key, inner := range v {
			f, ok := s.Field(key)
			switch {
			case !ok || inner == nil:
			case !f.Effective:
				list = append(list, path+"."+key)
			default:
				list = append(list, idleFields(inner, f.Value.Struct(), path+"."+key)...)
			}
		}
	}
	return list
}
