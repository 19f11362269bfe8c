//go:build net

package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// rulesFor is a set of which the last of so many rules lets the packets of the
// benchmarks pass.
func rulesFor(n int) *Set {
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = allow(17, 53, Selector{Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)}), 32)}}, anyone)
	}
	rules[n-1].Src = anyone
	return someSet(fmt.Sprint(n, " rules"), rules...)
}

func newPolicyBench(b *testing.B, rules int) *bench {
	n := newBench(b, func(c *Config) { c.FlowEntries, c.PortFlows, c.PortUnanswered = 1<<20, 1<<20, 1<<20 })
	policy := Policy{Identity: member}
	if rules > 0 {
		set := rulesFor(rules)
		policy.Sets[Leaving] = set.ID
		n.putPolicy(n.port1, policy, set)
	} else {
		n.putPolicy(n.port1, policy)
	}
	return n
}

// BenchmarkNetPolicy is what a packet costs in the program, by the number of
// rules of its port: of a flow that there is, and the first of one.
func BenchmarkNetPolicy(b *testing.B) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for _, rules := range []int{0, 1, 100, 10000} {
		for _, first := range []bool{false, true} {
			b.Run(fmt.Sprintf("rules=%d/first=%t", rules, first), func(b *testing.B) { benchmarkPolicy(b, rules, first) })
		}
	}
}

func benchmarkPolicy(b *testing.B, rules int, first bool) {
	n := newPolicyBench(b, rules)
	prog := n.dp.objects.VifRx
	frame := udpFrame(mac1, addr1, addr2)
	options := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: skBuff{IfIndex: uint32(n.port1.IfIndex)}}
	before, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	n.ns.Must(func() error {
		for i := range b.N {
			if first {
				binary.BigEndian.PutUint16(frame[34:], uint16(i))
				if i%60000 == 59999 {
					n.forgetFlows()
				}
			}
			if verdict, err := prog.Run(options); err != nil || verdict != tcRedirect {
				return fmt.Errorf("verdict %d: %w", verdict, err)
			}
		}
		return nil
	})
	after, err := prog.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount), "ns/packet")
}
