package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	marathonPort = "127.0.0.1:8080"
	masterPort   = "127.0.0.1:5050"
	configPort   = "127.0.0.1:8082"
	// exampleTimeout bounds starting the example's tasks.
	exampleTimeout = 40 * time.Second
	// refusedAfter is how long a check waits before it says that there is no way.
	refusedAfter = time.Second
)

// exampleApp is one application of the example.
type exampleApp struct {
	id, network string
	instances   int
	// spread puts its instances on different nodes.
	spread bool
}

// exampleApps: with as many webs as nodes, client has one on its own node and
// some on others.
func exampleApps(nodes int) []exampleApp {
	return []exampleApp{
		{id: "/web", network: "blue", instances: min(3, nodes), spread: true},
		{id: "/client", network: "blue", instances: 1},
		{id: "/db", network: "red", instances: 1},
	}
}

// definition is the application as Marathon's REST API takes it.
func (a exampleApp) definition(image string) map[string]any {
	def := map[string]any{
		"id": a.id, "cmd": "exec /bin/contrail-example serve", "instances": a.instances,
		"cpus": 0.1, "mem": 32,
		"container": map[string]any{
			"type": "MESOS", "docker": map[string]any{"image": image},
		},
		"networks": []map[string]any{{
			"mode": "container", "name": networkName, "labels": map[string]string{"networks": a.network},
		}},
	}
	if a.spread {
		def["constraints"] = [][]string{{"hostname", "UNIQUE"}}
		// Where every node has one, a new one has to wait for an old one's place.
		def["upgradeStrategy"] = map[string]float64{"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}
	}
	return def
}

// marathonTask is a task as Marathon describes it.
type marathonTask struct {
	ID          string `json:"id"`
	AppID       string `json:"appId"`
	Host        string `json:"host"`
	State       string `json:"state"`
	IPAddresses []struct {
		IPAddress string `json:"ipAddress"`
	} `json:"ipAddresses"`
	network string
}

func (t marathonTask) address() string {
	if len(t.IPAddresses) == 0 {
		return ""
	}
	return t.IPAddresses[0].IPAddress
}

// Example acts as a user of the cluster: it starts applications in two virtual
// networks through Marathon's REST API, prints where they run, and checks who
// reaches whom. What runs already is only checked.
func Example(ctx context.Context, cfg Config, out io.Writer) error {
	p := &progress{out: out}
	marathon := openPort(marathonPort)
	apps := exampleApps(cfg.Nodes)
	var tasks []marathonTask
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"nodes have registered with the Mesos master", func(ctx context.Context) error { return awaitNodes(ctx, cfg) }},
		{"example applications posted to Marathon", func(ctx context.Context) error { return postApps(ctx, marathon, apps, cfg.exampleImage) }},
		{"example tasks run and have addresses", func(ctx context.Context) (err error) {
			tasks, err = awaitTasks(ctx, marathon, apps)
			return err
		}},
		{"Mesos tells the same addresses", func(ctx context.Context) error { return compareMesos(ctx, tasks) }},
	}
	limit, cancel := context.WithTimeout(ctx, exampleTimeout)
	defer cancel()
	for _, s := range steps {
		if err := p.step(s.name, func() error { return s.do(limit) }); err != nil {
			return fmt.Errorf("%w; see `contrail logs mesos-marathon --name %s` and the others named by `contrail logs --name %s`", err, cfg.Name, cfg.Name)
		}
	}
	printTasks(out, tasks)
	return checkReach(ctx, cfg, p, tasks)
}

