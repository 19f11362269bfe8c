package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// typeRow is a type in the list of all.
type typeRow struct {
	Kind       model.Kind   `json:"kind"`
	Short      string       `json:"short,omitempty"`
	Parents    []model.Kind `json:"parents"`
	Collection string       `json:"collection"`
	Effect     string       `json:"effect"`
	Doc        string       `json:"doc"`
}

// Types lists the types of objects.
func Types(w io.Writer, output Output) error {
	var list []typeRow
	for _, t := range model.Types() {
		list = append(list, typeRow{t.Kind, shortOf(t.Kind), append([]model.Kind{}, t.Parents...), t.Collection(), t.Effect, t.Doc})
	}
	if output == JSON {
		return writeJSON(w, list)
	}
	rows := [][]string{{"TYPE", "SHORT", "PARENTS", "EFFECT", "MEANING"}}
	for _, t := range list {
		rows = append(rows, []string{string(t.Kind), or(t.Short), or(joinKinds(t.Parents)), t.Effect, t.Doc})
	}
	return table(w, rows)
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func joinKinds(kinds []model.Kind) string {
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = string(k)
	}
	return strings.Join(words, ",")
}

// explanation is what the model says of a type, a property or a field.
type explanation struct {
	Path string `json:"path"`
	Doc  string `json:"doc,omitempty"`
	// Value describes what it may be; for types, "object".
	Value    string       `json:"value"`
	Parents  []model.Kind `json:"parents,omitempty"`
	Children []model.Kind `json:"children,omitempty"`
	Name     string       `json:"name,omitempty"`
	Effect   string       `json:"effect"`
	Client   string       `json:"client,omitempty"`
	Fields   []part       `json:"fields,omitempty"`
	// References of types, by the key that they are under.
	References []part `json:"references,omitempty"`
	// choices are the values there may be, where they are few.
	choices []string
}

// part is a line of an explanation.
type part struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Client string `json:"client,omitempty"`
	Effect string `json:"effect"`
	Doc    string `json:"doc,omitempty"`
}

// Explain tells what the model says of TYPE or TYPE.property.path.
func Explain(w io.Writer, path string, output Output) error {
	word, rest, _ := strings.Cut(path, ".")
	t, err := FindType(word)
	if err != nil {
		return err
	}
	var e *explanation
	if rest == "" {
		e = explainType(t)
	} else if e, err = explainPath(t, rest); err != nil {
		return err
	}
	if output == JSON {
		return writeJSON(w, e)
	}
	return e.write(w)
}

func explainType(t *model.Type) *explanation {
	e := &explanation{
		Path: string(t.Kind), Doc: t.Doc, Value: "object", Parents: t.Parents, Children: t.Children(),
		Name: nameForm(t), Effect: effectOf(t.Effect != "none"),
	}
	if t.Effect == "partial" {
		e.Effect = "of some of its settings"
	}
	for _, p := range t.Properties {
		if !identity[p.Name] {
			e.Fields = append(e.Fields, part{p.Name, valueText(&p.Value), clientText(p), effectOf(p.Effective), p.Doc})
		}
	}
	for _, r := range t.References {
		e.References = append(e.References, part{Name: r.JSONName(), Value: or(r.Attr), Effect: effectOf(r.Effective)})
	}
	return e
}

