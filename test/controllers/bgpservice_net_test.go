//go:build net

package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/contrail-mesos/contrail/test/controllers"
)

// taskSpeaks runs gobgpd in a container, with a session with each of the addresses,
// and has it announce a prefix.
func taskSpeaks(t *testing.T, in *controllers.Container, prefix string, with ...netip.Addr) {
	t.Helper()
	conf := fmt.Sprintf("[global.config]\n as = 65001\n router-id = %q\n port = -1\n", in.Address)
	for _, a := range with {
		conf += fmt.Sprintf(`[[neighbors]]
  [neighbors.config]
    neighbor-address = %q
    peer-as = 64512
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
`, a)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "gobgpd.toml")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Run("ip", "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("gobgpd", "-f", path, "--api-hosts", "127.0.0.1:50051")
	daemon.Stdout, daemon.Stderr = out, out
	if err := in.Start(daemon); err != nil {
		t.Fatalf("start gobgpd (make setup installs it): %v", err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if said, _ := os.ReadFile(out.Name()); t.Failed() {
			t.Logf("gobgpd said:\n%s", said)
		}
		out.Close()
	})
	eventually(t, "the task announces "+prefix, func() bool {
		_, err := in.Run("gobgp", "global", "rib", "add", "-a", "ipv4", prefix, "nexthop", in.Address.String())
		return err == nil
	})
}

// withTask are the controllers that have a session with a task.
func withTask(members []*controllers.Controller) (list []*controllers.Controller) {
	for _, m := range members {
		text, err := ask(m, "/peers")
		var shown struct {
			Peers []struct {
				State string
				Task  *struct{}
			}
		}
		if err != nil || json.Unmarshal([]byte(text), &shown) != nil {
			continue
		}
		for _, p := range shown.Peers {
			if p.Task != nil && p.State == "Established" {
				list = append(list, m)
			}
		}
	}
	return list
}

func namesOf(members []*controllers.Controller) string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return strings.Join(names, " ")
}

// TestNetBGPServiceOfTwo: a task speaks BGP with two controllers. When one is killed,
// or the control process of the other, or of all, who is on another node misses no
// packet to what the task announced, and no route becomes another; sessions come
// back.
func TestNetBGPServiceOfTwo(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	set.ListenForAgents()
	set.StartAll()
	threeVote(t, set.Members[0])
	client := newClient(t, set.Members...)
	do := func(method, path, body string) string {
		t.Helper()
		status, text, err := client.do(method, path, body)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", path, status, text, err)
		}
		return text
	}
	for _, m := range set.Members {
		do(http.MethodPost, "/bgp-routers", fmt.Sprintf(`{"bgp-router": {"parent_type": "routing-instance",
			"fq_name": ["default-domain", "default-project", "ip-fabric", "__default__", %q],
			"bgp_router_parameters": {"router_type": "control-node", "autonomous_system": 64512, "address": %q}}}`, m.Name, m.Address))
	}
	manager := set.Members[2]
	manager.StartManager()
	nodes := []*controllers.Node{set.AddNode(1, manager), set.AddNode(2, manager)}
	add := func(n *controllers.Node) (added *controllers.Container) {
		t.Helper()
		var err error
		eventually(t, n.Name+" takes a container", func() bool {
			added, err = n.Add("blue")
			return err == nil
		})
		return added
	}
	task, other := add(nodes[0]), add(nodes[1])

	// The task has an address behind it, which is its to announce.
	own := netip.MustParseAddr("192.0.2.1")
	if _, err := task.Run("ip", "address", "add", own.String()+"/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	filter := fmt.Sprintf("/instance-ips?detail=false&fields=virtual_machine_interface_refs&filters=instance_ip_address==%%22%s%%22", task.Address)
	var ips struct {
		List []struct {
			Interfaces []struct {
				UUID string   `json:"uuid"`
				To   []string `json:"to"`
			} `json:"virtual_machine_interface_refs"`
		} `json:"instance-ips"`
	}
	text := do(http.MethodGet, filter, "")
	if err := json.Unmarshal([]byte(text), &ips); err != nil || len(ips.List) != 1 || len(ips.List[0].Interfaces) != 1 {
		t.Fatalf("%s: %v in %s", task.Address, err, text)
	}
	vmi := ips.List[0].Interfaces[0]
	do(http.MethodPut, "/virtual-machine-interface/"+vmi.UUID, `{"virtual-machine-interface": {"virtual_machine_interface_allowed_address_pairs":
		{"allowed_address_pair": [{"ip": {"ip_prefix": "192.0.2.0", "ip_prefix_len": 24}}]}}}`)
	do(http.MethodPost, "/bgp-as-a-services", fmt.Sprintf(`{"bgp-as-a-service": {"parent_type": "project", "fq_name": ["default-domain", %q, "speaker"],
		"autonomous_system": 65001, "virtual_machine_interface_refs": [{"uuid": %q}]}}`, vmi.To[1], vmi.UUID))
	subnet, _ := task.Address.Prefix(20)
	gateway := subnet.Addr().Next()
	taskSpeaks(t, task, "192.0.2.0/24", gateway, gateway.Next())

	both := func(when string, without ...*controllers.Controller) (with []*controllers.Controller) {
		t.Helper()
		eventually(t, "the task has two sessions "+when, func() bool {
			with = withTask(set.Members)
			for _, m := range without {
				if strings.Contains(namesOf(with), m.Name) {
					return false
				}
			}
			return len(with) == 2
		})
		t.Logf("%s the task has sessions with %s", when, namesOf(with))
		return with
	}
	with := both("at first")
	behind := &controllers.Container{NS: other.NS, Address: own}
	eventually(t, "what is behind the task is reached", func() bool {
		_, err := other.Run("ping", "-c1", "-W1", own.String())
		return err == nil
	})
	for _, m := range set.Members {
		eventually(t, m.Name+" knows what both were told", func() bool {
			text, err := ask(m, "/explain?prefix="+own.String())
			return err == nil && strings.Count(text, `"bgpaas"`) >= 2
		})
	}

	there := ping(t, other, behind)
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { watchRoutes(ctx, t, nodes[1]) })

	first, second := with[0], with[1]
	first.Kill()
	eventually(t, "the other session stays", func() bool { return strings.Contains(namesOf(withTask(set.Members)), second.Name) })
	both("without "+first.Name, first)
	first.Start()
	first.WaitReady()
	threeVote(t, second)
	with = both("with " + first.Name)
	if err := with[0].KillPart("control"); err != nil {
		t.Fatal(err)
	}
	both("after the control process of " + with[0].Name)
	for _, m := range set.Members {
		if err := m.KillPart("control"); err != nil {
			t.Fatal(err)
		}
	}
	both("after all control processes")
	for _, m := range set.Members {
		eventually(t, m.Name+" has the task's routes, and none that is stale", func() bool {
			text, err := ask(m, "/explain?prefix="+own.String())
			return err == nil && strings.Count(text, `"bgpaas"`) >= 2 && !strings.Contains(text, `"stale"`)
		})
	}
	there.lostNothing(t)
}
