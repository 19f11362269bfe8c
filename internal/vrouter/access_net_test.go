//go:build net

package vrouter

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// TestNetOthersAreRefused: loopback and the file system of a node belong to
// every process of a host-network task.
func TestNetOthersAreRefused(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	n.add("blue")
	// All directories on the way are open: only the socket's own mode and the
	// peer's credentials are left to refuse.
	for dir := filepath.Dir(n.socket()); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid uint32, args ...string) (string, error) {
		cmd := exec.Command("curl", append([]string{"-s", "-S", "-m", "5"}, args...)...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := n.ns.Start(cmd); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		return out.String(), err
	}
	if out, err := as(0, "--unix-socket", n.socket(), "http://a"+portapi.PathPorts); err != nil || !strings.Contains(out, "applied") {
		t.Errorf("root reads %q, %v", out, err)
	}
	if out, err := as(65534, "--unix-socket", n.socket(), "http://a"+portapi.PathPorts); err == nil {
		t.Errorf("another user reads %q", out)
	}
	if err := os.Chmod(n.socket(), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{portapi.PathPorts, portapi.PathStatus, vrouterapi.PathRoutes, vrouterapi.PathFlows, "/graph", "/metrics"} {
		out, err := as(65534, "--unix-socket", n.socket(), "http://a"+path)
		if err != nil || !strings.Contains(out, "user 65534 is not root") {
			t.Errorf("another user gets %q (%v) through an open socket", out, err)
		}
	}
	token := filepath.Join(n.dir, "run", tokenName)
	if info, err := os.Stat(token); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v %v, want mode 0600", info, err)
	}
	for _, url := range []string{"http://127.0.0.1:9091/port", "http://127.0.0.1:8085/ports", "http://127.0.0.1:8085/metrics", "http://127.0.0.1:8085" + vrouterapi.PathFlows} {
		out, err := as(0, "-w", "%{http_code}", url)
		if err != nil || !strings.HasSuffix(out, fmt.Sprint(http.StatusUnauthorized)) {
			t.Errorf("%s without a token: %q (%v), want 401", url, out, err)
		}
		out, err = as(0, "-H", "Authorization: Bearer wrong", "-w", "%{http_code}", url)
		if err != nil || !strings.HasSuffix(out, fmt.Sprint(http.StatusUnauthorized)) {
			t.Errorf("%s with a wrong token: %q (%v), want 401", url, out, err)
		}
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	authorization := "Authorization: Bearer " + strings.TrimSpace(string(secret))
	for path, want := range map[string]string{
		"/": "/routes", "/status": `"ready":true`, "/vif": `"device":"tap`, "/rt": `"type":"local"`, "/mpls": `"network":"default-domain`, "/objects": `"objects":[]`, "/ports": `"applied"`, "/routes": `"kind":"local"`, "/drops": "drops",
		"/sessions": `"connected":true`, "/queue": "detaches", "/graph": "interface_id", "/metrics": `contrail_vrouter_ports{state="applied"} 1`,
	} {
		eventually(t, path+" shows "+want, func() error {
			out, err := as(0, "-H", authorization, "http://127.0.0.1:8085"+path)
			if err != nil || !strings.Contains(out, want) {
				return fmt.Errorf("%q, %v", out, err)
			}
			return nil
		})
	}
}

// TestNetCnitool drives the plugin with the reference runtime.
func TestNetCnitool(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	dir := t.TempDir()
	tool := filepath.Join(dir, "cnitool")
	build := exec.Command("go", "build", "-o", tool, "github.com/containernetworking/cni/cnitool")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cnitool: %v: %s", err, out)
	}
	binary, err := pluginBinary()
	if err != nil {
		t.Fatal(err)
	}
	// cnitool makes the container's id from the path: it is the same container
	// in the same namespace each time.
	ns := nstest.New(t, "container")
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			conf := fmt.Sprintf(`{"cniVersion":%q,"name":"contrail","plugins":[{"type":"contrail-cni","capabilities":{"bandwidth":true},"contrail":{"agent-socket":%q,"detach-queue":%q}}]}`,
				version, n.socket(), n.queue())
			if err := os.WriteFile(filepath.Join(dir, "10-contrail.conflist"), []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			bandwidth := ""
			run := func(verb string) (string, error) {
				cmd := exec.Command(tool, verb, "contrail", ns.Path())
				cmd.Env = []string{"NETCONFPATH=" + dir, "CNI_PATH=" + filepath.Dir(binary), "PATH=/usr/bin:/bin"}
				if bandwidth != "" {
					cmd.Env = append(cmd.Env, `CAP_ARGS={"bandwidth":{`+bandwidth+`}}`)
				}
				var out strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := n.ns.Start(cmd); err != nil {
					t.Fatal(err)
				}
				err := cmd.Wait()
				return out.String(), err
			}
			bandwidth = `"ingressRate":10000000`
			if out, err := run("add"); err == nil || !strings.Contains(out, "runtimeConfig.bandwidth.ingressRate is 10000000 without a burst") || len(n.ports()) != 0 {
				t.Errorf("add with a rate and no burst: %v: %s", err, out)
			}
			bandwidth = `"ingressRate":10000000,"ingressBurst":2000000`
			if out, err := run("add"); err != nil || !strings.Contains(out, `"cniVersion": "`+version+`"`) || len(n.ports()) != 1 {
				t.Fatalf("add: %v: %s", err, out)
			}
			var vifs vrouterapi.Vifs
			if err := n.get(vrouterapi.PathVifs, &vifs); err != nil {
				t.Fatal(err)
			}
			limited := func(v vrouterapi.Vif) bool {
				return v.Ingress != nil && *v.Ingress == vrouterapi.Limit{Rate: 10e6, Burst: 2e6} && v.Egress == nil
			}
			if !slices.ContainsFunc(vifs.Vifs, limited) {
				t.Errorf("no interface has the rate: %+v", vifs.Vifs)
			}
			if out, err := run("check"); err == nil || !strings.Contains(out, "not implemented") {
				t.Errorf("check: %v: %s", err, out)
			}
			if version == "1.1.0" {
				if out, err := run("status"); err != nil {
					t.Errorf("status: %v: %s", err, out)
				}
			}
			if out, err := run("del"); err != nil {
				t.Errorf("del: %v: %s", err, out)
			}
			eventually(t, "nothing is left", c.clean)
		})
	}
}

