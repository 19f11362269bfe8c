package box

import (
	"fmt"
	"path/filepath"
	"slices"
)

// AgentSockets are the unix sockets of the vRouter agents of a cluster that is up
// on this machine, of all nodes or of one: contrail-node-1, or short node-1.
func AgentSockets(name, node string) ([]string, error) {
	cfg := Config{Name: name}
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("--name %q: want 1 to 24 lower-case letters, digits and dashes, a letter first", name)
	}
	status, err := readStatus(cfg.runDir())
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, ErrNotUp)
	}
	var sockets, names []string
	for n := 1; n <= status.Nodes; n++ {
		names = append(names, cfg.node(n))
		if slices.Contains([]string{"", cfg.node(n), filepath.Base(cfg.nodeRun(n))}, node) {
			sockets = append(sockets, cfg.agentSocket(n))
		}
	}
	if len(sockets) == 0 {
		return nil, fmt.Errorf("--node %s: there is no such node in the cluster %s; its nodes are %v", node, name, names)
	}
	return sockets, nil
}
