package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// VRouter asks the vRouter agents of nodes for the tables of their data planes.
type VRouter struct {
	agents  []*Client
	timeout time.Duration // of an answer
	rates   *rates
}

// NewVRouter makes a client of the agents at addresses, unix:PATH.
func NewVRouter(addresses []string) (*VRouter, error) {
	v := &VRouter{timeout: answerTimeout}
	for _, address := range addresses {
		c, err := NewClient(Options{Address: address, Service: "vRouter agent", Flag: "--agent"})
		if err != nil {
			return nil, err
		}
		v.agents = append(v.agents, c)
	}
	return v, nil
}

// Close ends idle connections.
func (v *VRouter) Close() {
	for _, c := range v.agents {
		c.Close()
	}
}

// answerTimeout bounds how long an agent may take with its answer.
const answerTimeout = 30 * time.Second

// agentAnswer is what one agent answers.
type agentAnswer struct {
	data []byte
	node string
	err  error
}

// askAll asks all agents at once; the answers are in the order of the agents.
func (v *VRouter) askAll(ctx context.Context, path string, q url.Values) []agentAnswer {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	answers := make([]agentAnswer, len(v.agents))
	var asked sync.WaitGroup
	for i, c := range v.agents {
		asked.Go(func() {
			data, header, err := c.send(ctx, http.MethodGet, path, q, nil, nil)
			answers[i] = agentAnswer{data, header.Get(vrouterapi.HeaderNode), err}
		})
	}
	asked.Wait()
	return answers
}

// tableOf writes a table of all nodes: as JSON a list with what each answers, as
// text the rows, with the node where there are several. A node that does not
// answer keeps nobody else's rows back; nothing that is asked for is everywhere.
func tableOf[T any](ctx context.Context, v *VRouter, w io.Writer, path string, q url.Values, output Output, titles []string, rows func(node string, answer T) (list [][]string, left int)) error {
	var text [][]string
	answers := []json.RawMessage{}
	var failed, missing []error
	beyond := 0
	for i, a := range v.askAll(ctx, path, q) {
		if a.err != nil {
			if err := agentError(a.err); isMissing(err) {
				missing = append(missing, err)
			} else {
				failed = append(failed, err)
			}
			continue
		}
		if output == JSON {
			answer, err := withNode(a.data, a.node)
			if err != nil {
				failed = append(failed, agentForm(v.agents[i], err))
				continue
			}
			answers = append(answers, answer)
			continue
		}
		var answer T
		if err := json.Unmarshal(a.data, &answer); err != nil {
			failed = append(failed, agentForm(v.agents[i], err))
			continue
		}
		list, left := rows(a.node, answer)
		for _, row := range list {
			if len(v.agents) > 1 {
				row = append([]string{a.node}, row...)
			}
			text = append(text, row)
		}
		beyond += left
	}
	if len(missing) == len(v.agents) {
		failed = append(failed, missing[0]) // the others say the same
	}
	if len(failed) == len(v.agents) || len(missing) == len(v.agents) {
		return errors.Join(failed...)
	}
	var err error
	if output == JSON {
		err = writeIndented(w, answers)
	} else {
		if len(v.agents) > 1 {
			titles = append([]string{"NODE"}, titles...)
		}
		err = table(w, append([][]string{titles}, text...))
		if beyond > 0 && err == nil {
			_, err = fmt.Fprintf(w, "%d more are not shown; choose among them, or see --limit\n", beyond)
		}
	}
	return errors.Join(append([]error{err}, failed...)...)
}

func agentForm(c *Client, err error) error {
	return fmt.Errorf("the vRouter agent at %s answers no JSON of the expected form: %w; is --agent its address?", c.address, err)
}

// agentError is what the agent says of a request that it refuses.
func agentError(err error) error {
	var refused *APIError
	var said portapi.Error
	if errors.As(err, &refused) && json.Unmarshal([]byte(refused.Text), &said) == nil && said.Message != "" {
		return &said
	}
	return err
}

func isMissing(err error) bool {
	var said *portapi.Error
	return errors.As(err, &said) && said.Kind == portapi.KindNotFound
}

// withNode is a JSON object with the node that answered it.
func withNode(data []byte, node string) (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	fields["node"] = mustJSON(node)
	return json.Marshal(fields)
}

