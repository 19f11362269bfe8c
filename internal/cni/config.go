package cni

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// Bounds of the plugin's own time. Runtimes do not bound plugins.
const (
	addBound = 20 * time.Second
	delBound = 10 * time.Second
)

// config is what the plugin reads of the network configuration. Everything
// else is the agent's and the manager's to judge.
type config struct {
	CNIVersion string                     `json:"cniVersion"`
	Name       string                     `json:"name"`
	DNS        types.DNS                  `json:"dns"`
	Args       map[string]json.RawMessage `json:"args"`
	Contrail   json.RawMessage            `json:"contrail"`

	options options
}

// options are the keys of the `contrail` object that are used. The keys of
// earlier plugins (vrouter-ip, poll-timeout, mode, ...) are tolerated.
type options struct {
	// AgentSocket is the path of the agent's unix socket.
	AgentSocket string `json:"agent-socket"`
	// DetachQueue is the agent's directory for releases it has to make up for.
	DetachQueue string `json:"detach-queue"`
	// Timeout bounds ADD, in seconds; at most and by default 20.
	Timeout float64 `json:"timeout"`
}

// parseConfig reads the network configuration. The error is for a person and
// names the field.
func parseConfig(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "network configuration: "+err.Error(), "")
	}
	c.options = options{
		AgentSocket: portapi.DefaultSocket,
		DetachQueue: portapi.DefaultDetachQueue,
		Timeout:     addBound.Seconds(),
	}
	if len(c.Contrail) > 0 {
		if err := json.Unmarshal(c.Contrail, &c.options); err != nil {
			return nil, invalidConfig("contrail: %v", err)
		}
	}
	if !filepath.IsAbs(c.options.AgentSocket) {
		return nil, invalidConfig("contrail.agent-socket %q: want an absolute path, such as %s",
			c.options.AgentSocket, portapi.DefaultSocket)
	}
	if !filepath.IsAbs(c.options.DetachQueue) {
		return nil, invalidConfig("contrail.detach-queue %q: want an absolute path, such as %s",
			c.options.DetachQueue, portapi.DefaultDetachQueue)
	}
	if t := c.options.Timeout; t < 1 || t > addBound.Seconds() {
		return nil, invalidConfig("contrail.timeout %v: want 1 to %v seconds", t, addBound.Seconds())
	}
	return c, nil
}

func (c *config) addTimeout() time.Duration {
	return time.Duration(c.options.Timeout * float64(time.Second))
}

// forMesos tells whether the caller is a Mesos agent, which reads results in
// the form of CNI 0.2.0 whatever the version says.
func (c *config) forMesos() bool {
	_, ok := c.Args["org.apache.mesos"]
	return ok
}

func invalidConfig(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}
