//go:build net

package vrouter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/internal/nstest"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// The test binary is also the agent's process: it can be killed and started
// again like the real one.
const runAgentArgument = "run-agent"

func runAgentProcess(args []string) int {
	var config Config
	var pinDir, tlsDir string
	for i, into := range []*string{&config.Name, &config.RunDir, &config.StateDir, &pinDir, &tlsDir, &config.Manager} {
		*into = args[i]
	}
	config.Underlay, config.Address = "eth0", netip.MustParseAddr(args[6])
	config.Control = []string{controlAddress}
	if args[7] != "" {
		config.Collectors = args[7:8]
	}
	config.PortAPI, config.Introspect = "127.0.0.1:9091", "127.0.0.1:8085"
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // the test is gone
	}()
	err := func() error {
		var err error
		if config.Credentials, err = ctls.LoadCredentials(tlsDir); err != nil {
			return err
		}
		plane, err := dataplane.Open(log, dataplane.Config{PinDir: pinDir, Underlay: "eth0", LocalIP: config.Address, FlowEntries: 1 << 16, FlowEvents: config.Collectors != nil})
		if err != nil {
			return err
		}
		agent, err := New(log, config, plane)
		if err != nil {
			return err
		}
		ctx, stop := lifecycle.WithSignals(context.Background())
		defer stop()
		return agent.Run(ctx)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// pluginDir has the plugin once it is built.
var pluginDir string

// pluginBinary is built once for all tests.
var pluginBinary = sync.OnceValues(func() (string, error) {
	var err error
	if pluginDir, err = os.MkdirTemp("", "contrail-cni-"); err != nil {
		return "", err
	}
	path := filepath.Join(pluginDir, "contrail-cni")
	cmd := exec.Command("go", "build", "-o", path, "github.com/contrail-mesos/contrail/cmd/contrail-cni")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build plugin: %w: %s", err, out)
	}
	return path, nil
})

// cluster is a fabric with controllers and nodes.
type cluster struct {
	t           *testing.T
	dir         string
	fabric      *nstest.NS
	controllers *controllers
	authority   *ctls.Authority
	nodes       []*node
}

type node struct {
	t       *testing.T
	ns      *nstest.NS
	dir     string
	bpf     string
	uuid    string
	address string
	// collector gets records of sessions; empty for none.
	collector string
	process   *exec.Cmd
}

// Where the controllers answer.
const (
	managerAddress = "172.31.0.1:6991"
	controlAddress = "172.31.0.1:5269"
)

func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), fabric: nstest.New(t, "fabric"), controllers: newControllers()}
	var err error
	if c.authority, err = ctls.OpenAuthority(filepath.Join(c.dir, "ca")); err != nil {
		t.Fatal(err)
	}
	c.fabric.Bridge("br0")
	c.fabric.Up("br0", netip.MustParsePrefix("172.31.0.1/24"))
	c.serve()
	t.Cleanup(func() { c.controllers.stop() })
	for i := range nodes {
		c.addNode(i + 1)
	}
	for _, n := range c.nodes {
		n.ready()
	}
	return c
}

// serve lets the controllers answer, each role with its own certificate.
func (c *cluster) serve() {
	c.t.Helper()
	for role, address := range map[string]string{ctls.RoleManager: managerAddress, ctls.RoleController: controlAddress} {
		dir := filepath.Join(c.dir, role)
		if err := c.authority.Issue(dir, role, ""); err != nil {
			c.t.Fatal(err)
		}
		credentials, err := ctls.LoadCredentials(dir)
		if err != nil {
			c.t.Fatal(err)
		}
		var l net.Listener
		c.fabric.Must(func() (err error) {
			l, err = net.Listen("tcp", address)
			return err
		})
		c.controllers.serve(l, credentials)
	}
}

