package dataplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

const (
	newFlowTarget = 5    // times a hit
	sizeTarget    = 1.05 // times the same with few
	hit           = "hit"
	connections   = 512 // in a burst
	usualFlows    = 512 << 10
	// Of the bursts of a round this percentile stands for it: what else the
	// machine does makes a burst slower, and never faster.
	undisturbed = 25
	firstPort   = 1024
	lastPort    = 65_000
)

// amounts are how much there is of what a packet's cost is not to depend on.
type amounts struct {
	rules, routes []int // the fewest first
	flows         int
	bursts        int // of a case in a round
	ports         int // that have a policy that changes
}

func usualAmounts() amounts {
	a := amounts{rules: []int{1, 100, 10_000}, routes: []int{10, 100_000}, flows: 500_000, bursts: 8, ports: 1000}
	if os.Getenv("FULL") == "1" {
		a.routes = append(a.routes, 1_000_000)
	}
	return a
}

// programs are the machines of the cases that run programs on packets.
type programs struct {
	amounts
	machines []*machine // by the number of routes
	crowded  *machine   // it has many flows
	used     int        // connections that there have been
	turn     int
	filled   int // flows of the crowded machine
}

func newPrograms(s *scope.Scope, pins string, a amounts) *programs {
	p := &programs{amounts: a}
	for _, n := range p.routes {
		p.machines = append(p.machines, newMachine(s, pins, fmt.Sprint("routes-", n), n, usualFlows, p.rules...))
	}
	p.crowded = newMachine(s, pins, "flows", p.routes[0], max(usualFlows, uint32(3*p.flows)))
	s.Must(p.fill())
	return p
}

// usual is the last port of a machine, which has a network policy of a few rules.
func (m *machine) usual() int { return len(m.ports) - 1 }

// begin makes new connections from a port to the other node, whose addresses are
// spread over all that there are routes to.
func (p *programs) begin(m *machine, port int) []tuple {
	tuples := make([]tuple, connections)
	for i := range tuples {
		tuples[i] = tuple{
			src: m.ports[port].Addresses[0], dst: m.far[p.used%len(m.far)],
			sport: uint16(firstPort + p.used/len(m.far)%(lastPort-firstPort)), dport: webPort,
		}
		p.used++
	}
	return tuples
}

func reversed(tuples []tuple) []tuple {
	all := make([]tuple, len(tuples))
	for i, t := range tuples {
		all[i] = tuple{t.dst, t.src, t.dport, t.sport, true}
	}
	return all
}

// fill gives the crowded machine its flows: connections and their answers.
func (p *programs) fill() error {
	m := p.crowded
	return m.pinned(clientCPU, func() error {
		for ; p.filled < p.flows; p.filled += 2 * connections {
			tuples := p.begin(m, m.usual())
			for _, packets := range []packets{m.leaving(m.usual(), tuples), m.arriving(m.usual(), reversed(tuples))} {
				if err := packets.run(); err != nil {
					return fmt.Errorf("fill flow table: %w", err)
				}
			}
		}
		return nil
	})
}

// costs are what packets took in a round, in nanoseconds for each burst.
type costs map[string][]float64

func (c costs) add(name string, ns float64) { c[name] = append(c[name], ns) }

// round measures everything once, with the bursts of all cases interleaved.
func (p *programs) round(ctx context.Context, samples report.Samples) error {
	c := costs{}
	for range p.bursts {
		if err := errors.Join(p.newFlows(c), p.sizes(c), ctx.Err()); err != nil {
			return err
		}
	}
	sweep, err := p.sweep()
	if err != nil {
		return err
	}
	c.add(sweepCase(p.flows), sweep)
	for _, r := range p.cases() {
		samples.Add(r.name, ours, report.Percentile(c[r.name], undisturbed))
		if r.peer != "" {
			samples.Add(r.name, r.peer, report.Percentile(c[r.of], undisturbed))
		}
	}
	return nil
}

// programCase is what is measured, and what it is next to.
type programCase struct {
	name, unit string
	peer, of   string // how the peer is called, and what it is
	target     float64
}

func sweepCase(flows int) string { return fmt.Sprintf("flows/%d/sweep", flows) }

