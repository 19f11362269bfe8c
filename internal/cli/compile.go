package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// compiled is what the API says that a network is compiled to.
type compiled struct {
	Network    origin           `json:"network"`
	Number     uint32           `json:"number"`
	VXLAN      uint32           `json:"vxlan"`
	Layer2     bool             `json:"layer2"`
	Layer3     bool             `json:"layer3"`
	Targets    []compiledTarget `json:"targets"`
	Links      []compiledLink   `json:"links"`
	Unanswered []compiledLink   `json:"unanswered"`
	Routes     []compiledRoutes `json:"routes"`
	Aggregates []compiledRoutes `json:"aggregates"`
	Policies   []struct {
		From  origin            `json:"from"`
		Terms []json.RawMessage `json:"terms"`
	} `json:"routing_policies"`
	Problems []struct {
		About origin `json:"about"`
		Text  string `json:"text"`
	} `json:"problems"`
}

// origin is an object that something follows from. Of one that the caller may
// not see there is only the type.
type origin struct {
	Type model.Kind `json:"type"`
	Name string     `json:"name"`
}

func (o origin) String() string {
	if o.Name == "" {
		return fmt.Sprintf("a %s of others", o.Type)
	}
	return fmt.Sprintf("%s %s", o.Type, o.Name)
}

type compiledTarget struct {
	Target  string  `json:"target"`
	Import  bool    `json:"import"`
	Export  bool    `json:"export"`
	From    origin  `json:"from"`
	Through *origin `json:"through"`
}

func (t *compiledTarget) from() string {
	if t.Through != nil {
		return fmt.Sprintf("%s, which connects %s", t.From, *t.Through)
	}
	return t.From.String()
}

func (t *compiledTarget) direction() string {
	switch {
	case t.Import && t.Export:
		return "both"
	case t.Import:
		return "import"
	}
	return "export"
}

type compiledLink struct {
	Network origin         `json:"network"`
	Target  string         `json:"target"`
	Rules   []compiledRule `json:"rules"`
	Theirs  []compiledRule `json:"their_rules"`
}

type compiledRule struct {
	Policy origin `json:"policy"`
	Rule   string `json:"rule"`
}

func rulesText(rules []compiledRule) string {
	words := make([]string, len(rules))
	for i, r := range rules {
		words[i] = r.Policy.String()
		if r.Rule != "" {
			words[i] += " rule " + r.Rule
		}
	}
	return or(strings.Join(words, ", "))
}

type compiledRoutes struct {
	From       origin          `json:"from"`
	Routes     []compiledRoute `json:"routes"`
	Aggregates []compiledRoute `json:"aggregates"`
}

type compiledRoute struct {
	Prefix  string `json:"prefix"`
	NextHop string `json:"next_hop"`
}

// CompileExplain tells what a network is compiled to, and from what.
func (c *Client) CompileExplain(ctx context.Context, w io.Writer, s Scope, name string, output Output) error {
	t, _ := model.TypeOf(string(model.KindVirtualNetwork))
	id, err := c.resolve(ctx, t, s, name)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := c.getJSON(ctx, "/compile", url.Values{"network": {id}}, &raw); err != nil {
		return err
	}
	if output == JSON {
		return writeJSON(w, raw)
	}
	var found compiled
	if err := json.Unmarshal(raw, &found); err != nil {
		return fmt.Errorf("read what network %s is compiled to: %w", name, err)
	}
	return found.write(w)
}

func (c *compiled) write(w io.Writer) error {
	fmt.Fprintf(w, "%s: forwarding table %d, VXLAN %d, %s\n", c.Network, c.Number, c.VXLAN, c.layers())
	for _, part := range []struct {
		title string
		rows  [][]string
	}{
		{"Route targets", c.targetRows()},
		{"Linked by policies", linkRows(c.Links)},
		{"Asked for by its policies, not by theirs", linkRows(c.Unanswered)},
		{"Routes", c.routeRows()},
		{"Routing policies", c.policyRows()},
		{"Problems", c.problemRows()},
	} {
		if len(part.rows) < 2 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n", part.title)
		if err := table(w, part.rows); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiled) layers() string {
	switch {
	case c.Layer2 && c.Layer3:
		return "bridges and routes"
	case c.Layer2:
		return "bridges"
	case c.Layer3:
		return "routes"
	}
	return "does not forward"
}

func (c *compiled) targetRows() [][]string {
	rows := [][]string{{"TARGET", "DIRECTION", "FROM"}}
	for _, t := range c.Targets {
		rows = append(rows, []string{t.Target, t.direction(), t.from()})
	}
	return rows
}

func linkRows(links []compiledLink) [][]string {
	rows := [][]string{{"NETWORK", "TARGET", "RULES", "THEIR RULES"}}
	for _, l := range links {
		rows = append(rows, []string{l.Network.String(), l.Target, rulesText(l.Rules), rulesText(l.Theirs)})
	}
	return rows
}

func (c *compiled) routeRows() [][]string {
	rows := [][]string{{"PREFIX", "NEXT HOP", "FROM"}}
	for _, from := range append(append([]compiledRoutes{}, c.Routes...), c.Aggregates...) {
		for _, r := range append(append([]compiledRoute{}, from.Routes...), from.Aggregates...) {
			rows = append(rows, []string{r.Prefix, or(r.NextHop), from.From.String()})
		}
	}
	return rows
}

func (c *compiled) policyRows() [][]string {
	rows := [][]string{{"POLICY", "TERMS"}}
	for _, p := range c.Policies {
		rows = append(rows, []string{p.From.String(), strconv.Itoa(len(p.Terms))})
	}
	return rows
}

func (c *compiled) problemRows() [][]string {
	rows := [][]string{{"OBJECT", "PROBLEM"}}
	for _, p := range c.Problems {
		rows = append(rows, []string{p.About.String(), p.Text})
	}
	return rows
}