// TestNetClassicPortAPI plugs an interface as an old client does: the graph
// knows the port, the client makes the interface and posts it.
func TestNetClassicPortAPI(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	peer := n.add("blue")
	// What the configuration API does when a client creates the objects there.
	ns := nstest.New(t, "container")
	port, place := c.controllers.bind(n.uuid, "blue")
	vm := port.GetVirtualMachineId()
	nstest.Veth(t, n.ns, "tapclassic", ns, "eth0")
	secret, err := os.ReadFile(filepath.Join(n.dir, "run", tokenName))
	if err != nil {
		t.Fatal(err)
	}
	request := func(method, path, body string) (int, string) {
		t.Helper()
		out, err := n.ns.Run("curl", "-s", "-S", "-m", "5", "-X", method, "-w", "\n%{http_code}", "-d", body,
			"-H", "Authorization: Bearer "+strings.TrimSpace(string(secret)), "http://127.0.0.1:9091"+path)
		if err != nil {
			t.Fatal(err)
		}
		answer, code, _ := strings.Cut(strings.TrimSpace(out), "\n")
		status := 0
		if _, err := fmt.Sscan(code, &status); err != nil {
			status, answer = 0, out
		}
		return status, strings.TrimSpace(answer)
	}
	want := func(method, path, body string, code int, text string) {
		t.Helper()
		if got, answer := request(method, path, body); got != code || !strings.Contains(answer, text) {
			t.Errorf("%s %s: %d %s, want %d %s", method, path, got, answer, code, text)
		}
	}
	id := port.GetInterfaceId()
	eventually(t, "the agent knows the machine", func() error {
		if code, answer := request("GET", "/vm-cfg/"+vm, ""); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, answer)
		}
		return nil
	})
	want("GET", "/port/"+id, "", 404, `{"error":"{ Not Found }"}`)
	want("GET", "/nothing", "", 404, "Unknown Request")
	want("GET", "/port/UPPER", "", 404, "Unknown Request")
	want("POST", "/port", `{"id":"x"}`, 500, `{"error":"{ `)
	body := fmt.Sprintf(`[{"id":%q,"instance-id":%q,"vn-id":%q,"ip-address":"0.0.0.0","mac-address":%q,"system-name":"tapclassic","type":0,"rx-vlan-id":-1,"tx-vlan-id":-1}]`,
		id, vm, port.GetNetworkId(), port.GetMac())
	want("POST", "/port", body, 200, "{}")
	want("GET", "/port/"+id, "", 200, `"system-name":"tapclassic"`)
	mac := port.GetMac()
	if _, err := ns.Run("sh", "-c", "ip link set eth0 address "+mac+" mtu 1468 up && ip addr add "+port.GetAddresses()[0]+"/20 dev eth0"); err != nil {
		t.Fatal(err)
	}
	classic := &container{ns: ns, address: port.GetAddresses()[0]}
	eventually(t, "the classic port is reached", func() error { return peer.ping(classic) })
	want("PUT", "/disable-port/"+id, "", 200, "{}")
	eventually(t, "a disabled port is not reached", func() error {
		if peer.ping(classic) == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	want("PUT", "/enable-port/"+id, "", 200, "{}")
	eventually(t, "an enabled port is reached", func() error { return peer.ping(classic) })
	n.kill()
	n.start()
	n.ready()
	want("GET", "/port/"+id, "", 200, `"system-name":"tapclassic"`)
	want("POST", "/syncports", "", 200, "{}")
	eventually(t, "the port is reached after a restart", func() error { return peer.ping(classic) })
	c.controllers.remove(place)
	eventually(t, "a port that the graph lacks is not reached", func() error {
		for _, p := range n.ports() {
			if p.ID == id && p.VRF != 0 {
				return fmt.Errorf("it is in VRF %d", p.VRF)
			}
		}
		if peer.ping(classic) == nil {
			return fmt.Errorf("it is")
		}
		return nil
	})
	want("DELETE", "/port/"+id, "", 200, "{}")
	want("GET", "/port/"+id, "", 404, "Not Found")
	if peer.ping(classic) == nil {
		t.Error("a deleted port is reached")
	}
}
