//go:build net

package controllers_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/test/controllers"
)

// gobgpd runs a router beside a controller, at an address of its own, that
// announces 203.0.113.0/24 and asks for routes with the target.
func gobgpd(t *testing.T, beside *controllers.Controller, address string) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "gobgpd.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `
[global.config]
  as = 64512
  router-id = %[1]q
  local-address-list = [%[1]q]
[[neighbors]]
  [neighbors.config]
    neighbor-address = %[2]q
    peer-as = 64512
  [neighbors.transport.config]
    local-address = %[1]q
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "l3vpn-ipv4-unicast"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "rtc"
`, address, beside.Address), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `ip address add "$1"/24 dev eth0 && exec gobgpd -f "$2" --api-hosts 127.0.0.1:50051`
	beside.StartProgram(exec.Command("sh", "-c", script, "gobgpd", address, conf))
	script = `until gobgp global rib add -a vpnv4 203.0.113.0/24 label 3001 rd "$1":1 rt 64512:100 nexthop "$1"; do sleep 0.1; done`
	beside.StartProgram(exec.Command("sh", "-c", script, "gobgp", address))
}

// TestNetLearnedByAll: what a router tells one of three controllers all know, the
// two that are no routers too; when that one is killed the route is stale, and
// when it is back, as before.
func TestNetLearnedByAll(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	for _, m := range set.Members {
		m.Args = append(m.Args, "--listen-tls", net.JoinHostPort(m.Address.String(), "5269"))
	}
	set.StartAll()
	a := set.Members[0]
	const router = "172.31.1.101"
	client := newClient(t, set.Members...)
	post := func(path, body string) {
		t.Helper()
		if status, text, err := client.do(http.MethodPost, path, body); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s (%v)", path, status, text, err)
		}
	}
	post("/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "default-project", "outside"],
		"route_target_list": {"route_target": ["target:64512:100"]}}}`)
	fabric := `"default-domain", "default-project", "ip-fabric", "__default__"`
	for name, more := range map[string]string{
		"a":  fmt.Sprintf(`"bgp_router_parameters": {"router_type": "control-node", "autonomous_system": 64512, "address": %q}`, a.Address),
		"gw": fmt.Sprintf(`"bgp_router_parameters": {"router_type": "router", "autonomous_system": 64512, "address": %q}`, router),
	} {
		post("/bgp-routers", fmt.Sprintf(`{"bgp-router": {"parent_type": "routing-instance", "fq_name": [%s, %q], %s}}`, fabric, name, more))
	}
	status, text, err := client.do(http.MethodPost, "/fqname-to-id", fmt.Sprintf(`{"type": "bgp-router", "fq_name": [%s, "gw"]}`, fabric))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s (%v)", status, text, err)
	}
	id := strings.Split(text, `"`)[3]
	if status, text, err := client.do(http.MethodPut, "/bgp-router/"+id, fmt.Sprintf(`{"bgp-router": {"bgp_router_refs": [{"to": [%s, "a"]}]}}`, fabric)); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s (%v)", status, text, err)
	}
	gobgpd(t, a, router)

	knows := func(what string, m *controllers.Controller, parts ...string) {
		t.Helper()
		eventually(t, m.Name+" "+what, func() bool {
			text, err := ask(m, "/explain?prefix=203.0.113.9")
			for _, part := range parts {
				if err != nil || !strings.Contains(text, part) {
					return false
				}
			}
			return strings.Contains(text, router) == (len(parts) > 0)
		})
	}
	for _, m := range set.Members {
		knows("knows the route", m, `"next_hop": "`+router+`"`, `"label": 3001`)
	}
	threeVote(t, set.Members[1])
	a.Kill()
	for _, m := range set.Members[1:] {
		knows("keeps the route", m, `"next_hop": "`+router+`"`, `"stale"`)
	}
	a.Start()
	a.WaitReady()
	for _, m := range set.Members {
		eventually(t, m.Name+" knows the route as before", func() bool {
			text, err := ask(m, "/explain?prefix=203.0.113.9")
			return err == nil && strings.Contains(text, router) && !strings.Contains(text, `"stale"`)
		})
	}
	threeVote(t, set.Members[1])
	a.Kill()
	for _, m := range set.Members[1:] {
		knows("gives the route up", m)
	}
}
