//go:build net

package controllers_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// echoRouter takes MPLS over UDP (RFC 7510) in a namespace, and answers pings of one
// task for all addresses behind it.
type echoRouter struct {
	ns      *nstest.NS
	address netip.Addr

	mu    sync.Mutex
	asked map[netip.Addr]int // echo requests by destination
}

// serve answers to the node by the label of the task.
func (r *echoRouter) serve(t *testing.T, node netip.Addr, label uint32) {
	t.Helper()
	var conn *net.UDPConn
	r.ns.Must(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: r.address.AsSlice(), Port: 6635})
		return err
	})
	var serving sync.WaitGroup
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	serving.Go(func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			p := buffer[:n]
			// A label with the bottom-of-stack bit, IPv4 without options, an echo request.
			if n < 4+20+8 || p[2]&1 == 0 || p[4] != 0x45 || p[13] != 1 || p[24] != 8 || from.Addr() != node {
				continue
			}
			source, destination := [4]byte(p[16:20]), [4]byte(p[20:24])
			r.mu.Lock()
			r.asked[netip.AddrFrom4(destination)]++
			r.mu.Unlock()
			binary.BigEndian.PutUint32(p, label<<12|1<<8|64)
			copy(p[16:20], destination[:])
			copy(p[20:24], source[:])
			p[24] = 0 // echo reply: the sum of the message is less by its type
			sum := uint32(binary.BigEndian.Uint16(p[26:])) + 8<<8
			binary.BigEndian.PutUint16(p[26:], uint16(sum+sum>>16))
			_, _ = conn.WriteToUDPAddrPort(p, netip.AddrPortFrom(node, 6635)) // a ping that is lost is asked again
		}
	})
}

// take returns what the router was asked for since the last time.
func (r *echoRouter) take() map[netip.Addr]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = map[netip.Addr]int{}
	return asked
}

// bird runs BIRD on the machine of the first router. It announces the prefix as
// reached through each of them, and tells all that it has.
func bird(t *testing.T, routers []*echoRouter, controller netip.Addr, prefix string) (birdc func(...string)) {
	t.Helper()
	own := routers[0]
	conf := fmt.Sprintf("router id %s;\nlog stderr all;\nvpn4 table vt4;\nprotocol device {}\n", own.address)
	for i, r := range routers {
		conf += fmt.Sprintf(`protocol static s%d { vpn4 { table vt4; preference %d; };
  route 64512:3 %s via %s mpls 3001 { bgp_ext_community.add((rt, 64512, 100)); };
}
`, i+1, 200-i, prefix, r.address)
	}
	conf += fmt.Sprintf(`protocol bgp contrail {
  local %s as 64512; neighbor %s as 64512; connect retry time 1; connect delay time 1;
  vpn4 mpls { table vt4; import none; export all; add paths tx; };
}
`, own.address, controller)
	dir := t.TempDir()
	path, socket := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "bird.ctl")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("/usr/sbin/bird", "-f", "-c", path, "-s", socket)
	var out strings.Builder
	daemon.Stdout, daemon.Stderr = &out, &out
	if err := own.ns.Start(daemon); err != nil {
		t.Fatalf("start BIRD (make setup installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("BIRD said:\n%s", out.String())
		}
	})
	return func(command ...string) {
		t.Helper()
		if text, err := own.ns.Run("birdc", append([]string{"-s", socket}, command...)...); err != nil {
			t.Fatal(text, err)
		}
	}
}

