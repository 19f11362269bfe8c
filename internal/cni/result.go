package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// newResult describes the interface in the newest form of the specification.
func newResult(c *config, answer *portapi.AttachResponse, hostName, hostMAC, ifname, sandbox string, defaultRoute bool) (*current.Result, error) {
	mtu := int(answer.MTU)
	result := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: hostName, Mac: hostMAC, Mtu: mtu},
			{Name: ifname, Mac: answer.MAC, Mtu: mtu, Sandbox: sandbox},
		},
		// The operator's resolvers only: the address that a network reserves
		// for its own is no use before something answers there.
		DNS: *c.DNS.Copy(),
	}
	for _, a := range answer.Addresses {
		prefix, err := prefixOf(a)
		if err != nil {
			return nil, err
		}
		gateway := net.ParseIP(a.Gateway)
		result.IPs = append(result.IPs, &current.IPConfig{Interface: current.Int(1), Address: *prefix, Gateway: gateway})
		if defaultRoute && gateway != nil {
			result.Routes = append(result.Routes, &types.Route{Dst: anywhere(prefix), GW: gateway})
		}
	}
	return result, nil
}

func anywhere(prefix *net.IPNet) net.IPNet {
	size := len(prefix.IP)
	return net.IPNet{IP: make(net.IP, size), Mask: make(net.IPMask, size)}
}

// printResult writes the result in the version that the configuration asks
// for. A Mesos agent reads `ip4` and `ip6` only, whatever the version, and
// ignores the rest: it gets both shapes.
func printResult(w io.Writer, c *config, result *current.Result) error {
	version := c.CNIVersion
	if version == "" {
		version = "0.1.0"
	}
	versioned, err := result.GetAsVersion(version)
	if err != nil {
		return fmt.Errorf("convert result to version %s: %w", version, err)
	}
	data, err := json.Marshal(versioned)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if _, old := versioned.(*types020.Result); !old && c.forMesos() {
		if data, err = withClassicShape(data, result); err != nil {
			return err
		}
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

func withClassicShape(data []byte, result *current.Result) ([]byte, error) {
	classic, err := result.GetAsVersion("0.2.0")
	if err != nil {
		return nil, fmt.Errorf("convert result for Mesos: %w", err)
	}
	both := map[string]any{}
	if err := json.Unmarshal(data, &both); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	old := classic.(*types020.Result)
	if old.IP4 != nil {
		both["ip4"] = old.IP4
	}
	if old.IP6 != nil {
		both["ip6"] = old.IP6
	}
	return json.Marshal(both)
}