func awaitNodes(ctx context.Context, cfg Config) error {
	master := openPort(masterPort)
	return eventually(ctx, func() error {
		var answer struct {
			Slaves []struct {
				Hostname string `json:"hostname"`
				Active   bool   `json:"active"`
			} `json:"slaves"`
		}
		if err := master.do(ctx, http.MethodGet, "/slaves", nil, &answer); err != nil {
			return err
		}
		var missing []string
		for n := 1; n <= cfg.Nodes; n++ {
			name := cfg.node(n)
			there := false
			for _, s := range answer.Slaves {
				there = there || s.Active && s.Hostname == name
			}
			if !there {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("not registered: %s", strings.Join(missing, ", "))
		}
		return nil
	})
}

// postApps creates the applications that Marathon does not have, and changes
// those that run another image than this build's.
func postApps(ctx context.Context, marathon rest, apps []exampleApp, image string) error {
	for _, app := range apps {
		if err := eventually(ctx, func() error { return app.post(ctx, marathon, image) }); err != nil {
			return fmt.Errorf("application %s: %w", app.id, err)
		}
	}
	return nil
}

func (a exampleApp) post(ctx context.Context, marathon rest, image string) error {
	var known struct {
		App struct {
			Container struct {
				Docker struct {
					Image string `json:"image"`
				} `json:"docker"`
			} `json:"container"`
		} `json:"app"`
	}
	var refused *restError
	err := marathon.do(ctx, http.MethodGet, "/v2/apps"+a.id, nil, &known)
	switch {
	case errors.As(err, &refused) && refused.status == http.StatusNotFound:
		err = marathon.do(ctx, http.MethodPost, "/v2/apps", a.definition(image), nil)
	case err == nil && known.App.Container.Docker.Image != image:
		change := map[string]any{"container": a.definition(image)["container"]}
		err = marathon.do(ctx, http.MethodPut, "/v2/apps"+a.id+"?force=true", change, nil)
	}
	if errors.As(err, &refused) && refused.status/100 == 4 {
		return permanent(err)
	}
	return err
}

// awaitTasks waits until every application has its instances running, each
// with an address, and no deployment changes them.
func awaitTasks(ctx context.Context, marathon rest, apps []exampleApp) ([]marathonTask, error) {
	var tasks []marathonTask
	err := eventually(ctx, func() error {
		tasks = nil
		for _, app := range apps {
			var answer struct {
				App struct {
					Instances       int               `json:"instances"`
					Deployments     []json.RawMessage `json:"deployments"`
					Tasks           []marathonTask    `json:"tasks"`
					LastTaskFailure *struct {
						Message string `json:"message"`
						State   string `json:"state"`
						Host    string `json:"host"`
					} `json:"lastTaskFailure"`
				} `json:"app"`
			}
			path := "/v2/apps" + app.id + "?embed=app.tasks&embed=app.deployments&embed=app.lastTaskFailure"
			if err := marathon.do(ctx, http.MethodGet, path, nil, &answer); err != nil {
				return err
			}
			running := 0
			for _, task := range answer.App.Tasks {
				if task.State == "TASK_RUNNING" && task.address() != "" {
					running++
					task.network = app.network
					tasks = append(tasks, task)
				}
			}
			if running != answer.App.Instances || len(answer.App.Tasks) != running {
				why := ""
				if f := answer.App.LastTaskFailure; f != nil {
					why = fmt.Sprintf("; the last one ended on %s with %s: %s", f.Host, f.State, f.Message)
				}
				return fmt.Errorf("%s: %d of %d tasks run%s", app.id, running, answer.App.Instances, why)
			}
			if len(answer.App.Deployments) > 0 {
				return fmt.Errorf("%s: its deployment goes on", app.id)
			}
		}
		return nil
	})
	slices.SortFunc(tasks, func(a, b marathonTask) int {
		return strings.Compare(a.AppID+a.Host+a.ID, b.AppID+b.Host+b.ID)
	})
	return tasks, err
}

// compareMesos checks that the master's state shows each task's address.
func compareMesos(ctx context.Context, tasks []marathonTask) error {
	return eventually(ctx, func() error {
		var answer struct {
			Tasks []struct {
				ID       string `json:"id"`
				Statuses []struct {
					State           string `json:"state"`
					ContainerStatus struct {
						NetworkInfos []struct {
							IPAddresses []struct {
								IPAddress string `json:"ip_address"`
							} `json:"ip_addresses"`
						} `json:"network_infos"`
					} `json:"container_status"`
				} `json:"statuses"`
			} `json:"tasks"`
		}
		if err := openPort(masterPort).do(ctx, http.MethodGet, "/tasks?limit=1000", nil, &answer); err != nil {
			return err
		}
		told := make(map[string]map[string]bool)
		for _, task := range answer.Tasks {
			told[task.ID] = make(map[string]bool)
			for _, status := range task.Statuses {
				for _, info := range status.ContainerStatus.NetworkInfos {
					for _, ip := range info.IPAddresses {
						told[task.ID][ip.IPAddress] = true
					}
				}
			}
		}
		for _, task := range tasks {
			if !told[task.ID][task.address()] {
				return fmt.Errorf("task %s has %s for Marathon; the master does not say so", task.ID, task.address())
			}
		}
		return nil
	})
}

func printTasks(out io.Writer, tasks []marathonTask) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nTASK\tNODE\tNETWORK\tADDRESS\tSTATE")
	for _, t := range tasks {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, t.Host, t.network, t.address(), t.State)
	}
	w.Flush()
	fmt.Fprintln(out)
}

