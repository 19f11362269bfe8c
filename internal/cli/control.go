package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Control asks a control node for its tables.
type Control struct{ client *Client }

// NewControl makes a client of the control node at an address, unix:PATH.
func NewControl(address string) (*Control, error) {
	c, err := NewClient(Options{Address: address, Service: "control node", Flag: "--control"})
	if err != nil {
		return nil, err
	}
	return &Control{c}, nil
}

// Close ends idle connections.
func (c *Control) Close() { c.client.Close() }

// show writes the answer to a question as it is, or as a table of rows.
func show[T any](ctx context.Context, c *Control, w io.Writer, path string, q url.Values, output Output, rows func(T) [][]string) error {
	data, _, err := c.client.send(ctx, http.MethodGet, path, q, nil, nil)
	if err != nil {
		return err
	}
	if output == JSON {
		_, err := io.Copy(w, bytes.NewReader(data))
		return err
	}
	var answer T
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("the control node answers no JSON of the expected form: %w; is --control its address?", err)
	}
	return table(w, rows(answer))
}

type controlAgent struct {
	Node, Name, Address string
	Connected, Stale    bool
	Ports               int
	Down                []string `json:"down_ports"`
	Waiting             []string `json:"waiting_ports"`
	Unhealthy           []string `json:"unhealthy_ports"`
	Held                []string `json:"held_ports"`
	VRFs                []uint32
	Behind              uint64 `json:"changes_behind"`
}

// Agents lists the nodes with what the control node knows of their agents.
func (c *Control) Agents(ctx context.Context, w io.Writer, output Output) error {
	return show(ctx, c, w, "/agents", nil, output, func(list []controlAgent) [][]string {
		rows := [][]string{{"NAME", "ADDRESS", "SESSION", "PORTS", "DOWN", "WAITING", "UNHEALTHY", "HELD", "NETWORKS", "BEHIND"}}
		for _, a := range list {
			session := "none"
			switch {
			case a.Connected:
				session = "up"
			case a.Stale:
				session = "lost"
			}
			rows = append(rows, []string{
				cmp.Or(a.Name, a.Node), or(a.Address), session, strconv.Itoa(a.Ports), strconv.Itoa(len(a.Down)),
				strconv.Itoa(len(a.Waiting)), strconv.Itoa(len(a.Unhealthy)), strconv.Itoa(len(a.Held)), strconv.Itoa(len(a.VRFs)), number(a.Behind),
			})
		}
		return rows
	})
}

type controlCheck struct {
	Name, Kind, Address, Network, Node, Reason string
	Failing                                    bool
}

// Health lists the health checks of ports.
func (c *Control) Health(ctx context.Context, w io.Writer, output Output) error {
	return show(ctx, c, w, "/health", nil, output, func(list []controlCheck) [][]string {
		rows := [][]string{{"CHECK", "KIND", "ADDRESS", "NETWORK", "NODE", "STATE", "REASON"}}
		for _, x := range list {
			state := "passing"
			if x.Failing {
				state = "failing"
			}
			rows = append(rows, []string{x.Name, x.Kind, x.Address, x.Network, x.Node, state, or(x.Reason)})
		}
		return rows
	})
}

type controlBGP struct {
	Router  string
	Running bool
	Error   string
	Peers   []struct {
		Name, Address, State, Error string
		AS                          uint32
		Since                       *time.Time
		Flaps                       int
		Families                    []struct {
			Family   string
			Received int
		}
		Task *struct {
			Refused  int
			Refusals []struct{ Prefix, Reason string }
		}
	}
}

// Peers lists the BGP peers.
func (c *Control) Peers(ctx context.Context, w io.Writer, output Output) error {
	return show(ctx, c, w, "/peers", nil, output, func(b controlBGP) [][]string {
		if !b.Running {
			why := cmp.Or(b.Error, "no peer is asked for: there is no bgp-router "+cmp.Or(b.Router, "with the name of this controller"))
			return [][]string{{"BGP does not run: " + why}}
		}
		rows := [][]string{{"NAME", "ADDRESS", "AS", "STATE", "SINCE", "FLAPS", "RECEIVED", "REASON"}}
		for _, p := range b.Peers {
			since, received := "-", []string{}
			if p.Since != nil {
				since = time.Since(*p.Since).Round(time.Second).String()
			}
			for _, f := range p.Families {
				received = append(received, fmt.Sprintf("%s %d", f.Family, f.Received))
			}
			if p.Task != nil && p.Task.Refused > 0 {
				received = append(received, fmt.Sprintf("%d refused", p.Task.Refused))
				if first := p.Task.Refusals; p.Error == "" && len(first) > 0 {
					p.Error = first[0].Prefix + ": " + first[0].Reason
				}
			}
			rows = append(rows, []string{
				p.Name, or(p.Address), number(uint64(p.AS)), p.State, since, strconv.Itoa(p.Flaps),
				or(strings.Join(received, ", ")), or(p.Error),
			})
		}
		return rows
	})
}

type controlInstance struct {
	VRF         uint32
	Name        string
	VNI         uint32
	Import      []string
	Export      []string
	Routes      int
	Subscribers int
}

// Instances lists the forwarding tables.
func (c *Control) Instances(ctx context.Context, w io.Writer, output Output) error {
	return show(ctx, c, w, "/instances", nil, output, func(list []controlInstance) [][]string {
		rows := [][]string{{"VRF", "NETWORK", "VNI", "ROUTES", "AGENTS", "IMPORT", "EXPORT"}}
		for _, i := range list {
			rows = append(rows, []string{
				number(uint64(i.VRF)), i.Name, number(uint64(i.VNI)), strconv.Itoa(i.Routes), strconv.Itoa(i.Subscribers),
				or(strings.Join(i.Import, " ")), or(strings.Join(i.Export, " ")),
			})
		}
		return rows
	})
}

