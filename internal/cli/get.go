package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/contrail-mesos/contrail/internal/model"
)

// systemConfig is the name of the only global-system-config.
const systemConfig = "default-global-system-config"

// Output is how an answer is written.
type Output string

// The forms of answers. Text is a table or sentences.
const (
	Text Output = ""
	Wide Output = "wide"
	JSON Output = "json"
	YAML Output = "yaml"
	Name Output = "name"
)

// Get says which objects to list.
type Get struct {
	Type *model.Type
	// Names are names or UUIDs; none means all that are selected.
	Names  []string
	Scope  Scope
	Labels Selector
	Fields FieldSelector
	Output Output
	// Note is where remarks go that are no part of the answer.
	Note io.Writer
}

// Get lists objects.
func (c *Client) Get(ctx context.Context, w io.Writer, g Get) error {
	p, err := c.newPrinter(ctx, w, g)
	if err != nil {
		return err
	}
	if len(g.Names) > 0 {
		err = c.eachNamed(ctx, g, p.fields, p.print)
	} else {
		err = c.eachSelected(ctx, g, p.fields, p.print)
	}
	if err != nil {
		return err
	}
	if p.printed == 0 && g.Output != JSON && g.Note != nil {
		where := ""
		if !g.Scope.All && hasProjects(g.Type) {
			where = fmt.Sprintf(" in project %s; -A shows those of all projects", model.FQString(g.Scope.project()))
		}
		fmt.Fprintf(g.Note, "no %s found%s\n", g.Type.Collection(), where)
	}
	return p.end()
}

// eachNamed reads the named objects one by one.
func (c *Client) eachNamed(ctx context.Context, g Get, fields []string, each func(object) error) error {
	q := url.Values{}
	if fields != nil {
		q.Set("fields", strings.Join(fields, ","))
	} else {
		q.Set("exclude_children", "true")
		q.Set("exclude_back_refs", "true")
	}
	for _, name := range g.Names {
		id, err := c.resolve(ctx, g.Type, g.Scope, name)
		if err != nil {
			return err
		}
		o, _, err := c.read(ctx, g.Type, id, q)
		if err != nil {
			return err
		}
		if g.Labels.matches(o) && g.Fields.matches(o) {
			if err := each(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachSelected lists the objects of the scope that the selectors choose.
func (c *Client) eachSelected(ctx context.Context, g Get, fields []string, each func(object) error) error {
	q := url.Values{}
	if fields != nil {
		q.Set("fields", strings.Join(slices.Concat(fields, tenants[g.Type.Kind]), ","))
	} else {
		q.Set("detail", "true")
	}
	if !g.Scope.All && slices.Equal(g.Type.Parents, []model.Kind{model.KindProject}) {
		id, err := c.projectID(ctx, g.Scope)
		if err != nil {
			return err
		}
		q.Set("parent_id", id)
	}
	return c.list(ctx, g.Type, q, func(o object) error {
		if inner, ok := o[string(g.Type.Kind)]; ok && fields == nil {
			o = nil
			if err := readAnswer(inner, &o); err != nil {
				return err
			}
		}
		if !g.Scope.has(g.Type, o) || !g.Labels.matches(o) || !g.Fields.matches(o) {
			return nil
		}
		return each(o)
	})
}

func (c *Client) projectID(ctx context.Context, s Scope) (string, error) {
	t, _ := model.TypeOf(string(model.KindProject))
	id, err := c.idOf(ctx, t, s.project())
	if isNotFound(err) {
		return "", fmt.Errorf("project %s does not exist; choose one with --project, or all with -A; `contrail get projects` lists them", model.FQString(s.project()))
	}
	return id, err
}

// printer writes objects in one of the forms.
type printer struct {
	Get
	w       io.Writer
	fields  []string // nil for all
	columns []column
	joins   *joins
	rows    [][]string
	printed int
	// single is set when one object was asked for by its name.
	single bool
}

func (c *Client) newPrinter(ctx context.Context, w io.Writer, g Get) (*printer, error) {
	p := &printer{Get: g, w: w, single: len(g.Names) == 1}
	switch g.Output {
	case JSON, YAML:
		return p, nil
	case Name:
		p.fields = []string{"fq_name"}
	case Text, Wide:
		p.columns = columnsOf(g.Type, g.Scope, g.Output == Wide)
		p.fields = needs(p.columns)
		var err error
		if p.joins, err = c.load(ctx, p.columns); err != nil {
			return nil, err
		}
	}
	if len(g.Labels) > 0 {
		p.fields = append(p.fields, selectorFields...)
	}
	p.fields = append(p.fields, g.Fields.fields()...)
	slices.Sort(p.fields)
	p.fields = slices.Compact(p.fields)
	return p, nil
}

// print takes one object. Tables and names are written at the end, in order.
func (p *printer) print(o object) error {
	p.printed++
	switch p.Output {
	case JSON:
		return p.printJSON(o)
	case YAML:
		text, err := manifestText(p.Type, o)
		if err != nil {
			return err
		}
		if p.printed > 1 {
			text = "---\n" + text
		}
		_, err = io.WriteString(p.w, text)
		return err
	case Name:
		p.rows = append(p.rows, []string{string(p.Type.Kind) + "/" + model.FQString(o.name())})
	default:
		cells := make([]string, len(p.columns))
		for i, c := range p.columns {
			if cells[i] = c.value(&row{o, p.joins}); cells[i] == "" {
				cells[i] = "-"
			}
		}
		p.rows = append(p.rows, cells)
	}
	return nil
}

func (p *printer) printJSON(o object) error {
	text, err := json.MarshalIndent(o, "  ", "  ")
	if p.single {
		text, err = json.MarshalIndent(o, "", "  ")
	}
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.uuid(), err)
	}
	before := ",\n  "
	if p.printed == 1 {
		before = "[\n  "
	}
	if p.single {
		before = ""
	}
	_, err = fmt.Fprintf(p.w, "%s%s", before, text)
	return err
}

// end writes what is left to write.
func (p *printer) end() error {
	var err error
	switch {
	case p.Output == JSON && p.single:
		_, err = io.WriteString(p.w, "\n")
	case p.Output == JSON && p.printed == 0:
		_, err = io.WriteString(p.w, "[]\n")
	case p.Output == JSON:
		_, err = io.WriteString(p.w, "\n]\n")
	case p.Output == YAML || p.printed == 0:
	default:
		slices.SortFunc(p.rows, slices.Compare)
		if p.columns != nil {
			p.rows = slices.Insert(p.rows, 0, titlesOf(p.columns))
		}
		err = table(p.w, p.rows)
	}
	return err
}

// table writes rows in columns.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, cells := range rows {
		fmt.Fprintln(t, printable(strings.Join(cells, "\t")))
	}
	return t.Flush()
}

// printable takes out what a terminal would obey: names may hold anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}
