package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Watch lists objects and then tells what happens to them, until ctx ends.
func (c *Client) Watch(ctx context.Context, w io.Writer, g Get) error {
	if len(g.Names) > 0 {
		return errors.New("--watch goes with the objects of a type, not with names; choose them with -l or --field")
	}
	if g.Output == YAML || g.Output == Name {
		return fmt.Errorf("--watch with -o %s: want text, wide or json", g.Output)
	}
	e := &watcher{client: c, Get: g, w: w, shown: map[string]string{}}
	if g.Output != JSON {
		// What is known of other objects would soon be of yesterday.
		e.columns = slices.DeleteFunc(columnsOf(g.Type, g.Scope, g.Output == Wide), func(c column) bool { return c.join != nil })
		e.fields = append(append(needs(e.columns), selectorFields...), g.Fields.fields()...)
		e.widths = make([]int, len(e.columns))
		e.waiting = []line{}
		e.line("EVENT", titlesOf(e.columns))
	}
	for {
		err := e.follow(ctx)
		if ctx.Err() != nil {
			return nil // whoever watches ends it
		}
		var refused *APIError
		if errors.As(err, &refused) && refused.Status != http.StatusServiceUnavailable || e.failed != nil {
			return errors.Join(err, e.failed)
		}
		if g.Note != nil {
			fmt.Fprintf(g.Note, "the stream of events ended (%v); watching again\n", err)
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// watchPause is how long a lost stream rests before it is opened again.
const watchPause = time.Second

// watcher writes events.
type watcher struct {
	Get
	client  *Client
	w       io.Writer
	columns []column
	fields  []string
	widths  []int
	// waiting are the lines before the end of the list, by which the widths of
	// the columns are known; nil afterwards.
	waiting []line
	// shown are the names of the objects that were written, by UUID.
	shown map[string]string
	// last is the id of the last event that had one: a new stream goes on there.
	last   string
	failed error
}

// line is an event in columns.
type line struct {
	event string
	cells []string
}

func titlesOf(columns []column) []string {
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	return titles
}

// follow reads one stream of events.
func (e *watcher) follow(ctx context.Context) error {
	header := http.Header{}
	if e.last != "" {
		header.Set("Last-Event-ID", e.last)
	}
	resp, err := e.client.open(ctx, http.MethodGet, "/watch", url.Values{"resource_type": {string(e.Type.Kind)}}, header, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	event, data, id := "", strings.Builder{}, ""
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		text = strings.TrimRight(text, "\r\n")
		switch field, value, _ := strings.Cut(text, ":"); {
		case text == "":
			if event != "" {
				if err := e.event(ctx, event, data.String()); err != nil {
					return err
				}
			}
			if id != "" {
				e.last = id // what the event says was written
			}
			event, id = "", ""
			data.Reset()
		case field == "event":
			event = strings.TrimSpace(value)
		case field == "id":
			id = strings.TrimSpace(value)
		case field == "data":
			data.WriteString(strings.TrimPrefix(value, " "))
		}
		if data.Len() > longestAnswer {
			return errors.New("an event is too long")
		}
	}
}

func (e *watcher) event(ctx context.Context, event, data string) error {
	if event == "init" {
		return e.init(ctx)
	}
	var envelope map[string]object
	if err := readAnswer([]byte(data), &envelope); err != nil {
		return err
	}
	o := envelope[string(e.Type.Kind)]
	if event == "delete" {
		e.gone(o.uuid())
		return e.failed
	}
	return e.show(ctx, o)
}

// init writes what there is: all at first, and after a lost stream also what is
// gone since.
func (e *watcher) init(ctx context.Context) error {
	left := map[string]bool{}
	for id := range e.shown {
		left[id] = true
	}
	err := e.client.eachSelected(ctx, e.Get, e.fields, func(o object) error {
		delete(left, o.uuid())
		if _, known := e.shown[o.uuid()]; !known {
			e.write("exists", o)
		}
		return e.failed
	})
	if err != nil {
		return err
	}
	for id := range left {
		e.gone(id)
	}
	if len(e.waiting) > 0 { // the first is the titles
		slices.SortFunc(e.waiting[1:], func(a, b line) int { return slices.Compare(a.cells, b.cells) })
	}
	for _, l := range e.waiting {
		e.print(l)
	}
	e.waiting = nil
	return e.failed
}

// show writes an object that was made or changed, if it is asked for.
func (e *watcher) show(ctx context.Context, o object) error {
	_, known := e.shown[o.uuid()]
	if !e.Scope.has(e.Type, o) || !e.Labels.matches(o) || !e.Get.Fields.matches(o) {
		e.gone(o.uuid())
		return e.failed
	}
	if e.fields != nil {
		var err error
		// An event has no children and back references; a column may want them.
		if o, err = e.client.readFields(ctx, e.Type.Kind, o.uuid(), strings.Join(e.fields, ",")); err != nil || o == nil {
			return err
		}
	}
	if known {
		e.write("changed", o)
	} else {
		e.write("created", o)
	}
	return e.failed
}

// gone writes that an object does not exist, or is not asked for, any more.
func (e *watcher) gone(id string) {
	name, known := e.shown[id]
	if !known {
		return
	}
	delete(e.shown, id)
	if e.columns == nil {
		e.json("deleted", object{"uuid": mustJSON(id), "fq_name": mustJSON(model.ParseFQ(e.Type.Kind, name))})
		return
	}
	cells := make([]string, len(e.columns))
	for i, c := range e.columns {
		if cells[i] = "-"; c.title == "NAME" {
			cells[i] = e.Scope.display(e.Type, model.ParseFQ(e.Type.Kind, name))
		}
	}
	e.line("deleted", cells)
}

func (e *watcher) write(event string, o object) {
	e.shown[o.uuid()] = model.FQString(o.name())
	if e.columns == nil {
		e.json(event, o)
		return
	}
	cells := make([]string, len(e.columns))
	for i, c := range e.columns {
		cells[i] = or(c.value(&row{o, &joins{}}))
	}
	e.line(event, cells)
}

func (e *watcher) json(event string, o object) {
	data, err := json.Marshal(struct {
		Event  string `json:"event"`
		Object object `json:"object"`
	}{event, o})
	if err == nil {
		_, err = fmt.Fprintf(e.w, "%s\n", data)
	}
	e.failed = errors.Join(e.failed, err)
}

// line writes cells in columns that grow as they have to.
func (e *watcher) line(event string, cells []string) {
	for i := range cells {
		cells[i] = printable(cells[i])
		e.widths[i] = max(e.widths[i], len(cells[i]))
	}
	if e.waiting != nil {
		e.waiting = append(e.waiting, line{event, cells})
		return
	}
	e.print(line{event, cells})
}

func (e *watcher) print(l line) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s", l.event)
	for i, cell := range l.cells {
		fmt.Fprintf(&b, "  %-*s", e.widths[i], cell)
	}
	_, err := fmt.Fprintln(e.w, strings.TrimRight(b.String(), " "))
	e.failed = errors.Join(e.failed, err)
}
