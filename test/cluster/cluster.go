// Package cluster starts whole clusters for tests and benchmarks: `contrail up`
// under a random name, from a network namespace of its own, so that neither the
// machine nor another cluster is touched.
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Services on the loopback of a cluster's host namespace.
const (
	Marathon = "127.0.0.1:8080"
	Master   = "127.0.0.1:5050"
	Config   = "127.0.0.1:8082"
)

// Cluster is a cluster and the namespace it is started from.
type Cluster struct {
	// Name of the cluster, and of the namespace that stands for its host.
	Name, Host string
	// Data is the cluster's data directory, Bin that of the binaries.
	Data, Bin string
}

// New builds the binaries and makes the host's namespace. The module's root is
// the directory that holds go.mod.
func New(ctx context.Context, prefix, root string) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "contrail-"+prefix+"-")
	if err != nil {
		return nil, err
	}
	name := prefix + strings.ToLower(rand.Text()[:6])
	c := &Cluster{Name: name, Host: name + "-host", Data: filepath.Join(dir, "data"), Bin: filepath.Join(dir, "bin")}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", c.Bin+"/", "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w\n%s", err, out)
	}
	for _, command := range []string{"ip netns add " + c.Host, "ip -n " + c.Host + " link set lo up"} {
		if _, err := Run(ctx, strings.Fields(command)...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Remove takes the cluster down and removes its data.
func (c *Cluster) Remove() error {
	ctx := context.Background()
	_, err := c.Contrail(ctx, "down", "--purge", "--data", c.Data)
	_, errHost := Run(ctx, "ip", "netns", "delete", c.Host)
	return errors.Join(err, errHost, os.RemoveAll(filepath.Dir(c.Data)))
}

// Up runs `contrail up` with more arguments.
func (c *Cluster) Up(ctx context.Context, args ...string) error {
	_, err := c.Contrail(ctx, append([]string{"up", "--data", c.Data}, args...)...)
	return err
}

// Contrail runs the binary for this cluster, in its host namespace.
func (c *Cluster) Contrail(ctx context.Context, args ...string) (string, error) {
	command := append([]string{filepath.Join(c.Bin, "contrail"), args[0], "--name", c.Name}, args[1:]...)
	return c.InHost(ctx, command...)
}

// InHost runs a command in the namespace that the cluster was started from.
func (c *Cluster) InHost(ctx context.Context, command ...string) (string, error) {
	return Run(ctx, append([]string{"nsenter", "--net=/run/netns/" + c.Host}, command...)...)
}

// Node is the name of a node and of its namespace.
func (c *Cluster) Node(n int) string { return fmt.Sprintf("%s-node-%d", c.Name, n) }

// Fabric is the name of the controllers' namespace.
func (c *Cluster) Fabric() string { return c.Name + "-fabric" }

// Run returns what the command wrote to stdout; its error has all it wrote.
func Run(ctx context.Context, command ...string) (string, error) {
	return RunWith(ctx, nil, command...)
}

// RunWith is Run with something to read.
func RunWith(ctx context.Context, in io.Reader, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(command, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Answer is what a service answered.
type Answer struct {
	Status int
	Body   string
}

// Curl asks a service on the host's loopback.
func (c *Cluster) Curl(ctx context.Context, method, url, body string) (Answer, error) {
	command := []string{
		"curl", "--silent", "--show-error", "--max-time", "20", "--request", method,
		"--header", "Content-Type: application/json", "--write-out", "\n%{http_code}", "http://" + url,
	}
	var in io.Reader
	if body != "" {
		command, in = append(command, "--data-binary", "@-"), strings.NewReader(body)
	}
	out, err := RunWith(ctx, in, append([]string{"nsenter", "--net=/run/netns/" + c.Host}, command...)...)
	if err != nil {
		return Answer{}, err
	}
	i := strings.LastIndexByte(out, '\n')
	a := Answer{Body: out[:i]}
	_, err = fmt.Sscan(out[i+1:], &a.Status)
	return a, err
}

// Task is a task as Marathon shows it.
type Task struct {
	ID          string `json:"id"`
	Host        string `json:"host"`
	State       string `json:"state"`
	IPAddresses []struct {
		IPAddress string `json:"ipAddress"`
	} `json:"ipAddresses"`
}

// Address is the task's first address, or empty.
func (t Task) Address() string {
	if len(t.IPAddresses) == 0 {
		return ""
	}
	return t.IPAddresses[0].IPAddress
}

// Tasks lists the tasks of an application.
func (c *Cluster) Tasks(ctx context.Context, app string) ([]Task, error) {
	got, err := c.Curl(ctx, "GET", Marathon+"/v2/apps"+app+"/tasks", "")
	if err != nil {
		return nil, err
	}
	if got.Status != 200 {
		return nil, fmt.Errorf("tasks of %s: %d %s", app, got.Status, got.Body)
	}
	var list struct {
		Tasks []Task `json:"tasks"`
	}
	return list.Tasks, json.Unmarshal([]byte(got.Body), &list)
}

// Destroy deletes an application and waits until nothing of it is left in
// Marathon: neither the application nor a deployment that holds its name.
func (c *Cluster) Destroy(ctx context.Context, app string) error {
	return Eventually(ctx, func() error {
		got, err := c.Curl(ctx, "DELETE", Marathon+"/v2/apps"+app+"?force=true", "")
		if err != nil {
			return err
		}
		if got.Status != 404 {
			return fmt.Errorf("delete %s: %d %s", app, got.Status, got.Body)
		}
		if got, err = c.Curl(ctx, "GET", Marathon+"/v2/deployments", ""); err != nil {
			return err
		}
		if strings.Contains(got.Body, strconv.Quote(app)) {
			return fmt.Errorf("deployments of %s go on: %s", app, got.Body)
		}
		return nil
	})
}

// Networks is a task's request for one virtual network, with labels.
func Networks(labels map[string]string) []map[string]any {
	return []map[string]any{{"mode": "container", "name": "contrail", "labels": labels}}
}

// App is an application of the example image in a virtual network.
func App(id, network string, instances int) map[string]any {
	return map[string]any{
		"id": id, "cmd": "exec /bin/contrail-example serve", "instances": instances, "cpus": 0.1, "mem": 32,
		"container": map[string]any{"type": "MESOS", "docker": map[string]any{"image": "contrail/example"}},
		"networks":  Networks(map[string]string{"networks": network}),
	}
}

// On is the constraint that places an application on one node.
func (c *Cluster) On(n int) map[string]any {
	return map[string]any{"constraints": [][]string{{"hostname", "CLUSTER", c.Node(n)}}}
}

// Eventually tries until f succeeds or ctx ends, and returns f's last error.
func Eventually(ctx context.Context, f func() error) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}
