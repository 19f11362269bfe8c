package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/test/cluster"
)

// pair is two containers: network namespaces, by path, and the server's address.
type pair struct {
	client, server, address string
}

// undo collects what has to be removed, in reverse order.
type undo []func() error

func (u *undo) add(f func() error) { *u = append(*u, f) }

func (u undo) run() error {
	var errs []error
	for i := len(u) - 1; i >= 0; i-- {
		errs = append(errs, u[i]())
	}
	return errors.Join(errs...)
}

// commands runs lines of a script, one command each.
func commands(ctx context.Context, script string) error {
	for line := range strings.Lines(script) {
		if fields := strings.Fields(line); len(fields) > 0 {
			if _, err := cluster.Run(ctx, fields...); err != nil {
				return err
			}
		}
	}
	return nil
}

// namespace makes a network namespace whose name begins with the run's.
func (b *bench) namespace(ctx context.Context, u *undo, name string) (string, error) {
	full := b.Name + "-" + name
	if err := commands(ctx, "ip netns add "+full+"\nip -n "+full+" link set lo up"); err != nil {
		return "", err
	}
	u.add(func() error { return commands(context.Background(), "ip netns delete "+full) })
	return full, nil
}

func nsPath(name string) string { return "/run/netns/" + name }

// attach gives a new namespace an interface by a CNI plugin, called as the
// isolator does, and returns the namespace's path and its address.
func (b *bench) attach(ctx context.Context, u *undo, p plugin) (path, address string, err error) {
	name, err := b.namespace(ctx, u, "c"+uuid.NewString()[:8])
	if err != nil {
		return "", "", err
	}
	call := p.call(uuid.NewString(), nsPath(name))
	out, err := call.run(ctx, "ADD")
	if err != nil {
		return "", "", err
	}
	u.add(func() error { _, err := call.run(context.Background(), "DEL"); return err })
	var result struct {
		IP4 struct {
			IP string `json:"ip"`
		} `json:"ip4"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return "", "", fmt.Errorf("read CNI result %s: %w", out, err)
	}
	address, _, _ = strings.Cut(result.IP4.IP, "/")
	return nsPath(name), address, nil
}

// ours is two containers of the cluster, on one node or on two.
func (b *bench) ours(ctx context.Context, u *undo, same bool) (pair, error) {
	serverNode := 2
	if same {
		serverNode = 1
	}
	client, err := b.contrailPlugin(1)
	if err != nil {
		return pair{}, err
	}
	server, err := b.contrailPlugin(serverNode)
	if err != nil {
		return pair{}, err
	}
	var p pair
	if p.client, _, err = b.attach(ctx, u, client); err != nil {
		return p, err
	}
	p.server, p.address, err = b.attach(ctx, u, server)
	return p, err
}

// veth is two namespaces joined by a bare pair: no network at all.
func (b *bench) veth(ctx context.Context, u *undo) (pair, error) {
	client, err := b.namespace(ctx, u, "veth-a")
	if err != nil {
		return pair{}, err
	}
	server, err := b.namespace(ctx, u, "veth-b")
	if err != nil {
		return pair{}, err
	}
	err = commands(ctx, fmt.Sprintf(`
		ip -n %[1]s link add eth0 type veth peer name eth0 netns %[2]s
		ip -n %[1]s address add 10.0.0.1/24 dev eth0
		ip -n %[2]s address add 10.0.0.2/24 dev eth0
		ip -n %[1]s link set eth0 up
		ip -n %[2]s link set eth0 up`, client, server))
	return pair{nsPath(client), nsPath(server), "10.0.0.2"}, err
}

// bridge is the same topology as ours, built of the kernel's own parts: a
// bridge on each node, and VXLAN between them.
func (b *bench) bridge(ctx context.Context, u *undo, same bool) (pair, error) {
	fabric, err := b.namespace(ctx, u, "fab")
	if err != nil {
		return pair{}, err
	}
	if err := commands(ctx, fmt.Sprintf("ip -n %[1]s link add br type bridge\nip -n %[1]s link set br up", fabric)); err != nil {
		return pair{}, err
	}
	for n := 1; n <= 2; n++ {
		node, err := b.namespace(ctx, u, fmt.Sprintf("n%d", n))
		if err != nil {
			return pair{}, err
		}
		err = commands(ctx, fmt.Sprintf(`
			ip -n %[1]s link add n%[3]d type veth peer name eth0 netns %[2]s
			ip -n %[1]s link set n%[3]d master br up
			ip -n %[2]s address add 172.31.1.%[3]d/24 dev eth0
			ip -n %[2]s link set eth0 up
			ip -n %[2]s link add br type bridge
			ip -n %[2]s link set br up
			ip -n %[2]s link add vx type vxlan id 7 local 172.31.1.%[3]d remote 172.31.1.%[4]d dstport 4789 dev eth0
			ip -n %[2]s link set vx master br up`, fabric, node, n, 3-n))
		if err != nil {
			return pair{}, err
		}
	}
	p := pair{address: "10.0.0.2"}
	for i, at := range []string{"n1", map[bool]string{true: "n1", false: "n2"}[same]} {
		container, err := b.namespace(ctx, u, fmt.Sprintf("b%d", i+1))
		if err != nil {
			return pair{}, err
		}
		err = commands(ctx, fmt.Sprintf(`
			ip -n %[1]s link add c%[3]d type veth peer name eth0 netns %[2]s
			ip -n %[1]s link set c%[3]d master br up
			ip -n %[2]s link set eth0 mtu 1450
			ip -n %[2]s address add 10.0.0.%[3]d/24 dev eth0
			ip -n %[2]s link set eth0 up`, b.Name+"-"+at, container, i+1))
		if err != nil {
			return pair{}, err
		}
		if i == 0 {
			p.client = nsPath(container)
		} else {
			p.server = nsPath(container)
		}
	}
	return p, nil
}

// plugin is a CNI plugin with the namespace that its runtime is in.
type plugin struct {
	binary, netns string
	conf          []byte
}

// contrailPlugin is ours on a node, with its configuration and the label of
// the benchmark's network.
func (b *bench) contrailPlugin(node int) (plugin, error) {
	data, err := os.ReadFile(fmt.Sprintf("%s/node-%d/cni/net.d/contrail.conf", b.Data, node))
	if err != nil {
		return plugin{}, err
	}
	var conf map[string]any
	if err := json.Unmarshal(data, &conf); err != nil {
		return plugin{}, err
	}
	label := map[string]string{"key": "networks", "value": "bench"}
	conf["args"] = map[string]any{"org.apache.mesos": map[string]any{"network_info": map[string]any{
		"name": "contrail", "labels": map[string]any{"labels": []any{label}},
	}}}
	if data, err = json.Marshal(conf); err != nil {
		return plugin{}, err
	}
	return plugin{filepath.Join(b.Data, "cni/bin/contrail"), nsPath(b.Node(node)), data}, nil
}

// call is the invocations of a plugin for one container.
type call struct {
	plugin
	id, ns string
}

func (p plugin) call(id, ns string) call { return call{p, id, ns} }

// run starts the plugin from its runtime's namespace, with the environment that
// the isolator gives, and no more. Its error holds what the plugin wrote.
func (c call) run(ctx context.Context, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.binary)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + c.id, "CNI_NETNS=" + c.ns, "CNI_IFNAME=eth0",
		"CNI_PATH=" + filepath.Dir(c.binary), "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.conf), &out, &out
	err := ns.WithNetNSPath(c.netns, func(ns.NetNS) error { return cmd.Run() })
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", c.binary, command, err, out.String())
	}
	return out.Bytes(), nil
}