func (c *cluster) addNode(i int) {
	c.t.Helper()
	n := &node{
		t: c.t, ns: nstest.New(c.t, fmt.Sprintf("node-%d", i)), dir: filepath.Join(c.dir, fmt.Sprintf("node-%d", i)),
		bpf: nstest.BPFFS(c.t), uuid: uuid.NewString(), address: fmt.Sprintf("172.31.0.%d", 10+i),
	}
	if err := os.MkdirAll(filepath.Join(n.dir, "run"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := c.authority.Issue(filepath.Join(n.dir, "tls"), ctls.RoleNode, n.uuid); err != nil {
		c.t.Fatal(err)
	}
	port := fmt.Sprintf("n%d", i)
	nstest.Veth(c.t, n.ns, "eth0", c.fabric, port)
	c.fabric.Enslave(port, "br0")
	n.ns.Up("eth0", netip.MustParsePrefix(n.address+"/24"))
	c.nodes = append(c.nodes, n)
	n.start()
	c.t.Cleanup(func() {
		n.kill()
		if c.t.Failed() {
			log, _ := os.ReadFile(filepath.Join(n.dir, "agent.log"))
			c.t.Logf("log of %s:\n%s", n.ns.Name(), log)
		}
	})
}

func (n *node) socket() string { return filepath.Join(n.dir, "run", socketName) }
func (n *node) queue() string  { return filepath.Join(n.dir, "state", queueName) }

// start starts the agent and waits until it has joined and has a session.
func (n *node) start() {
	n.t.Helper()
	log, err := os.OpenFile(filepath.Join(n.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.process = exec.Command(os.Args[0], runAgentArgument, n.ns.Name(), filepath.Join(n.dir, "run"), filepath.Join(n.dir, "state"),
		filepath.Join(n.bpf, "contrail"), filepath.Join(n.dir, "tls"), managerAddress, n.address, n.collector)
	n.process.Stderr = log
	// The agent ends when the test does, whatever ends that.
	if _, err := n.process.StdinPipe(); err != nil {
		n.t.Fatal(err)
	}
	if err := n.ns.Start(n.process); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) ready() {
	n.t.Helper()
	eventually(n.t, "the agent is ready", func() error {
		var status portapi.Status
		if err := n.get(portapi.PathStatus, &status); err != nil {
			return err
		}
		if !status.Ready {
			return fmt.Errorf("not ready: %s", status.Message)
		}
		return nil
	})
}

// kill ends the agent as a crash does.
func (n *node) kill() {
	if n.process == nil {
		return
	}
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
	n.process = nil
}

func (n *node) get(path string, into any) error {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.socket())
		},
	}}
	response, err := client.Get("http://agent" + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, response.StatusCode, data)
	}
	return json.Unmarshal(data, into)
}

func (n *node) ports() []portapi.Port {
	n.t.Helper()
	ports, err := n.listPorts()
	if err != nil {
		n.t.Fatal(err)
	}
	return ports
}

func (n *node) listPorts() ([]portapi.Port, error) {
	var list portapi.PortList
	err := n.get(portapi.PathPorts, &list)
	return list.Ports, err
}

// taps are the host sides of interfaces in the node.
func (n *node) taps() []string {
	n.t.Helper()
	links, err := n.ns.Links.LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	var taps []string
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "tap") {
			taps = append(taps, l.Attrs().Name)
		}
	}
	return taps
}

// call is one run of the plugin, with the six variables of a Mesos agent and
// nothing else.
type call struct {
	container, ifname, netns string
	stdin                    string
}

type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

func (n *node) command(verb string, c call) *exec.Cmd {
	n.t.Helper()
	cmd, err := n.prepare(verb, c)
	if err != nil {
		n.t.Fatal(err)
	}
	return cmd
}

func (n *node) prepare(verb string, c call) (*exec.Cmd, error) {
	binary, err := pluginBinary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary)
	cmd.Stdin = strings.NewReader(n.withOptions(c.stdin))
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.container, "CNI_IFNAME=" + c.ifname,
		"CNI_PATH=" + filepath.Dir(binary), "PATH=/usr/bin:/bin",
	}
	if c.netns != "" {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+c.netns)
	}
	return cmd, nil
}

