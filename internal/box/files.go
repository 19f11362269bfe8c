package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// identity is what a cluster keeps of itself in its data directory.
type identity struct {
	// Nodes are the UUIDs of the nodes, in their order.
	Nodes []string `json:"nodes"`
}

func (c *Config) identityFile() string { return filepath.Join(c.Data, "state", "cluster.json") }

func (c *Config) readIdentity() (identity, error) {
	var id identity
	data, err := os.ReadFile(c.identityFile())
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, fmt.Errorf("read cluster identity: %w", err)
	}
	if err := json.Unmarshal(data, &id); err != nil {
		return id, fmt.Errorf("read cluster identity %s: %w", c.identityFile(), err)
	}
	return id, nil
}

// ensureIdentity settles the number of nodes and gives each a UUID. A cluster
// can grow; it cannot shrink, since its store knows the nodes.
func (c *Config) ensureIdentity() error {
	id, err := c.readIdentity()
	if err != nil {
		return err
	}
	had := len(id.Nodes)
	switch {
	case c.Nodes == 0:
		if c.Nodes = had; had == 0 {
			c.Nodes = defaultNodes
		}
	case c.Nodes < had:
		return fmt.Errorf("--nodes %d: cluster %s has %d nodes already; remove it first with `contrail down --purge`", c.Nodes, c.Name, had)
	}
	if c.Nodes == had {
		return nil
	}
	for len(id.Nodes) < c.Nodes {
		id.Nodes = append(id.Nodes, uuid.NewString())
	}
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write cluster identity: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.identityFile()), 0o755); err != nil {
		return fmt.Errorf("write cluster identity: %w", err)
	}
	if err := renameio.WriteFile(c.identityFile(), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write cluster identity: %w", err)
	}
	return nil
}

const defaultNodes = 3

// ensureCertificates issues what is missing or about to expire.
func (c *Config) ensureCertificates() error {
	authority, err := ctls.OpenAuthority(c.pki("ca"))
	if err != nil {
		return err
	}
	roles := []string{
		ctls.RoleController, ctls.RoleManager, ctls.RoleMaster, ctls.RoleMarathon, ctls.RoleRepo, ctls.RoleAdmin,
	}
	for _, role := range roles {
		if err := authority.Issue(c.pki(role), role, ""); err != nil {
			return err
		}
	}
	id, err := c.readIdentity()
	if err != nil {
		return err
	}
	for i, node := range id.Nodes {
		if err := authority.Issue(c.pki("node-"+strconv.Itoa(i+1)), ctls.RoleNode, node); err != nil {
			return err
		}
	}
	return nil
}

// networkName is the CNI network that the nodes' Mesos agents know; which
// virtual network a task joins is said by its labels.
const networkName = "contrail"

// ensureCNI installs the plugin and each node's network configuration.
func (c *Config) ensureCNI() error {
	plugin := filepath.Join(filepath.Dir(c.Binary), "contrail-cni")
	if err := installFile(plugin, filepath.Join(c.pluginsDir(), "contrail")); err != nil {
		return fmt.Errorf("install the CNI plugin: %w", err)
	}
	for n := 1; n <= c.Nodes; n++ {
		conf := map[string]any{
			"cniVersion": "0.2.0", "name": networkName, "type": "contrail",
			"contrail": map[string]any{
				"agent-socket": c.agentSocket(n),
				"detach-queue": filepath.Join(c.nodeData(n), "vrouter", "detach-queue"),
			},
		}
		data, err := json.MarshalIndent(conf, "", "  ")
		if err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
		if err := os.MkdirAll(c.cniConfDir(n), 0o755); err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
		if err := renameio.WriteFile(filepath.Join(c.cniConfDir(n), "contrail.conf"), append(data, '\n'), 0o644); err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
	}
	return nil
}

// installFile copies an executable; one that is being run is replaced, not
// written over.
func installFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if have, err := hashFile(to); err == nil {
		if want, err := hashFile(from); err == nil && have == want {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(to, data, 0o755)
}
