//go:build net

package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// TestNetWithdrawnMeanwhile: a route that is withdrawn just when other targets
// come to be wanted is gone all the same.
func TestNetWithdrawnMeanwhile(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 64512)
	mine := []string{"target:64500:1"}
	g.network("blue", 1, mine, nil)
	g.announce("10.9.0.0/24", 99, mine...)
	g.want("blue's way out", "bgp 192.0.2.1 label 99", func() string { return g.reaches(1, "10.9.0.0/24") })

	// With the lock held the border hears of both at the same time.
	b := g.server.tables.border
	g.server.tables.mu.Lock()
	g.speaker.Withdraw(g.nlri("10.9.0.0/24"))
	held := func() (n int) {
		for _, p := range b.state.speaker.Peers() {
			for _, f := range p.Families {
				if f.Family == bgp.VPNv4 {
					n += f.Routes
				}
			}
		}
		return n
	}
	for deadline := time.Now().Add(patience); held() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	b.wanted = map[rib.Target]struct{}{
		rib.Target(bgp.NewRouteTarget(64500, 1)): {}, rib.Target(bgp.NewRouteTarget(64500, 2)): {},
	}
	b.poke()
	n := held()
	g.server.tables.mu.Unlock()
	if n > 0 {
		t.Fatalf("%d routes are not withdrawn", n)
	}
	g.want("blue's way out", "none", func() string { return g.reaches(1, "10.9.0.0/24") })
}

// TestNetTooManyTargets: a network whose routes no message can hold does not keep
// in those of another.
func TestNetTooManyTargets(t *testing.T) {
	t.Parallel()
	g := newGateway(t, 64512)
	var many []string
	for i := range 400 {
		many = append(many, fmt.Sprintf("target:64501:%d", i))
	}
	mine := []string{"target:64500:1"}
	g.node("n1", "172.31.0.11", 1500)
	g.network("blue", 1, mine, mine)
	g.attach("b1", "blue", "n1", "10.0.0.3", 16)
	g.want("blue seen outside", "172.31.0.11:1 via 172.31.0.11 label 16 encapsulation:11 encapsulation:13 origin-vn:64512:1 target:64500:1 target:64512:8000001", func() string { return g.hears("10.0.0.3/32") })
	g.network("blue", 1, mine, append(many, mine...))
	g.network("red", 2, nil, mine)
	g.attach("r1", "red", "n1", "10.0.0.4", 17)
	g.want("red seen outside", "172.31.0.11:2 via 172.31.0.11 label 17 encapsulation:11 encapsulation:13 origin-vn:64512:2 target:64500:1 target:64512:8000002", func() string { return g.hears("10.0.0.4/32") })
	g.want("blue seen outside", "none", func() string { return g.hears("10.0.0.3/32") })
}
