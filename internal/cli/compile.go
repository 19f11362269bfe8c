package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// originText names an object that something follows from. Of one that the
// caller may not see there is only the type.
func originText(o compile.Origin) string {
	if o.Name == "" {
		return fmt.Sprintf("a %s of others", o.Kind)
	}
	return fmt.Sprintf("%s %s", o.Kind, o.Name)
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
	var found compile.Explanation
	if err := json.Unmarshal(raw, &found); err != nil {
		return fmt.Errorf("read what network %s is compiled to: %w", name, err)
	}
	return writeExplanation(w, &found)
}

func writeExplanation(w io.Writer, e *compile.Explanation) error {
	fmt.Fprintf(w, "%s: forwarding table %d, VXLAN %d, %s%s\n", originText(e.Network), e.Number, e.VXLAN, layersText(e), routersText(e))
	for _, part := range []struct {
		title string
		rows  [][]string
	}{
		{"Route targets", targetRows(e.Targets)},
		{"Linked by policies", linkRows(e.Links)},
		{"Asked for by its policies, not by theirs", linkRows(e.Unanswered)},
		{"Through services", chainRows(e.Chains)},
		{"Routes", routeRows(e)},
		{"Routing policies", policyRows(e.Policies)},
		{"Routing instances of clients", instanceRows(e.Instances)},
		{"Problems", problemRows(e.Problems)},
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

// routersText says by which VXLAN network identifiers routers outside reach the
// network with prefixes of EVPN.
func routersText(e *compile.Explanation) string {
	switch {
	case len(e.RouterVNIs) > 0:
		return fmt.Sprintf(", prefixes of EVPN by VXLAN %d", e.RouterVNIs[0])
	case e.Prefixes:
		return ", prefixes of EVPN"
	}
	return ""
}

func layersText(e *compile.Explanation) string {
	switch {
	case e.Layer2 && e.Layer3:
		return "bridges and routes"
	case e.Layer2:
		return "bridges"
	case e.Layer3:
		return "routes"
	}
	return "does not forward"
}

func targetRows(targets []compile.ExplainedTarget) [][]string {
	rows := [][]string{{"TARGET", "DIRECTION", "FROM"}}
	for _, t := range targets {
		direction, from := "export", originText(t.From)
		switch {
		case t.Import && t.Export:
			direction = "both"
		case t.Import:
			direction = "import"
		}
		if t.Through != nil {
			from += ", which connects " + originText(*t.Through)
		}
		rows = append(rows, []string{string(t.Target), direction, from})
	}
	return rows
}

func linkRows(links []compile.ExplainedLink) [][]string {
	rows := [][]string{{"NETWORK", "TARGET", "RULES", "THEIR RULES"}}
	for _, l := range links {
		rows = append(rows, []string{originText(l.Network), string(l.Target), rulesText(l.Rules), rulesText(l.Theirs)})
	}
	return rows
}

func chainRows(chains []compile.ExplainedChain) [][]string {
	rows := [][]string{{"NETWORK", "SERVICES", "RULES", "THEIR RULES"}}
	for _, c := range chains {
		through := make([]string, len(c.Services))
		for i, s := range c.Services {
			through[i] = fmt.Sprintf("%s (%d%s%s)", originText(s.Service), s.Instances, sideText("left", s.Left), sideText("right", s.Right))
		}
		rows = append(rows, []string{originText(c.Network), strings.Join(through, ", "), rulesText(c.Rules), rulesText(c.Theirs)})
	}
	return rows
}

// sideText names the routing policies on a side of a service.
func sideText(side string, policies []compile.Origin) string {
	if len(policies) == 0 {
		return ""
	}
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = originText(p)
	}
	return fmt.Sprintf("; %s: %s", side, strings.Join(names, ", "))
}

func rulesText(rules []compile.ExplainedRule) string {
	words := make([]string, len(rules))
	for i, r := range rules {
		words[i] = originText(r.Policy)
		if r.Rule != "" {
			words[i] += " rule " + r.Rule
		}
	}
	return or(strings.Join(words, ", "))
}

func routeRows(e *compile.Explanation) [][]string {
	rows := [][]string{{"PREFIX", "NEXT HOP", "FROM"}}
	add := func(prefix netip.Prefix, hop netip.Addr, from compile.Origin) {
		text := ""
		if hop.IsValid() {
			text = hop.String()
		}
		rows = append(rows, []string{prefix.String(), or(text), originText(from)})
	}
	for _, from := range e.Routes {
		for _, r := range from.Routes {
			add(r.Prefix, r.NextHop, from.From)
		}
	}
	for _, from := range e.Aggregates {
		for _, a := range from.Aggregates {
			add(a.Prefix, a.NextHop, from.From)
		}
	}
	return rows
}

func policyRows(policies []*compile.RoutingPolicy) [][]string {
	rows := [][]string{{"POLICY", "TERMS"}}
	for _, p := range policies {
		rows = append(rows, []string{originText(p.From), strconv.Itoa(len(p.Terms))})
	}
	return rows
}

func instanceRows(instances []compile.ExplainedInstance) [][]string {
	rows := [][]string{{"INSTANCE", "TABLE", "INTERFACES", "IMPORT", "EXPORT", "CONNECTED WITH"}}
	targets := func(list []compile.Target) string {
		words := make([]string, len(list))
		for i, t := range list {
			words[i] = string(t)
		}
		return or(strings.Join(words, " "))
	}
	for _, i := range instances {
		with := make([]string, len(i.Connected))
		for j, o := range i.Connected {
			with[j] = originText(o)
		}
		rows = append(rows, []string{
			i.Instance.Name, strconv.FormatUint(uint64(i.Number), 10), strconv.Itoa(i.Interfaces), targets(i.Import), targets(i.Export), or(strings.Join(with, ", ")),
		})
	}
	return rows
}

func problemRows(problems []compile.Problem) [][]string {
	rows := [][]string{{"OBJECT", "PROBLEM"}}
	for _, p := range problems {
		rows = append(rows, []string{originText(p.About), p.Text})
	}
	return rows
}
