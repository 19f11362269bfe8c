package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// Node is a machine with a vRouter agent, on the network of the controllers.
type Node struct {
	set    *Set
	Name   string
	ns     *nstest.NS
	bpf    string
	plugin string
}

// Container is a network namespace on a node, as a runtime makes it.
type Container struct {
	*nstest.NS
	Address netip.Addr
}

// ports of the controllers' services for nodes.
const (
	controlPort = "5269"
	managerPort = "6991"
)

// ListenForAgents has all controllers serve agents, from their next start.
func (s *Set) ListenForAgents() {
	for _, c := range s.Members {
		c.Args = append(c.Args, "--listen-tls", c.Control())
	}
}

// Control is where it serves agents.
func (c *Controller) Control() string { return net.JoinHostPort(c.Address.String(), controlPort) }

// StartManager starts a Mesos manager beside the controller. It ends with the
// test.
func (c *Controller) StartManager() {
	c.set.t.Helper()
	dir := c.path("manager-tls")
	c.set.certificate("mesos-manager", "--out", dir)
	c.StartProgram(exec.Command(c.set.binary, "mesos-manager", "--config", "unix:"+c.path("config.sock"),
		"--listen-tls", net.JoinHostPort(c.Address.String(), managerPort), "--tls-dir", dir))
}

// AddNode starts the agent of a node, with sessions with the controllers and
// with the manager beside one of them. It ends with the test.
func (s *Set) AddNode(number int, manager *Controller) *Node {
	t := s.t
	t.Helper()
	n := &Node{set: s, Name: "node-" + strconv.Itoa(number), bpf: nstest.BPFFS(t), plugin: s.build("contrail-cni")}
	n.ns = nstest.New(t, n.Name)
	if err := os.MkdirAll(n.path("run"), 0o700); err != nil {
		t.Fatalf("%v", err)
	}
	s.certificate("node", model.NewUUID(), "--out", n.path("tls"))
	port := "n" + strconv.Itoa(number)
	nstest.Veth(t, s.fabric, port, n.ns, "eth0")
	s.fabric.Enslave(port, "br0")
	n.ns.Up("eth0", netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, 1, byte(100 + number)}), 24))

	var control []string
	for _, c := range s.Members {
		control = append(control, c.Control())
	}
	log, err := os.Create(n.path("log"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer log.Close()
	cmd := exec.Command(s.binary, "vrouter-agent", "--name", n.Name, "--tls-dir", n.path("tls"), "--underlay", "eth0",
		"--run-dir", n.path("run"), "--state-dir", n.path("state"), "--pin-dir", n.PinDir(), "--flow-entries", "8192",
		"--manager", net.JoinHostPort(manager.Address.String(), managerPort), "--control", strings.Join(control, ","))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.ns.Start(cmd); err != nil {
		t.Fatalf("start the agent of %s: %v", n.Name, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			log, err := os.ReadFile(n.path("log"))
			t.Logf("log of %s (%v):\n%s", n.Name, err, tail(string(log), 60))
		}
	})
	return n
}

func (n *Node) path(name string) string { return filepath.Join(n.set.dir, n.Name, name) }

// PinDir is where its data plane is pinned.
func (n *Node) PinDir() string { return filepath.Join(n.bpf, "contrail") }

// AddMachine makes a machine of others on the network of the controllers.
func (s *Set) AddMachine(name string, address netip.Addr) *nstest.NS {
	s.t.Helper()
	ns := nstest.New(s.t, name)
	nstest.Veth(s.t, s.fabric, name, ns, "eth0")
	s.fabric.Enslave(name, "br0")
	ns.Up("eth0", netip.PrefixFrom(address, 24))
	return ns
}

// Introspect asks the agent for one of its tables.
func (n *Node) Introspect(path string) (string, error) {
	token, err := os.ReadFile(n.path("run/agent.token"))
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.ns.Dial(ctx, &net.Dialer{}, network, address)
		},
	}}
	request, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:8085"+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return string(text), err
}

// Add starts a container in a network, by the plugin.
func (n *Node) Add(network string) (*Container, error) {
	ns := nstest.New(n.set.t, "container")
	conf := fmt.Sprintf(`{"cniVersion": "0.2.0", "name": "contrail", "type": "contrail-cni", "contrail": {"agent-socket": %q, "detach-queue": %q, "mode": "mesos"},
		"args": {"org.apache.mesos": {"network_info": {"name": "contrail", "labels": {"labels": [{"key": "networks", "value": %q}]}}}}}`,
		n.path("run/agent.sock"), n.path("state/detach-queue"), network)
	cmd := exec.Command(n.plugin)
	cmd.Stdin = strings.NewReader(conf)
	cmd.Env = []string{
		"CNI_COMMAND=ADD", "CNI_CONTAINERID=" + model.NewUUID(), "CNI_IFNAME=eth0", "CNI_NETNS=" + ns.Path(),
		"CNI_PATH=" + filepath.Dir(n.plugin), "PATH=/usr/bin:/bin",
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := n.ns.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("add a container to %s: %w: %s", network, err, out.String())
	}
	var result struct {
		IP4 struct{ IP netip.Prefix } `json:"ip4"`
	}
	if err := json.Unmarshal([]byte(out.String()), &result); err != nil {
		return nil, fmt.Errorf("add a container to %s: %w in %s", network, err, out.String())
	}
	return &Container{ns, result.IP4.IP.Addr()}, nil
}