func (n *node) plugin(verb string, c call) outcome {
	n.t.Helper()
	out, err := n.tryPlugin(verb, c)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// tryPlugin is plugin where a goroutine other than the test's runs it, which must
// not end the test. That it could not be started is the error.
func (n *node) tryPlugin(verb string, c call) (outcome, error) {
	cmd, err := n.prepare(verb, c)
	if err != nil {
		return outcome{}, err
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	started := time.Now()
	if err := n.ns.Start(cmd); err != nil {
		return outcome{}, err
	}
	_ = cmd.Wait()
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(started)}, nil
}

// withOptions adds what an operator sets in the file.
func (n *node) withOptions(stdin string) string {
	var conf map[string]any
	if err := json.Unmarshal([]byte(stdin), &conf); err != nil {
		return stdin
	}
	conf["contrail"] = map[string]any{
		"agent-socket": n.socket(), "detach-queue": n.queue(), "vrouter-port": 9091, "mode": "mesos",
	}
	data, err := json.Marshal(conf)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(data)
}

// onNetwork is the configuration of a task of a network.
func onNetwork(network string) string {
	return fmt.Sprintf(`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"networks","value":%q}]},"name":"contrail"}}},"cniVersion":"0.2.0","name":"contrail","type":"contrail-cni"}`, network)
}

// container is a namespace with an interface.
type container struct {
	call
	ns      *nstest.NS
	address string
}

// newContainer is one that has no interface yet.
func newContainer(t *testing.T, network string) *container {
	t.Helper()
	ns := nstest.New(t, "container")
	return &container{call: call{uuid.NewString(), "eth0", ns.Path(), onNetwork(network)}, ns: ns}
}

func (n *node) add(network string) *container {
	n.t.Helper()
	c := newContainer(n.t, network)
	out := n.plugin("ADD", c.call)
	c.address = addressOf(n.t, out)
	return c
}

func addressOf(t *testing.T, out outcome) string {
	t.Helper()
	var result struct {
		IP4 struct{ IP string } `json:"ip4"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &result); err != nil || out.code != 0 || result.IP4.IP == "" {
		t.Fatalf("ADD exited %d: %s%s", out.code, out.stdout, out.stderr)
	}
	return netip.MustParsePrefix(result.IP4.IP).Addr().String()
}

func (c *container) ping(to *container) error {
	_, err := c.ns.Run("ping", "-c1", "-W1", to.address)
	return err
}

// clean tells what is left of containers.
func (c *cluster) clean() error {
	if n := c.controllers.count(); n != 0 {
		return fmt.Errorf("%d attachments are left", n)
	}
	for _, n := range c.nodes {
		if taps := n.taps(); len(taps) > 0 {
			return fmt.Errorf("interfaces are left: %v", taps)
		}
		if ports := n.ports(); len(ports) > 0 {
			return fmt.Errorf("ports are left: %v", ports)
		}
		for _, dir := range []string{portsName, queueName} {
			files, _ := os.ReadDir(filepath.Join(n.dir, "state", dir))
			if len(files) > 0 {
				return fmt.Errorf("files are left in %s: %v", dir, files)
			}
		}
		tables, err := dataplane.OpenTables(filepath.Join(n.bpf, "contrail"))
		if err != nil {
			return err
		}
		ports, portsErr := tables.Ports()
		routes, routesErr := tables.Routes()
		tables.Close()
		if portsErr != nil || routesErr != nil || len(ports) > 0 || len(routes) > 0 {
			return fmt.Errorf("data plane has %d ports and %d routes (%v, %v)", len(ports), len(routes), portsErr, routesErr)
		}
	}
	return nil
}

// programs are what the test binary does instead of testing, by its first
// argument.
var programs = map[string]func(args []string) int{runAgentArgument: runAgentProcess}

// cleanUp removes what tests share.
func cleanUp() {
	if pluginDir != "" {
		os.RemoveAll(pluginDir)
	}
}
