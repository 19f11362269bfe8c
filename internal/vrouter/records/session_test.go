package records

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// end5 is port 5 as records tell of it.
func end5(change string) string {
	return change + ` local: true interface_id: "port-5" network_name: "d:p:blue" network: 7 security_groups: 1 tags: 2`
}

func TestWhoASessionIsBetween(t *testing.T) {
	peer := dataplane.NewIdentity(8, nil, []uint32{3})
	tunnelled := func(change func(*dataplane.FlowTotals)) *dataplane.FlowTotals {
		f := flowOf(1000, 1, false)
		f.NextHop, f.Peer = dataplane.NextHop{Kind: dataplane.Tunnel, Remote: far}, peer
		if change != nil {
			change(f)
		}
		return f
	}
	arriving := func(answers bool) *dataplane.FlowTotals {
		return tunnelled(func(f *dataplane.FlowTotals) {
			f.Direction, f.OuterSource, f.NextHop = dataplane.FromTunnel, far, dataplane.NextHop{Kind: dataplane.Local, IfIndex: 5}
			f.Answers = answers
		})
	}
	remoteEnd := ` network: 8 tags: 3`
	for name, c := range map[string]struct {
		talk                   dataplane.Conversation
		client, server, remote string
		icmp                   uint32
	}{
		"on one node": {
			talk:   pair(1000, 1, 1),
			client: end5(`address: "10.0.0.3" port: 1000`), server: `address: "10.0.0.4" port: 80 local: true interface_id: "port-6"`,
		},
		"the answers alone": {
			talk:   dataplane.Conversation{Answers: flowOf(1000, 1, true)},
			client: end5(`address: "10.0.0.3" port: 1000`), server: `address: "10.0.0.4" port: 80 local: true interface_id: "port-6"`,
		},
		"to another node": {
			talk:   dataplane.Conversation{Begins: tunnelled(nil)},
			client: end5(`address: "10.0.0.3" port: 1000`), server: `address: "10.0.0.4" port: 80` + remoteEnd, remote: "172.31.0.12",
		},
		"from another node": {
			talk:   dataplane.Conversation{Begins: arriving(false)},
			client: `address: "10.0.0.3" port: 1000` + remoteEnd, server: end5(`address: "10.0.0.4" port: 80`), remote: "172.31.0.12",
		},
		"answers of another node": {
			talk:   dataplane.Conversation{Answers: arriving(true)},
			client: end5(`address: "10.0.0.4" port: 80`), server: `address: "10.0.0.3" port: 1000` + remoteEnd, remote: "172.31.0.12",
		},
		"from a floating address": {
			talk:   dataplane.Conversation{Begins: tunnelled(func(f *dataplane.FlowTotals) { f.NATSrc = public })},
			client: end5(`address: "10.0.0.3" port: 1000 translated_address: "203.0.113.9"`),
			server: `address: "10.0.0.4" port: 80` + remoteEnd, remote: "172.31.0.12",
		},
		"answers to a floating address": {
			talk: dataplane.Conversation{Answers: func() *dataplane.FlowTotals {
				f := arriving(true)
				f.Src, f.Dst, f.NATDst = server, public, client
				return f
			}()},
			client: end5(`address: "10.0.0.3" port: 80 translated_address: "203.0.113.9"`),
			server: `address: "10.0.0.4" port: 1000` + remoteEnd, remote: "172.31.0.12",
		},
		"echo": {
			talk: dataplane.Conversation{Begins: tunnelled(func(f *dataplane.FlowTotals) { f.Protocol, f.DstPort = 1, 8 })},
			icmp: 8, client: end5(`address: "10.0.0.3" port: 1000`), server: `address: "10.0.0.4"` + remoteEnd, remote: "172.31.0.12",
		},
		"replies to echo of IPv6": {
			talk: dataplane.Conversation{Answers: func() *dataplane.FlowTotals {
				f := arriving(true)
				f.Protocol, f.SrcPort, f.DstPort = 58, 77, 129
				return f
			}()},
			icmp: 128, client: end5(`address: "10.0.0.4" port: 77`), server: `address: "10.0.0.3"` + remoteEnd, remote: "172.31.0.12",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := exporterOf(newFakeSource())
			e.learnPorts()
			m, err := e.maker()
			if err != nil {
				t.Fatal(err)
			}
			s := m.session(c.talk)
			for side, want := range map[*collectorv1.End]string{s.GetClient(): c.client, s.GetServer(): c.server} {
				var end collectorv1.End
				if err := prototext.Unmarshal([]byte(want), &end); err != nil {
					t.Fatal(err)
				}
				if !proto.Equal(side, &end) {
					t.Errorf("end is  %v\nwant    %v", side, &end)
				}
			}
			if s.GetRemoteNode() != c.remote || s.GetIcmpType() != c.icmp {
				t.Errorf("remote node %q, ICMP type %d, want %q and %d", s.GetRemoteNode(), s.GetIcmpType(), c.remote, c.icmp)
			}
		})
	}
}