// reach is one thing that the example checks.
type reach struct {
	name     string
	from, to marathonTask
	want     bool
}

// checkReach asks from the client's container by ICMP, TCP and UDP.
func checkReach(ctx context.Context, cfg Config, p *progress, tasks []marathonTask) error {
	var errs []error
	for _, r := range reaches(tasks) {
		for _, way := range []string{"icmp", "tcp", "udp"} {
			name := fmt.Sprintf("%s: %s to %s by %s", r.name, r.from.AppID[1:], r.to.address(), way)
			if !r.want {
				name += " is refused"
			}
			errs = append(errs, p.step(name, func() error { return cfg.tryReach(ctx, r, way) }))
		}
	}
	return errors.Join(errs...)
}

// reaches picks a pair of each kind that the placement offers.
func reaches(tasks []marathonTask) []reach {
	var client, db marathonTask
	var webs []marathonTask
	for _, t := range tasks {
		switch t.AppID {
		case "/client":
			client = t
		case "/db":
			db = t
		case "/web":
			webs = append(webs, t)
		}
	}
	var all []reach
	if client.ID == "" {
		return nil // scaled down by someone
	}
	for _, same := range []bool{true, false} {
		i := slices.IndexFunc(webs, func(w marathonTask) bool { return (w.Host == client.Host) == same })
		if i < 0 {
			continue
		}
		name := "blue to blue across nodes"
		if same {
			name = "blue to blue on one node"
		}
		all = append(all, reach{name: name, from: client, to: webs[i], want: true})
	}
	if db.ID == "" {
		return all
	}
	return append(all, reach{name: "blue to red", from: client, to: db, want: false})
}

func (c *Config) tryReach(ctx context.Context, r reach, way string) error {
	timeout := exampleTimeout / 4
	if !r.want {
		timeout = refusedAfter
	}
	cmd, err := TaskCommand(ctx, *c, r.from.ID, []string{
		"/bin/contrail-example", "check", r.to.address(), "--" + way, "--timeout", timeout.String(),
	})
	if err != nil {
		return err
	}
	output, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case r.want && err != nil:
		return fmt.Errorf("no answer from %s on %s: %w: %s", r.to.ID, r.to.Host, err, strings.TrimSpace(string(output)))
	case !r.want && err == nil:
		return fmt.Errorf("%s answered, and no policy allows it", r.to.ID)
	case !r.want && !errors.As(err, &ended):
		return err // it was not tried at all
	}
	return nil
}

// Welcome says where to look.
func Welcome(cfg Config, out io.Writer) {
	name := ""
	if cfg.Name != DefaultName {
		name = " --name " + cfg.Name
	}
	fmt.Fprintf(out, `
The cluster runs. Look at it:
  bin/contrail status%[1]s
  bin/contrail logs%[1]s vrouter-agent-1
  bin/contrail exec%[1]s client -- /bin/sh
  http://%[2]s/v2/apps            Marathon
  http://%[3]s/tasks              Mesos master
  http://%[4]s/virtual-networks   configuration API
  http://127.0.0.1:6991                    Mesos manager
  http://127.0.0.1:1567/v2/                image registry
These ports answer everyone on this host without authentication (the mode is
no-auth unless you set another): a cluster for trying, not for production. Stop it with bin/contrail down%[1]s.
`, name, marathonPort, masterPort, configPort)
}
