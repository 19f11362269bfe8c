//go:build net

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// speaker runs gobgpd in the network namespace of a task, until the test
// ends or the result is called.
func (c *cluster) speaker(t *testing.T, of task, gateway string) (gobgp func(string) error, end func()) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "gobgpd.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
[global.config]
  as = 65001
  router-id = "%[1]s"
  port = -1
[[neighbors]]
  [neighbors.config]
    neighbor-address = "%[2]s"
    peer-as = 64512
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
`, of.Address(), gateway), 0o644); err != nil {
		t.Fatal(err)
	}
	enter := []string{"--net=" + c.namespaceOf(t, of)}
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("nsenter", append(enter, "gobgpd", "-f", conf, "--api-hosts", "127.0.0.1:50051")...)
	daemon.Stdout, daemon.Stderr = out, out
	if err := daemon.Start(); err != nil {
		t.Fatalf("start gobgpd (make setup installs it): %v", err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = daemon.Process.Kill()
			_ = daemon.Wait()
		}
	}
	t.Cleanup(func() {
		end()
		if said, _ := os.ReadFile(out.Name()); t.Failed() {
			t.Logf("gobgpd said:\n%s", said)
		}
		out.Close()
	})
	return func(command string) error {
		_, err := base.Run(contextOf(t), append(append([]string{"nsenter"}, enter...), append([]string{"gobgp"}, strings.Fields(command)...)...)...)
		return err
	}, end
}

// TestNetBGPService: a task that speaks BGP with its gateway is reached by the
// prefix that it may announce, and by no other, as long as it says so.
func TestNetBGPService(t *testing.T) {
	c := ruled(t)
	router := c.inNetwork(t, "/ruled/speaker", "routed", 1)
	near := c.inNetwork(t, "/ruled/near", "routed", 1)
	far := c.inNetwork(t, "/ruled/far", "routed", 2)
	const own, others = "192.0.2.1", "198.51.100.1"
	c.inNamespaceOf(t, router, "ip", "address", "add", own+"/32", "dev", "lo")
	c.inNamespaceOf(t, router, "ip", "address", "add", others+"/32", "dev", "lo")
	c.inNamespaceOf(t, router, "ip", "link", "set", "lo", "up")
	vmi := c.interfaceOf(t, router.Address())
	c.api(t, "PUT", "/virtual-machine-interface/"+vmi, map[string]any{"virtual-machine-interface": map[string]any{
		"virtual_machine_interface_allowed_address_pairs": map[string]any{"allowed_address_pair": []any{
			map[string]any{"ip": map[string]any{"ip_prefix": "192.0.2.0", "ip_prefix_len": 24}},
		}},
	}}, nil)
	service := c.object(t, "bgp-as-a-service", "speaker", map[string]any{"autonomous_system": 65001})
	c.refer(t, "bgp-as-a-service", service, "virtual-machine-interface", vmi, nil)
	var shown map[string]struct {
		Routers []struct{ UUID string } `json:"bgp_router_refs"`
	}
	c.api(t, "GET", "/bgp-as-a-service/"+service, nil, &shown)
	if len(shown["bgp-as-a-service"].Routers) != 1 {
		t.Fatalf("the service has the routers %+v", shown)
	}
	var client map[string]struct {
		Parameters struct {
			Gateway string `json:"gateway_address"`
		} `json:"bgp_router_parameters"`
	}
	c.api(t, "GET", "/bgp-router/"+shown["bgp-as-a-service"].Routers[0].UUID, nil, &client)
	gobgp, end := c.speaker(t, router, client["bgp-router"].Parameters.Gateway)
	peers := func(want string) {
		t.Helper()
		eventually(t, time.Minute, "peers say "+want, func() error {
			said, err := c.InHost(contextOf(t), c.Bin+"/contrail", "control", "peers", "--control", "unix:/run/"+c.Name+"/control.sock")
			if err != nil {
				return err
			}
			if !strings.Contains(said, want) {
				return fmt.Errorf("they say %s", said)
			}
			return nil
		})
	}
	peers("Established")
	for _, prefix := range []string{"192.0.2.0/24", "198.51.100.0/24"} {
		if err := gobgp("global rib add -a ipv4 " + prefix + " nexthop " + router.Address()); err != nil {
			t.Fatal(err)
		}
	}
	peers("1 refused")
	peers("198.51.100.0/24: it is in no address, allowed address pair or route table of the interface")
	for _, from := range []task{near, far} {
		c.reachable(t, from, own, true)
		c.reachable(t, from, others, false)
		if got := c.answerer(t, from, own); got != router.ID {
			t.Errorf("at %s answers %s, want %s", own, got, router.ID)
		}
	}
	end()
	for _, from := range []task{near, far} {
		c.reachable(t, from, own, false)
		c.reaches(t, from, router.Address())
	}
}
