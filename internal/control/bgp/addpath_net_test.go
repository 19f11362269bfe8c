//go:build net

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestNetAddPath: BIRD tells several paths of a route, of which we take as many as
// we asked for.
func TestNetAddPath(t *testing.T) {
	l := newLab(t, nil)
	dir := t.TempDir()
	conf := `
router id 10.99.1.2;
log stderr all;
vpn4 table vt4;
protocol device {}
`
	for n := 1; n <= 3; n++ {
		conf += fmt.Sprintf(`protocol static s%[1]d { vpn4 { table vt4; preference %[2]d; };
  route 64512:3 10.3.3.0/24 unreachable { bgp_ext_community.add((rt, 64512, 100)); bgp_next_hop = 10.99.1.2; };
}
`, n, 200-n)
	}
	conf += `
protocol bgp contrail {
  local 10.99.1.2 as 64512; neighbor 10.99.1.1 as 64512; connect retry time 1; connect delay time 1;
  vpn4 mpls { table vt4; import none; export all; next hop self; add paths tx; };
}
`
	launch(t, l.link(1, "bird"), dir, nil, "/usr/sbin/bird", "-f", "-c", write(t, dir, "bird.conf", conf), "-s", dir+"/bird.ctl")
	c := PeerConfig{Addr: theirs(1), AS: labAS, Families: []Family{VPNv4}, Retry: time.Second}
	id := VPNNLRI(RDFromAS(64512, 3), netip.MustParsePrefix("10.3.3.0/24"))
	for _, want := range []int{1, 2, 3} {
		c.AddPaths = want
		if want == 1 {
			c.AddPaths = 0
		}
		l.setPeers(map[string]PeerConfig{"bird": c})
		l.up("bird")
		w := l.watch(VPNv4)
		w.see(t, id, func(paths []Path) string {
			var ids []uint32
			for _, p := range paths {
				ids = append(ids, p.ID)
			}
			slices.Sort(ids)
			if ids = slices.Compact(ids); len(ids) != want || (ids[0] == 0) != (want == 1) {
				return fmt.Sprintf("paths %v, want %d", ids, want)
			}
			return ""
		})
	}
}
