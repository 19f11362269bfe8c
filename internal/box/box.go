// Package box runs a whole cluster on one machine: controller, Mesos manager,
// Mesos master, Marathon and an image registry in one network namespace, and
// nodes, each a network namespace with a Mesos agent and a vRouter agent,
// joined by a bridge.
//
//	Config ──> plan (namespaces, components, files) ──> network, files   made by Up
//	                     │
//	                     └──> supervisor: /proc ──diff──> start, restart, adopt
//	                              │
//	                              └──> /run/NAME/status.json ──> Status
//
// Everything is level-triggered: the plan says what is wanted, the kernel says
// what is there, and whoever looks makes up the difference. Processes are
// known by marks in their environment, not by a file that may be stale; so a
// supervisor that was killed is replaced by one that adopts what runs, and
// Down finds everything that ever belonged to the cluster.
//
// All names carry the cluster's name, so that several clusters can run on one
// machine, each started from a network namespace of its own.
package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// DefaultName is the name of the cluster that `contrail up` starts.
const DefaultName = "contrail"

// MaxNodes is bounded by the addresses of the fabric, 172.31.0.11 and up.
const MaxNodes = 200

// Config says which cluster is meant and what it has.
type Config struct {
	// Name prefixes namespaces, pins, cgroups and sockets: 1 to 24 lower-case
	// letters, digits and dashes.
	Name string
	// Data is the directory of everything that outlives Down without purge.
	// Empty: the one the running cluster was started with, else the default.
	Data string
	// Nodes is how many nodes there are; 0 means as many as before, or 3.
	Nodes int
	// Binary is the contrail binary; contrail-cni and contrail-example are
	// beside it.
	Binary string
	// Rest is how long a released address is not given out again, and
	// Tombstone how long a released attachment is remembered.
	Rest, Tombstone time.Duration

	// exampleImage is the name of this build's example image, once it is made.
	exampleImage string
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,23}$`)

// Validate checks the fields and fills in what is empty.
func (c *Config) Validate() error {
	if !namePattern.MatchString(c.Name) {
		return fmt.Errorf("--name %q: want 1 to 24 lower-case letters, digits and dashes, a letter first", c.Name)
	}
	if c.Nodes < 0 || c.Nodes > MaxNodes {
		return fmt.Errorf("--nodes %d: want 1 to %d", c.Nodes, MaxNodes)
	}
	if c.Data == "" {
		if status, err := readStatus(c.runDir()); err == nil && status.Data != "" {
			c.Data = status.Data
		} else {
			c.Data = defaultData(c.Name)
		}
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return fmt.Errorf("--data %s: %w", c.Data, err)
	}
	if data == "/" {
		return errors.New("--data /: want a directory of the cluster's own")
	}
	c.Data = data
	if c.Binary == "" {
		if c.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find own binary: %w", err)
		}
	}
	return nil
}

func defaultData(name string) string {
	if name == DefaultName {
		return "/var/lib/contrail/box"
	}
	return "/var/lib/contrail/box-" + name
}

// The layout of names and paths. Run directories vanish with the cluster, data
// directories with a purge.

func (c *Config) runDir() string           { return "/run/" + c.Name }
func (c *Config) fabric() string           { return c.Name + "-fabric" }
func (c *Config) node(n int) string        { return c.Name + "-node-" + strconv.Itoa(n) }
func (c *Config) nodeAddress(n int) string { return "172.31.0." + strconv.Itoa(10+n) }
func (c *Config) nodeRun(n int) string     { return filepath.Join(c.runDir(), "node-"+strconv.Itoa(n)) }

func (c *Config) nodeData(n int) string { return filepath.Join(c.Data, "node-"+strconv.Itoa(n)) }

func (c *Config) nodePins(n int) string      { return filepath.Join(c.pins(), "node-"+strconv.Itoa(n)) }
func (c *Config) nodeCgroup(n int) string    { return c.Name + "/node-" + strconv.Itoa(n) }
func (c *Config) pins() string               { return filepath.Join(bpfRoot, c.Name) }
func (c *Config) pki(identity string) string { return filepath.Join(c.Data, "pki", identity) }
func (c *Config) logFile(component string) string {
	return filepath.Join(c.Data, "log", component+".log")
}
func (c *Config) images() string     { return filepath.Join(c.Data, "images") }
func (c *Config) pluginsDir() string { return filepath.Join(c.Data, "cni", "bin") }
func (c *Config) cniConfDir(n int) string {
	return filepath.Join(c.nodeData(n), "cni", "net.d")
}

const (
	bpfRoot        = "/sys/fs/bpf"
	fabricAddress  = "172.31.0.1"
	fabricPrefix   = "/24"
	registryOnPort = fabricAddress + ":1567"
)