// TestNetSharedByAddPath: a peer offers two equally good paths of a prefix
// (RFC 7911). A task's connections share both, each stays with one, and all take the
// other when one is withdrawn.
func TestNetSharedByAddPath(t *testing.T) {
	set := controllers.New(t, root, "a")
	a := set.Members[0]
	a.Alone = true
	a.Args = []string{"--bgp-add-paths", "4"}
	set.ListenForAgents()
	set.StartAll()
	a.StartManager()
	var routers []*echoRouter
	for i := range 2 {
		r := &echoRouter{address: netip.AddrFrom4([4]byte{172, 31, 1, byte(201 + i)}), asked: map[netip.Addr]int{}}
		r.ns = set.AddMachine(fmt.Sprintf("router-%d", i+1), r.address)
		routers = append(routers, r)
	}
	client := newClient(t, a)
	post := func(path, body string) {
		t.Helper()
		if status, text, err := client.do(http.MethodPost, path, body); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", path, status, text, err)
		}
	}
	node := set.AddNode(1, a)
	var task *controllers.Container
	eventually(t, "the node takes a container", func() bool {
		var err error
		task, err = node.Add("blue")
		return err == nil
	})
	status, text, err := client.do(http.MethodGet, "/virtual-networks?detail=true", "")
	var list struct {
		Networks []map[string]struct {
			UUID   string   `json:"uuid"`
			FQName []string `json:"fq_name"`
		} `json:"virtual-networks"`
	}
	if err != nil || status != http.StatusOK || json.Unmarshal([]byte(text), &list) != nil {
		t.Fatalf("networks: %d %s (%v)", status, text, err)
	}
	for _, n := range list.Networks {
		if vn := n["virtual-network"]; vn.FQName[2] == "blue" {
			if status, text, err := client.do(http.MethodPut, "/virtual-network/"+vn.UUID, `{"virtual-network": {"route_target_list": {"route_target": ["target:64512:100"]}}}`); err != nil || status != http.StatusOK {
				t.Fatalf("blue: %d %s (%v)", status, text, err)
			}
		}
	}
	fabric := `"default-domain", "default-project", "ip-fabric", "__default__"`
	router := `{"bgp-router": {"parent_type": "routing-instance", "fq_name": [%s, %q], "bgp_router_parameters": {"router_type": %q, "autonomous_system": 64512, "address": %q}%s}}`
	post("/bgp-routers", fmt.Sprintf(router, fabric, a.Name, "control-node", a.Address, ""))
	post("/bgp-routers", fmt.Sprintf(router, fabric, "gw", "router", routers[0].address, fmt.Sprintf(`, "bgp_router_refs": [{"to": [%s, %q]}]`, fabric, a.Name)))
	const prefix = "203.0.113.0/24"
	birdc := bird(t, routers, a.Address, prefix)

	var label uint32
	eventually(t, "the controller knows where the task is", func() bool {
		text, err := ask(a, "/routes?network=blue")
		var table struct {
			Routes []struct {
				Key   string
				Paths []struct{ Label uint32 }
			}
		}
		if err != nil || json.Unmarshal([]byte(text), &table) != nil {
			return false
		}
		for _, r := range table.Routes {
			if strings.HasPrefix(r.Key, task.Address.String()+"/32") && len(r.Paths) > 0 {
				label = r.Paths[0].Label
			}
		}
		return label != 0
	})
	at := netip.AddrFrom4([4]byte{172, 31, 1, 101})
	for _, r := range routers {
		r.serve(t, at, label)
	}
	reaches := func(last int) error {
		for i := 1; i <= last; i++ {
			if out, err := task.Run("ping", "-n", "-c", "2", "-i", "0.02", "-W", "2", fmt.Sprintf("203.0.113.%d", i)); err != nil {
				return fmt.Errorf("203.0.113.%d: %w: %s", i, err, out)
			}
		}
		return nil
	}
	shares := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("the node has %d ways", want), func() bool {
			text, err := node.Introspect("/routes")
			if err != nil {
				return false
			}
			ways := 0
			for _, r := range routers {
				if strings.Contains(text, r.address.String()) {
					ways++
				}
			}
			return ways == want
		})
	}
	shares(2)
	const flows = 32
	if err := reaches(flows); err != nil {
		t.Error(err)
	}
	one, other := routers[0].take(), routers[1].take()
	t.Logf("one router was asked for %d addresses, the other for %d", len(one), len(other))
	if len(one) == 0 || len(other) == 0 || len(one)+len(other) != flows {
		t.Errorf("routers were asked for %v and %v, want %d addresses, each of one of them", one, other, flows)
	}
	birdc("disable", "s1")
	shares(1)
	if err := reaches(flows); err != nil {
		t.Error(err)
	}
	if asked := routers[0].take(); len(asked) > 0 {
		t.Errorf("the path that was withdrawn is still taken: %v", asked)
	}
}
