package box

import (
	"fmt"
	"path/filepath"
	"strconv"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// component is one process that the supervisor keeps running.
type component struct {
	// name is unique in the cluster: controller, vrouter-agent-2, ...
	name string
	// node is the number of the node it belongs to, 0 for the fabric.
	node int
	// namespace is the network namespace it runs in.
	namespace string
	// args follow the binary's name.
	args []string
	// open are loopback addresses where everyone on the host gets in; they are
	// handed over as descriptors 3, 4, ...
	open []string
	// ready tells when it answers.
	ready probe
	// after are the components that have to be ready before it starts.
	after []string
}

// plan is everything that a cluster of this many nodes consists of, in the
// order of starting.
func (c *Config) plan(nodes int) []component {
	components := []component{
		c.controller(), c.repo(), c.master(), c.manager(), c.marathon(),
	}
	for n := 1; n <= nodes; n++ {
		components = append(components, c.vrouterAgent(n), c.mesosAgent(n))
	}
	return components
}

// Names of the components that are there once.
const (
	controllerName = "controller"
	managerName    = "mesos-manager"
	masterName     = "mesos-master"
	marathonName   = "mesos-marathon"
	repoName       = "repo"
)

// nodeFlows is the flow table of a node, small enough for many nodes on one machine.
const nodeFlows = 64 << 10

func (c *Config) configSocket() string     { return filepath.Join(c.runDir(), "config.sock") }
func (c *Config) marathonSocket() string   { return filepath.Join(c.runDir(), "marathon.sock") }
func (c *Config) agentSocket(n int) string { return filepath.Join(c.nodeRun(n), "agent.sock") }
func (c *Config) mesosSocket(n int) string { return filepath.Join(c.nodeRun(n), "mesos.sock") }
func (c *Config) mesosRun(n int) string    { return filepath.Join(c.nodeRun(n), "mesos") }
func (c *Config) tokenFile(n int) string   { return filepath.Join(c.nodeRun(n), "token") }

func (c *Config) controller() component {
	return component{
		name: controllerName, namespace: c.fabric(),
		args: []string{
			"controller", "--name", c.controllerHost(), "--data", filepath.Join(c.Data, "controller"), "--run", c.runDir(),
			"--tls-dir", c.pki(ctls.RoleController), "--listen-tls", fabricAddress + ":5269", "--listen-fd", "3",
			"--users", filepath.Join(c.Data, "users.yaml"), // whoever wants users makes it
			"--rest", c.Rest.String(), "--tombstone", c.Tombstone.String(),
		},
		open:  []string{"127.0.0.1:8082"},
		ready: probe{unix: c.configSocket()},
	}
}

func (c *Config) repo() component {
	return component{
		name: repoName, namespace: c.fabric(),
		args: []string{
			"repo", "--images", c.images(),
			"--tls-dir", c.pki(ctls.RoleRepo), "--listen-tls", registryOnPort, "--listen-fd", "3",
		},
		open:  []string{"127.0.0.1:1567"},
		ready: probe{tcp: registryOnPort},
	}
}

func (c *Config) master() component {
	return component{
		name: masterName, namespace: c.fabric(),
		args: []string{
			"mesos", "master", "--work-dir", filepath.Join(c.Data, "mesos-master"),
			"--tls-dir", c.pki(ctls.RoleMaster), "--listen-tls", fabricAddress + ":5050", "--listen-fd", "3",
		},
		open:  []string{"127.0.0.1:5050"},
		ready: probe{tcp: fabricAddress + ":5050"},
	}
}

func (c *Config) manager() component {
	return component{
		name: managerName, namespace: c.fabric(),
		args: []string{
			"mesos-manager", "--config", "unix:" + c.configSocket(),
			"--tls-dir", c.pki(ctls.RoleManager), "--listen-tls", fabricAddress + ":6991", "--listen-fd", "3",
		},
		open:  []string{"127.0.0.1:6991"},
		ready: probe{tcp: fabricAddress + ":6991"},
		after: []string{controllerName},
	}
}

func (c *Config) marathon() component {
	return component{
		name: marathonName, namespace: c.fabric(),
		args: []string{
			"mesos", "marathon", "--master", fabricAddress + ":5050",
			"--state-dir", filepath.Join(c.Data, "marathon"),
			"--tls-dir", c.pki(ctls.RoleMarathon), "--listen-unix", c.marathonSocket(), "--listen-fd", "3",
		},
		open:  []string{"127.0.0.1:8080"},
		ready: probe{unix: c.marathonSocket()},
		after: []string{masterName},
	}
}

func (c *Config) vrouterAgent(n int) component {
	return component{
		name: "vrouter-agent-" + strconv.Itoa(n), node: n, namespace: c.node(n),
		args: []string{
			"vrouter-agent", "--name", c.node(n),
			"--run-dir", c.nodeRun(n), "--state-dir", filepath.Join(c.nodeData(n), "vrouter"),
			"--pin-dir", c.nodePins(n), "--underlay", uplinkName, "--flow-entries", strconv.Itoa(nodeFlows),
			"--manager", fabricAddress + ":6991", "--control", fabricAddress + ":5269",
			"--tls-dir", c.pki(fmt.Sprintf("node-%d", n)),
			"--port-api", "127.0.0.1:9091", "--introspect", "127.0.0.1:8085", "--token-file", c.tokenFile(n),
		},
		ready: probe{unix: c.agentSocket(n)},
		after: []string{controllerName, managerName},
	}
}

func (c *Config) mesosAgent(n int) component {
	return component{
		name: "mesos-agent-" + strconv.Itoa(n), node: n, namespace: c.node(n),
		args: []string{
			"mesos", "agent", "--master", fabricAddress + ":5050",
			"--hostname", c.node(n), "--ip", c.nodeAddress(n), "--port", "5051",
			"--work-dir", filepath.Join(c.nodeData(n), "mesos"), "--runtime-dir", c.mesosRun(n),
			"--tls-dir", c.pki(fmt.Sprintf("node-%d", n)),
			"--listen-tls", c.nodeAddress(n) + ":5051", "--listen-unix", c.mesosSocket(n),
			"--docker-registry", registryOnPort,
			"--network-cni-config-dir", c.cniConfDir(n), "--network-cni-plugins-dir", c.pluginsDir(),
			"--cgroups-root", c.nodeCgroup(n),
			"--resources", "cpus:4;mem:4096;disk:10240;ports:[31000-32000]",
		},
		ready: probe{unix: c.mesosSocket(n)},
		after: []string{masterName, "vrouter-agent-" + strconv.Itoa(n)},
	}
}