type controlImport struct {
	Name   string
	Target string
	From   []struct{ Name string }
}

// Imports tells from which networks each network takes routes.
func (c *Control) Imports(ctx context.Context, w io.Writer, network string, output Output) error {
	return show(ctx, c, w, "/imports", named(network), output, func(list []controlImport) [][]string {
		rows := [][]string{{"NETWORK", "IMPORTS", "FROM"}}
		for _, i := range list {
			var from []string
			for _, f := range i.From {
				from = append(from, f.Name)
			}
			rows = append(rows, []string{i.Name, i.Target, or(strings.Join(from, " "))})
		}
		return rows
	})
}

type controlRoute struct {
	Key   string
	Paths []controlPath
}

type controlPath struct {
	Source, Name, Why string
	Used              bool
	ImportedFrom      string `json:"imported_from"`
	NextHop           string `json:"next_hop"`
	Label, VNI        uint32
	State             []string
	Policies          []string `json:"routing_policies"`
}

// Routes lists the routes of a network.
func (c *Control) Routes(ctx context.Context, w io.Writer, network string, output Output) error {
	type answer struct{ Routes []controlRoute }
	return show(ctx, c, w, "/routes", named(network), output, func(a answer) [][]string {
		rows := [][]string{{"ROUTE", "USED", "NEXT HOP", "LABEL", "SOURCE", "FROM", "STATE", "WHY"}}
		for _, r := range a.Routes {
			rows = append(rows, r.rows()...)
		}
		return rows
	})
}

// rows are those of the paths of a route, which the first names.
func (r *controlRoute) rows() [][]string {
	var rows [][]string
	for i, p := range r.Paths {
		name := r.Key
		if i > 0 {
			name = ""
		}
		rows = append(rows, append([]string{name}, p.cells()...))
	}
	return rows
}

func (p *controlPath) cells() []string {
	used, label := "no", number(uint64(p.Label))
	if p.Used {
		used = "yes"
	}
	if p.Label == 0 && p.VNI != 0 {
		label = "vni " + number(uint64(p.VNI))
	}
	why := p.Why
	if len(p.Policies) > 0 {
		why += "; changed by " + strings.Join(p.Policies, "; ")
	}
	return []string{
		used, or(p.NextHop), label, strings.TrimSpace(p.Source + " " + p.Name), or(p.ImportedFrom),
		or(strings.Join(p.State, " ")), why,
	}
}

// Explain tells how a prefix is reached from each network, or from one, and
// why not.
func (c *Control) Explain(ctx context.Context, w io.Writer, prefix, network string, output Output) error {
	type answer struct {
		Name    string
		Route   *controlRoute
		Missing []struct {
			From     string
			Rejected bool
			Path     controlPath
		}
	}
	q := named(network)
	q.Set("prefix", prefix)
	return show(ctx, c, w, "/explain", q, output, func(list []answer) [][]string {
		rows := [][]string{{"NETWORK", "ROUTE", "USED", "NEXT HOP", "LABEL", "SOURCE", "FROM", "STATE", "WHY"}}
		for _, a := range list {
			if a.Route == nil && len(a.Missing) == 0 {
				rows = append(rows, []string{a.Name, "none", "no", "-", "-", "-", "-", "-", "no network has a path to it"})
			}
			if a.Route != nil {
				for _, row := range a.Route.rows() {
					rows = append(rows, append([]string{a.Name}, row...))
				}
			}
			for _, m := range a.Missing {
				m.Path.ImportedFrom = m.From
				state := "not imported"
				if m.Rejected {
					state = "rejected"
				}
				rows = append(rows, append([]string{a.Name, state}, m.Path.cells()...))
			}
		}
		return rows
	})
}

func named(network string) url.Values {
	q := url.Values{}
	if network != "" {
		q.Set("network", withoutType(model.KindVirtualNetwork, network))
	}
	return q
}

// withoutType is the name of an object that somebody names as Name shows it,
// with its type.
func withoutType(kind model.Kind, name string) string {
	return strings.TrimPrefix(name, string(kind)+"/")
}

type controlPolicy struct {
	Sets []struct {
		Name  string
		Rules []struct {
			Rule, Action, Service, Src, Dst string
			SameTags                        []string `json:"same_tags"`
		}
	}
}

// Policy lists the rules for the traffic of an interface.
func (c *Control) Policy(ctx context.Context, w io.Writer, port string, output Output) error {
	return show(ctx, c, w, "/policy", url.Values{"interface": {withoutType(model.KindVirtualMachineInterface, port)}}, output, func(p controlPolicy) [][]string {
		rows := [][]string{{"SET", "ACTION", "SERVICE", "FROM", "TO", "RULE"}}
		for _, set := range p.Sets {
			name := set.Name
			for _, r := range set.Rules {
				service := r.Service
				if len(r.SameTags) > 0 {
					service += " with the same tags " + strings.Join(r.SameTags, " ")
				}
				rows = append(rows, []string{name, r.Action, service, r.Src, r.Dst, r.Rule})
				name = ""
			}
			rows = append(rows, []string{name, "deny", "any", "any", "any", "no other"})
		}
		return rows
	})
}