// explainPath explains what a dotted path leads to.
func explainPath(t *model.Type, path string) (*explanation, error) {
	names := strings.Split(path, ".")
	e := &explanation{Path: string(t.Kind) + "." + names[0]}
	var inner *model.Struct
	if class, kind := t.Classify(names[0]); class == model.ClassReference {
		r, _ := t.Reference(kind)
		e.Doc = fmt.Sprintf("References to %s objects, each a name or {to: NAME, attr: …}.", kind)
		e.Value, e.Effect, inner = "list of references, attribute "+or(r.Attr), effectOf(r.Effective), r.Struct()
		if len(names) > 1 && names[1] == "attr" {
			names = slices.Delete(names, 1, 2)
		}
	} else {
		p, ok := t.Property(names[0])
		if !ok {
			return nil, fmt.Errorf("%s has no property %q; `contrail explain %s` lists them", t.Kind, names[0], t.Kind)
		}
		e.Doc, e.Value, e.Client, e.Effect, inner = p.Doc, valueText(&p.Value), clientText(p), effectOf(p.Effective), p.Value.Struct()
		e.choices = choicesOf(&p.Value)
	}
	for _, name := range names[1:] {
		if inner == nil {
			return nil, fmt.Errorf("%s is %s and has no fields; it has no %q", e.Path, e.Value, name)
		}
		f, ok := inner.Field(name)
		if !ok {
			return nil, fmt.Errorf("%s has no field %q; `contrail explain %s` lists them", e.Path, name, e.Path)
		}
		e.Path += "." + name
		e.Doc, e.Client, e.choices = "", "", choicesOf(&f.Value)
		e.Value, e.Effect, inner = valueText(&f.Value), effectOf(f.Effective && e.Effect != "none"), f.Value.Struct()
	}
	if inner != nil {
		for _, f := range inner.Fields {
			value := valueText(&f.Value)
			if f.Mandatory {
				value += ", mandatory"
			}
			e.Fields = append(e.Fields, part{Name: f.Name, Value: value, Effect: effectOf(f.Effective && e.Effect != "none")})
		}
	}
	return e, nil
}

func effectOf(is bool) string {
	if is {
		return "yes"
	}
	return "none"
}

// clientText says what a client may do with a property.
func clientText(p *model.Property) string {
	var words []string
	if strings.Contains(p.Ops, "C") {
		words = append(words, "set when created")
	}
	if strings.Contains(p.Ops, "U") {
		words = append(words, "change")
	}
	if len(words) == 0 || p.Presence == "system" {
		return "read"
	}
	return strings.Join(words, ", ")
}

// choicesOf are the values of what has few.
func choicesOf(v *model.Value) []string {
	if v.Type == "boolean" {
		return []string{"true", "false"}
	}
	return v.Enum
}

// valueText says which values there may be.
func valueText(v *model.Value) string {
	text := v.Type
	if v.List {
		text = "list of " + text
	}
	switch {
	case len(v.Enum) > 0:
		text += ": " + strings.Join(v.Enum, ", ")
	case v.Minimum != nil && v.Maximum != nil:
		text += fmt.Sprintf(" from %d to %d", *v.Minimum, *v.Maximum)
	case v.Minimum != nil:
		text += fmt.Sprintf(" of at least %d", *v.Minimum)
	case v.Maximum != nil:
		text += fmt.Sprintf(" of at most %d", *v.Maximum)
	case v.Format != "":
		text += " (" + v.Format + ")"
	}
	if v.Default != "" {
		text += ", default " + v.Default
	}
	return text
}

func (e *explanation) write(w io.Writer) error {
	head := [][]string{{"PATH", e.Path}, {"VALUE", e.Value}, {"EFFECT", e.Effect}}
	if e.Client != "" {
		head = append(head, []string{"CLIENT MAY", e.Client})
	}
	if e.Name != "" {
		head = append(head, []string{"NAME", e.Name}, []string{"PARENTS", or(joinKinds(e.Parents))}, []string{"CHILDREN", or(joinKinds(e.Children))})
	}
	if err := table(w, head); err != nil {
		return err
	}
	if e.Doc != "" {
		fmt.Fprintf(w, "\n%s\n", e.Doc)
	}
	sections := []struct {
		title string
		parts []part
	}{{"FIELD", e.Fields}, {"REFERENCES", e.References}}
	for _, s := range sections {
		if len(s.parts) == 0 {
			continue
		}
		fmt.Fprintln(w)
		title := []string{s.title, "VALUE", "EFFECT"}
		if s.title == "REFERENCES" {
			title[1] = "ATTRIBUTE"
		}
		rows := [][]string{title}
		for _, p := range s.parts {
			rows = append(rows, []string{p.Name, p.Value, p.Effect})
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}
