// Package dataplane measures forwarding between containers: packets of 64
// bytes, request/response, connect/request/response and TCP streams, across two
// nodes and on one, next to a raw veth pair (the limit) and to Linux bridge +
// VXLAN over the same kind of underlay.
//
// All variants are set up at once in namespaces of their own and idle until
// their turn. Each round runs every case in every variant, in another order
// each time.
//
// Beside that it takes what packets cost in the programs alone, by the kernel's
// count of their time: new flows next to established ones, and both by the number
// of rules, routes and other flows.
package dataplane

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

const (
	ours          = "mplsoudp"
	defaultRounds = 11
	slice         = 400 * time.Millisecond
)

// targets are the ratios to reach against bridge + VXLAN across nodes.
func targets() map[string]float64 {
	return map[string]float64{"udp64/cross": 1.7, "rr/cross": 1.35, "crr/cross": 1.35, "tcp2/cross": 0.9}
}

// fixedLoad is the load that the programs' cost for a packet is taken at: a batch
// in each pause.
const (
	fixedRate  = 20_000
	fixedPause = time.Second * batch / fixedRate
)

// Run measures; rounds is 0 for the default. It needs root.
func Run(ctx context.Context, rounds int) (*report.Area, error) {
	if rounds == 0 {
		rounds = defaultRounds
	}
	return run(ctx, rounds, slice, usualAmounts())
}

// run measures each variant of each case for a slice of time in each round.
func run(ctx context.Context, rounds int, slice time.Duration, a amounts) (*report.Area, error) {
	// Threads in system calls unknown to the runtime each hold a processor.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(12))
	area := &report.Area{Area: "dataplane", Machine: report.ThisMachine()}
	samples := report.NewSamples()
	s := &scope.Scope{}
	var more []report.Result
	err := s.Run(func() error {
		variants := []variant{mplsOverUDP(s), veth(s), bridgeVXLAN(s)}
		update := newUpdater(s)
		p := newPrograms(s, nstest.BPFFS(s), a)
		policy := newPolicyNode(ctx, s, a.ports)
		if err := policy.settle(ctx); err != nil {
			return err
		}
		for round := range rounds {
			if err := oneRound(ctx, variants, round, slice, samples); err != nil {
				return err
			}
			if err := update.round(samples); err != nil {
				return fmt.Errorf("%s: %w", routeUpdate, err)
			}
			if err := policy.round(ctx, samples); err != nil {
				return err
			}
			if err := perPacket(ctx, variants[0], slice, samples); err != nil {
				return err
			}
			if err := p.round(ctx, samples); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, rounds)
		}
		for _, name := range slices.Sorted(maps.Keys(variants[0].programs)) {
			more = append(more, samples.Result(perPacketCase(name), ours, "ns", "lower", nil))
		}
		more = append(more, p.results(samples)...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range cases() {
		kind := loads()[name.load]
		area.Results = append(area.Results, samples.Result(name.String(), ours, kind.unit, "higher",
			map[string]float64{"bridge+vxlan": targets()[name.String()]}))
	}
	area.Results = append(area.Results, samples.Result(routeUpdate, ours, "routes/s", "higher", map[string]float64{"batch": 0.7}))
	area.Results = append(area.Results, samples.Result(policyCase(a.ports), ours, "ms", "lower", nil))
	area.Results = append(area.Results, more...)
	return area, nil
}

func perPacketCase(program string) string { return "ns-per-packet/" + program }

// perPacket takes what the programs on the way cost for each packet of a flow at
// a fixed load, by the kernel's count.
func perPacket(ctx context.Context, v variant, slice time.Duration, samples report.Samples) error {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return fmt.Errorf("have the kernel count: %w", err)
	}
	defer stats.Close()
	before := map[string]*ebpf.ProgramStats{}
	for name, prog := range v.programs {
		if before[name], err = prog.Stats(); err != nil {
			return fmt.Errorf("read statistics: %w", err)
		}
	}
	kind := load{"packets/s", 1, false, udpServe, udpDial(fixedPause)}
	p := v.pairs["cross"]
	if _, err := measure(ctx, kind, p.client, p.server, slice); err != nil {
		return fmt.Errorf("fixed load: %w", err)
	}
	for name, prog := range v.programs {
		ns, err := costSince(prog, before[name])
		if err != nil {
			return fmt.Errorf("fixed load: %w", err)
		}
		samples.Add(perPacketCase(name), v.name, ns)
	}
	return nil
}

type benchCase struct{ load, where string }

func (c benchCase) String() string { return c.load + "/" + c.where }

func cases() []benchCase {
	var all []benchCase
	for _, where := range []string{"cross", "same"} {
		for _, name := range []string{"udp64", "rr", "crr", "tcp1", "tcp2"} {
			all = append(all, benchCase{name, where})
		}
	}
	return all
}

func oneRound(ctx context.Context, variants []variant, round int, slice time.Duration, samples report.Samples) error {
	for _, c := range cases() {
		// Who comes first changes, so that no one always follows the same.
		turn := round % len(variants)
		order := slices.Concat(variants[turn:], variants[:turn])
		for _, v := range order {
			p := v.pairs[c.where]
			rate, err := measure(ctx, loads()[c.load], p.client, p.server, slice)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", c, v.name, err)
			}
			samples.Add(c.String(), v.name, rate)
		}
	}
	return nil
}