func (p *programs) cases() []programCase {
	var all []programCase
	for _, f := range firsts() {
		all = append(all, programCase{f, "ns", hit, f + "/" + hit, newFlowTarget})
	}
	add := func(what, few string, amount, least int) {
		for _, kind := range []string{"hit", "new"} {
			c := programCase{name: fmt.Sprintf("%s/%d/%s", what, amount, kind), unit: "ns"}
			if amount != least {
				c.peer, c.of, c.target = few, fmt.Sprintf("%s/%d/%s", what, least, kind), sizeTarget
			}
			if kind == "new" || what == "flows" {
				c.target = 0
			}
			all = append(all, c)
		}
	}
	for _, n := range p.rules {
		add("rules", fmt.Sprint(p.rules[0], " rule"), n, p.rules[0])
	}
	for _, n := range p.routes {
		add("routes", fmt.Sprint(p.routes[0], " routes"), n, p.routes[0])
	}
	add("flows", "no other", p.flows, 0)
	return append(all, programCase{name: sweepCase(p.flows), unit: "ms"})
}

// firsts are first packets: of connections to another node and from there, with
// those of their answers, and the same between two ports of a node.
func firsts() []string {
	return []string{
		"newflow/from-port", "newflow/from-port-answer", "newflow/from-tunnel",
		"newflow/from-tunnel-answer", "newflow/local", "newflow/local-answer",
	}
}

// newFlows measures first packets, each next to the same packets once more.
func (p *programs) newFlows(c costs) error {
	m := p.machines[0]
	port := m.usual()
	out, in, local := p.begin(m, port), p.begin(m, port), p.begin(m, port)
	for i := range in {
		in[i].src, in[i].dst = in[i].dst, in[i].src
		local[i].dst = m.ports[0].Addresses[0]
		local[i].sport = uint16(firstPort + i)
	}
	cases := firsts()
	err := m.counted(func() error {
		for i, packets := range []packets{
			m.leaving(port, out), m.arriving(port, reversed(out)),
			m.arriving(port, in), m.leaving(port, reversed(in)),
			m.leaving(port, local), m.leaving(0, reversed(local)),
		} {
			if err := c.measure(packets, cases[i], cases[i]+"/"+hit); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, m.forget())
}

// measure takes the first packets of flows, and then the same as hits. In
// between they pass once: what the first ones have left in the caches is gone.
func (c costs) measure(packets packets, first, later string) error {
	ns, err := packets.cost()
	if err != nil {
		return fmt.Errorf("%s: %w", first, err)
	}
	c.add(first, ns)
	if err := packets.run(); err != nil {
		return fmt.Errorf("%s: %w", later, err)
	}
	if ns, err = packets.cost(); err != nil {
		return fmt.Errorf("%s: %w", later, err)
	}
	c.add(later, ns)
	return nil
}

// sizes measures flows by the number of rules of their port, of routes and of
// other flows, in another order each time.
func (p *programs) sizes(c costs) error {
	m := p.machines[0]
	var all []func() error
	add := func(what string, amount int, m *machine, port int) {
		all = append(all, func() error { return p.size(c, fmt.Sprintf("%s/%d/", what, amount), m, port) })
	}
	for i, n := range p.rules {
		add("rules", n, m, i)
	}
	for i, n := range p.routes {
		add("routes", n, p.machines[i], p.machines[i].usual())
	}
	add("flows", 0, m, m.usual())
	add("flows", p.flows, p.crowded, p.crowded.usual())
	p.turn++
	for i := range all {
		if err := all[(i+p.turn)%len(all)](); err != nil {
			return err
		}
	}
	return nil
}

func (p *programs) size(c costs, name string, m *machine, port int) error {
	packets := m.leaving(port, p.begin(m, port))
	err := m.counted(func() error { return c.measure(packets, name+"new", name+"hit") })
	if m != p.crowded {
		err = errors.Join(err, m.forget())
	}
	return err
}

// sweep returns how long it takes to look through all flows, in milliseconds.
func (p *programs) sweep() (float64, error) {
	now, err := dataplane.Now()
	if err != nil {
		return 0, err
	}
	ages := dataplane.Ages{TCP: time.Hour, UDP: time.Hour, Other: time.Hour, Unanswered: time.Hour}
	began := time.Now()
	removed, live, err := p.crowded.plane.SweepFlows(now, ages)
	took := float64(time.Since(began).Microseconds()) / 1000
	if err == nil && (removed != 0 || live < p.filled) {
		err = fmt.Errorf("sweep removed %d flows and left %d, want 0 and at least %d", removed, live, p.filled)
	}
	return took, err
}

// results are those of all rounds.
func (p *programs) results(samples report.Samples) []report.Result {
	var all []report.Result
	for _, c := range p.cases() {
		all = append(all, samples.Result(c.name, ours, c.unit, "lower", map[string]float64{c.peer: c.target}))
	}
	return all
}

// counted runs f in a machine's namespace, pinned, while the kernel counts what
// programs take.
func (m *machine) counted(f func() error) error {
	return m.pinned(clientCPU, func() error {
		stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err != nil {
			return fmt.Errorf("have the kernel count: %w", err)
		}
		defer stats.Close()
		return f()
	})
}