// TestFlowsOfAllNodesDiffer, also where all else is the same.
func TestFlowsOfAllNodesDiffer(t *testing.T) {
	f, seen := flowOf(1, 1, false), map[string]bool{}
	for _, node := range []string{"a", "b"} {
		for _, boot := range []string{"x", "y"} {
			seen[string(maker{salt: saltOf(node, boot)}.flow(f).GetFlowId())] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d ids of 4 flows", len(seen))
	}
}

// TestSumsAreWhatWasCounted: whatever comes and goes, and however often the agent
// starts again or a collector loses what it has not acknowledged.
func TestSumsAreWhatWasCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := newFakeSource()
		var (
			e       *Exporter
			seen    cuts
			told    []*collectorv1.Session
			counted uint64
			now     = time.Hour
			number  int
		)
		begin := func() { e, seen = exporterOf(source), cuts{}; source.ended = e.ended }
		begin()
		read := func() {
			if err := e.read(t.Context(), seen.next(now)); err != nil {
				t.Fatal(err)
			}
		}
		// deliver has the collector take what waits, or die with it.
		deliver := func(acknowledged bool) {
			if waiting, _ := e.queue.state(); waiting == 0 {
				return
			}
			batch, _ := e.queue.take(t.Context(), batchSize)
			told = append(told, batch...)
			if !acknowledged {
				e.queue.restart(batch)
				seen = cuts{} // the next stream begins with the whole table
			}
		}
		stamp := func(f *dataplane.FlowTotals) { f.Created, f.LastSeen = now, now }
		t.Repeat(map[string]func(*rapid.T){
			"new": func(t *rapid.T) {
				c := pair(number, uint64(rapid.IntRange(1, 9).Draw(t, "packets")), 0)
				number++
				c.Answers = nil
				stamp(c.Begins)
				counted += c.Begins.Packets
				source.flows = append(source.flows, c)
			},
			"packets": func(t *rapid.T) {
				if len(source.flows) == 0 {
					return
				}
				c := &source.flows[rapid.IntRange(0, len(source.flows)-1).Draw(t, "flow")]
				begins, answers := *c.Begins, flowOf(int(c.Begins.SrcPort), 0, true)
				stamp(answers)
				if c.Answers != nil {
					*answers = *c.Answers
				}
				begins.Packets, begins.LastSeen = begins.Packets+1, now
				answers.Packets, answers.LastSeen = answers.Packets+2, now
				c.Begins, c.Answers = &begins, answers
				counted += 3
			},
			"end": func(t *rapid.T) {
				if len(source.flows) == 0 {
					return
				}
				i := rapid.IntRange(0, len(source.flows)-1).Draw(t, "flow")
				c := source.flows[i]
				begins := *c.Begins
				begins.Ended = true
				source.end(dataplane.Conversation{Begins: &begins, Answers: c.Answers})
				if c.Answers != nil {
					answers := *c.Answers
					answers.Ended = true
					source.end(dataplane.Conversation{Answers: &answers})
				}
				source.flows = append(source.flows[:i:i], source.flows[i+1:]...)
			},
			"read":  func(*rapid.T) { read() },
			"take":  func(*rapid.T) { deliver(true) },
			"lose":  func(*rapid.T) { deliver(false) },
			"time":  func(t *rapid.T) { now += time.Duration(rapid.IntRange(1, 12).Draw(t, "s")) * time.Second },
			"start": func(*rapid.T) { deliver(true); begin() },
			"": func(t *rapid.T) {
				now += goesOn + time.Second
				read()
				deliver(true)
				if got := totals(told); got != counted {
					t.Fatalf("records tell of %d packets, counted were %d", got, counted)
				}
			},
		})
	})
}