func writeIndented(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// Vifs lists the interfaces.
func (v *VRouter) Vifs(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VIF", "DEVICE", "TYPE", "NETWORK", "VRF", "LABEL", "MAC", "ADDRESSES", "RX", "TX", "DROPS", "FLOWS", "LIMITS", "STATE"}
	return tableOf(ctx, v, w, vrouterapi.PathVifs, q, output, titles, func(_ string, a vrouterapi.Vifs) (rows [][]string, left int) {
		for _, f := range a.Vifs {
			addresses := f.Addresses
			for _, other := range f.Foreign {
				addresses = append(addresses, other.Address)
			}
			rx, tx := passedPackets(f.Counters)
			flows := "-"
			if f.Flows != nil && f.OthersFlows != nil {
				flows = strconv.Itoa(f.Flows.Flows + f.OthersFlows.Flows)
			}
			rows = append(rows, []string{
				strconv.Itoa(f.Vif), or(f.Device), f.Type, or(f.Network), orNone(f.VRF), orNone(f.Label), or(f.MAC), or(strings.Join(addresses, ",")),
				rx, tx, number(f.DropsPackets), flows, vifLimits(f), vifState(f),
			})
		}
		return rows, 0
	})
}

// passedPackets are from the container and to it.
func passedPackets(c vrouterapi.Counters) (rx, tx string) {
	if c.Passed == nil {
		return "-", "-"
	}
	return number(c.FromPackets), number(c.ToPackets)
}

// vifLimits are what the container may send and be sent.
func vifLimits(f vrouterapi.Vif) string {
	var limits []string
	if f.Egress != nil {
		limits = append(limits, "out "+bitRate(f.Egress.Rate))
	}
	if f.Ingress != nil {
		limits = append(limits, "in "+bitRate(f.Ingress.Rate))
	}
	return or(strings.Join(limits, ", "))
}

// bitRate is a number of bits in a second, in the largest unit that leaves it whole.
func bitRate(rate uint64) string {
	units := []string{"", "k", "M", "G", "T"}
	i := 0
	for i < len(units)-1 && rate != 0 && rate%1000 == 0 {
		rate /= 1000
		i++
	}
	return strconv.FormatUint(rate, 10) + units[i] + "bit/s"
}

func vifState(f vrouterapi.Vif) string {
	switch {
	case f.Status == nil:
		return "-"
	case f.Status.State != "applied":
		return strings.TrimSuffix(f.Status.State+": "+f.Status.Error, ": ")
	case f.Blocked:
		return "blocked"
	case f.Policy == nil:
		return "closed: its policy has not come yet"
	}
	return "up"
}

// orNone is a number that is there unless it is 0.
func orNone(n uint32) string {
	if n == 0 {
		return "-"
	}
	return number(uint64(n))
}

// Routes lists routes with their next hops.
func (v *VRouter) Routes(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VRF", "NETWORK", "DESTINATION", "NH", "TYPE", "TO", "ENCAP", "LABEL", "STATE"}
	return tableOf(ctx, v, w, vrouterapi.PathRoutes, q, output, titles, func(_ string, a vrouterapi.Routes) (rows [][]string, left int) {
		for _, r := range a.Routes {
			state := "leaves" // nobody wants it any more
			if r.Status != nil {
				state = strings.TrimSuffix(r.Status.State+": "+r.Status.Error, ": ")
			}
			head := []string{number(uint64(r.VRF)), or(r.Network), r.Destination, number(uint64(r.NextHop.ID))}
			rows = append(rows, append(append(head, hopCells(r.NextHop)...), state))
			for _, m := range r.NextHop.Members {
				rows = append(rows, append(append([]string{"", "", "", ""}, hopCells(m)...), ""))
			}
		}
		return rows, a.Left
	})
}

// hopCells are type, where it leads, encapsulation, and label or VNI.
func hopCells(n vrouterapi.NextHop) []string {
	to := "-"
	switch n.Type {
	case "local", "bridged":
		if to = "no port"; n.Vif != 0 {
			to = fmt.Sprintf("vif %d %s", n.Vif, n.Device)
		} else if n.Label == 0 && n.Type == "local" {
			to = "port of the label"
		}
		if n.Behind {
			to = "behind " + to
		}
	case "ecmp":
		to = fmt.Sprintf("%d members", len(n.Members))
	case "tunnel", "fabric":
		to = strings.TrimSpace(n.Remote + " " + n.MAC)
	}
	if n.Weight > 1 {
		to += fmt.Sprintf(", weight %d", n.Weight)
	}
	label := orNone(n.Label)
	if n.VNI != 0 {
		label = "vni " + orNone(n.VNI)
	}
	return []string{n.Type, to, or(n.Encapsulation), label}
}

// NextHops lists the next hops.
func (v *VRouter) NextHops(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"NH", "TYPE", "TO", "ENCAP", "LABEL", "ROUTES"}
	return tableOf(ctx, v, w, vrouterapi.PathNextHops, q, output, titles, func(_ string, a vrouterapi.NextHops) (rows [][]string, left int) {
		for _, n := range a.NextHops {
			routes := 0
			if n.Routes != nil {
				routes = *n.Routes
			}
			rows = append(rows, append(append([]string{number(uint64(n.ID))}, hopCells(n)...), strconv.Itoa(routes)))
			for _, m := range n.Members {
				rows = append(rows, append(append([]string{""}, hopCells(m)...), ""))
			}
		}
		return rows, 0
	})
}

