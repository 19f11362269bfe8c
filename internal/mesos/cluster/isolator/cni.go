package isolator

//lint:file-ignore ST1005 texts that reach users are those of Mesos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Config of the isolator.
type Config struct {
	// Root is RUNTIME_DIR/isolators/network/cni.
	Root string
	// ConfigDir has one file per network; PluginsDir is a search path, given to
	// plugins as it is. Both empty: containers are on the host network only.
	ConfigDir, PluginsDir string
	// Path is PATH of the plugins.
	Path string
	// Timeout of one plugin call; 0 means 60 s.
	Timeout time.Duration
}

// CNI is the isolator. Safe for concurrent use with different containers.
type CNI struct {
	log    *slog.Logger
	config Config
}

// New makes an isolator.
func New(log *slog.Logger, config Config) (*CNI, error) {
	if (config.ConfigDir == "") != (config.PluginsDir == "") {
		return nil, errors.New("CNI: give both --network-cni-config-dir and --network-cni-plugins-dir, or neither")
	}
	config.Timeout = cmp.Or(config.Timeout, time.Minute)
	config.Path = cmp.Or(config.Path, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return &CNI{log: log, config: config}, nil
}

// Names of the files of a container.
const (
	nsFile       = "ns"
	hostsFile    = "hosts"
	hostnameFile = "hostname"
	resolvFile   = "resolv.conf"
	confFile     = "network.conf"
	infoFile     = "network.info"
)

// Network asked for by a task.
type Network struct {
	// Name of the network, not empty.
	Name string
	// Info is the task's NetworkInfo in Mesos's JSON, with defaults.
	Info []byte
}

// Attachment is a container's connection to its networks.
type Attachment struct {
	// NetNS, Hosts and Hostname are paths; Resolv is empty where the host's
	// /etc/resolv.conf applies.
	NetNS, Hosts, Hostname, Resolv string
	// Results by network, eth0 first.
	Results []Result
}

// Attach makes the container's network namespace and joins the networks. On an
// error whatever there is stays until Detach, which must follow. Texts are
// those of Mesos, for the message of the task's status.
func (c *CNI) Attach(ctx context.Context, id, hostname string, wanted []Network) (*Attachment, error) {
	dir, err := c.dir(id)
	if err != nil {
		return nil, err
	}
	calls, err := c.plan(id, wanted)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.config.Root, 0o755); err != nil {
		return nil, fmt.Errorf("make network directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make network directory of container: %w", err)
	}
	if err := makeNamespace(filepath.Join(dir, nsFile)); err != nil {
		return nil, err
	}
	for _, call := range calls {
		// The interface first: a network.conf says that there is something to undo.
		if err := os.MkdirAll(filepath.Join(dir, call.network, call.ifname), 0o755); err != nil {
			return nil, fmt.Errorf("checkpoint network configuration: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, call.network, confFile), call.input, 0o644); err != nil {
			return nil, fmt.Errorf("checkpoint network configuration: %w", err)
		}
	}
	results := make([]Result, len(calls))
	var group errgroup.Group
	for i, call := range calls {
		group.Go(func() (err error) {
			results[i], err = c.add(ctx, call)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("Collect failed: %w", err)
	}
	if !slices.ContainsFunc(results, func(r Result) bool { return r.IP4 != "" || r.IP6 != "" }) {
		return nil, fmt.Errorf("no address in the results of CNI network '%s': Mesos reads 'ip4' and 'ip6' only; set cniVersion to 0.2.0 in the network's configuration", wanted[0].Name)
	}
	return c.files(dir, hostname, results)
}

func (c *CNI) dir(id string) (string, error) {
	if !filepath.IsLocal(id) || strings.Contains(id, "/") || id == "." {
		return "", fmt.Errorf("container id %q is no file name", id)
	}
	return filepath.Join(c.config.Root, id), nil
}

// plan checks the request as a whole, before anything is made.
func (c *CNI) plan(id string, wanted []Network) ([]call, error) {
	known, err := c.networks()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	calls := make([]call, 0, len(wanted))
	for i, w := range wanted {
		if seen[w.Name] {
			return nil, fmt.Errorf("Attempted to join CNI network '%s' multiple times", w.Name)
		}
		seen[w.Name] = true
		n, ok := known[w.Name]
		if !ok {
			return nil, fmt.Errorf("Unknown CNI network '%s'", w.Name)
		}
		input, err := n.input(w.Info)
		if err != nil {
			return nil, err
		}
		calls = append(calls, call{id: id, network: w.Name, plugin: n.plugin, ifname: fmt.Sprintf("eth%d", i), input: input})
	}
	return calls, nil
}

func (c *CNI) files(dir, hostname string, results []Result) (*Attachment, error) {
	resolv, err := resolvText(results)
	if err != nil {
		return nil, err
	}
	a := &Attachment{
		NetNS: filepath.Join(dir, nsFile), Hosts: filepath.Join(dir, hostsFile),
		Hostname: filepath.Join(dir, hostnameFile), Results: results,
	}
	texts := map[string]string{a.Hosts: hostsText(hostname, results), a.Hostname: hostname + "\n"}
	if resolv != "" {
		a.Resolv = filepath.Join(dir, resolvFile)
		texts[a.Resolv] = resolv
	}
	for path, text := range texts {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", filepath.Base(path), err)
		}
	}
	return a, nil
}

// Attachment reads back what Attach made, after a restart. The error is
// fs.ErrNotExist where the container has no networks.
func (c *CNI) Attachment(id string) (*Attachment, error) {
	dir, err := c.dir(id)
	if err != nil {
		return nil, err
	}
	checkpoints, err := c.checkpoints(id)
	if err != nil {
		return nil, err
	}
	a := &Attachment{NetNS: filepath.Join(dir, nsFile), Hosts: filepath.Join(dir, hostsFile), Hostname: filepath.Join(dir, hostnameFile)}
	if _, err := os.Stat(filepath.Join(dir, resolvFile)); err == nil {
		a.Resolv = filepath.Join(dir, resolvFile)
	}
	for _, call := range checkpoints {
		text, err := os.ReadFile(filepath.Join(dir, call.network, call.ifname, infoFile))
		if err != nil {
			return nil, fmt.Errorf("read result of network %s: %w", call.network, err)
		}
		result, err := parseResult(text)
		if err != nil {
			return nil, fmt.Errorf("read result of network %s: %w", call.network, err)
		}
		result.Network, result.Interface = call.network, call.ifname
		a.Results = append(a.Results, result)
	}
	return a, nil
}

// checkpoints lists the networks of a container that have a network.conf, eth0
// first. The plugin is left open.
func (c *CNI) checkpoints(id string) ([]call, error) {
	dir, err := c.dir(id)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list networks of container: %w", err)
	}
	var all []call
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		input, err := os.ReadFile(filepath.Join(dir, e.Name(), confFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read network configuration: %w", err)
		}
		interfaces, err := os.ReadDir(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("list interfaces of container: %w", err)
		}
		for _, i := range interfaces {
			if i.IsDir() {
				all = append(all, call{id: id, network: e.Name(), ifname: i.Name(), input: input})
			}
		}
	}
	slices.SortFunc(all, func(a, b call) int {
		return cmp.Or(cmp.Compare(len(a.ifname), len(b.ifname)), cmp.Compare(a.ifname, b.ifname))
	})
	return all, nil
}

// Detach leaves the networks and removes the namespace and all files. It may
// be repeated; detaching what is not attached is success. When a plugin fails,
// everything stays for the next time.
func (c *CNI) Detach(ctx context.Context, id string) error {
	dir, err := c.dir(id)
	if err != nil {
		return err
	}
	calls, err := c.checkpoints(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, call := range calls {
		group.Go(func() error { return c.del(ctx, call) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	ns := filepath.Join(dir, nsFile)
	// More than once, if something was mounted over it.
	for isNamespace(ns) {
		if err := unix.Unmount(ns, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount network namespace: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove network directory of container: %w", err)
	}
	return nil
}

// Recover detaches every container that alive does not know, and returns those
// that keep their networks, with the reason: detach them later.
func (c *CNI) Recover(ctx context.Context, alive func(id string) bool) (map[string]error, error) {
	entries, err := os.ReadDir(c.config.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list containers with networks: %w", err)
	}
	failed := map[string]error{}
	for _, e := range entries {
		if !e.IsDir() || alive(e.Name()) {
			continue
		}
		if err := c.Detach(ctx, e.Name()); err != nil {
			failed[e.Name()] = err
			continue
		}
		c.log.Info("orphaned container left its networks", "container", e.Name())
	}
	return failed, nil
}

// makeNamespace makes a network namespace and binds it on path.
func makeNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine, in the namespace it made.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("make network namespace: %w", err)
	}
	return nil
}

func isNamespace(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && stat.Type == unix.NSFS_MAGIC
}