// Labels lists the MPLS labels.
func (v *VRouter) Labels(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"LABEL", "VIF", "DEVICE", "VRF", "NETWORK", "PORT"}
	return tableOf(ctx, v, w, vrouterapi.PathLabels, q, output, titles, func(_ string, a vrouterapi.Labels) (rows [][]string, left int) {
		for _, l := range a.Labels {
			rows = append(rows, []string{number(uint64(l.Label)), strconv.Itoa(l.Vif), or(l.Device), orNone(l.VRF), or(l.Network), or(l.Port)})
		}
		return rows, 0
	})
}

// VNIs lists the VXLAN network identifiers.
func (v *VRouter) VNIs(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VNI", "VRF", "NETWORK", "LAYER 2", "BROADCASTS TO"}
	return tableOf(ctx, v, w, vrouterapi.PathVNIs, q, output, titles, func(_ string, a vrouterapi.VNIs) (rows [][]string, left int) {
		for _, n := range a.VNIs {
			var remotes []string
			if n.Bridge != nil {
				for _, r := range n.Bridge.Remotes {
					remotes = append(remotes, r.Address)
				}
			}
			rows = append(rows, []string{number(uint64(n.VNI)), number(uint64(n.VRF)), or(n.Network), layer2(n.Bridge), or(strings.Join(remotes, ","))})
		}
		return rows, 0
	})
}

// layer2 is what becomes of frames.
func layer2(b *vrouterapi.Bridge) string {
	switch {
	case b == nil:
		return "-"
	case b.Routes:
		return "bridges, routes IP"
	}
	return "bridges"
}

// Drops lists what was dropped.
func (v *VRouter) Drops(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"REASON", "VIF", "DEVICE", "PACKETS", "BYTES", "DESCRIPTION"}
	return tableOf(ctx, v, w, vrouterapi.PathDrops, q, output, titles, func(_ string, a vrouterapi.Drops) (rows [][]string, left int) {
		for _, d := range a.Drops {
			device := cmp.Or(d.Device, "no port")
			if d.Vif == 0 {
				device = "former ports"
			}
			rows = append(rows, []string{d.Reason, strconv.Itoa(d.Vif), device, number(d.Packets), number(d.Bytes), d.Description})
		}
		return rows, 0
	})
}

// VRFs lists the forwarding tables.
func (v *VRouter) VRFs(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VRF", "NETWORK", "VNI", "PORTS", "INET", "INET6", "MACS", "LAYER 2", "RX", "TX", "DROPS"}
	return tableOf(ctx, v, w, vrouterapi.PathVRFs, q, output, titles, func(_ string, a vrouterapi.VRFs) (rows [][]string, left int) {
		for _, f := range a.VRFs {
			var vnis []string
			for _, vni := range f.VNIs {
				vnis = append(vnis, number(uint64(vni)))
			}
			rx, tx := passedPackets(f.Counters)
			rows = append(rows, []string{
				number(uint64(f.VRF)), or(f.Network), or(strings.Join(vnis, ",")), strconv.Itoa(f.Ports), strconv.Itoa(f.Inet), strconv.Itoa(f.Inet6),
				strconv.Itoa(f.MACs), layer2(f.Bridge), rx, tx, number(f.DropsPackets),
			})
		}
		return rows, 0
	})
}

// Objects lists what is not in the data plane as it should be.
func (v *VRouter) Objects(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"TABLE", "OBJECT", "STATE", "SINCE", "ERROR"}
	return tableOf(ctx, v, w, vrouterapi.PathObjects, q, output, titles, func(_ string, a vrouterapi.Objects) (rows [][]string, left int) {
		for _, o := range a.Objects {
			state, since := o.Status.State, "-"
			if !o.Wanted {
				state += ", is to go"
			}
			if !o.Status.Since.IsZero() {
				since = span(time.Since(o.Status.Since))
			}
			rows = append(rows, []string{o.Table, o.Object, state, since, or(o.Status.Error)})
		}
		return rows, a.Left
	})
}

// Watch shows again and again what show writes: on a terminal in place of what it
// was, else when it has changed. One that fails is told, and shown again when it
// does not.
func Watch(ctx context.Context, w io.Writer, terminal bool, every time.Duration, show func(io.Writer) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := ""
	for {
		var b strings.Builder
		err := show(&b)
		if ctx.Err() != nil {
			return nil // whoever watches ends it
		}
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		switch now := b.String(); {
		case terminal:
			_, err = fmt.Fprint(w, "\x1b[H\x1b[2J", now)
		case now != last:
			_, err = fmt.Fprint(w, now)
			last = now
		default:
			err = nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
