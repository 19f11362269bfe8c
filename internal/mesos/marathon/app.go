package marathon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// App is the definition of an application, in the canonical form of Marathon
// 1.5 and later.
type App struct {
	ID                         string               `json:"id"`
	Cmd                        *string              `json:"cmd,omitempty"`
	Args                       []string             `json:"args,omitempty"`
	User                       string               `json:"user,omitempty"`
	Env                        map[string]string    `json:"env"`
	Labels                     map[string]string    `json:"labels"`
	Instances                  int                  `json:"instances"`
	CPUs                       float64              `json:"cpus"`
	Mem                        float64              `json:"mem"`
	Disk                       float64              `json:"disk"`
	GPUs                       float64              `json:"gpus"`
	Constraints                [][]string           `json:"constraints"`
	Container                  *Container           `json:"container,omitempty"`
	Networks                   []Network            `json:"networks"`
	PortDefinitions            []PortDefinition     `json:"portDefinitions,omitempty"`
	RequirePorts               bool                 `json:"requirePorts"`
	Fetch                      []Fetch              `json:"fetch,omitempty"`
	Dependencies               []string             `json:"dependencies,omitempty"`
	BackoffSeconds             float64              `json:"backoffSeconds"`
	BackoffFactor              float64              `json:"backoffFactor"`
	MaxLaunchDelaySeconds      float64              `json:"maxLaunchDelaySeconds"`
	TaskKillGracePeriodSeconds *float64             `json:"taskKillGracePeriodSeconds,omitempty"`
	UpgradeStrategy            UpgradeStrategy      `json:"upgradeStrategy"`
	UnreachableStrategy        *UnreachableStrategy `json:"unreachableStrategy,omitempty"`
	KillSelection              string               `json:"killSelection"`
	AcceptedResourceRoles      []string             `json:"acceptedResourceRoles,omitempty"`
	Version                    string               `json:"version"`
	VersionInfo                VersionInfo          `json:"versionInfo"`
}

// Container of an application.
type Container struct {
	Type         string        `json:"type"`
	Docker       *Docker       `json:"docker,omitempty"`
	Volumes      []Volume      `json:"volumes"`
	PortMappings []PortMapping `json:"portMappings,omitempty"`
}

// Docker is an image.
type Docker struct {
	Image          string `json:"image"`
	ForcePullImage bool   `json:"forcePullImage"`
	Privileged     bool   `json:"privileged,omitempty"`
}

// Volume of the node in the container.
type Volume struct {
	ContainerPath string `json:"containerPath"`
	HostPath      string `json:"hostPath,omitempty"`
	Mode          string `json:"mode"`
}

// PortMapping of a container network. Without HostPort nothing is mapped.
type PortMapping struct {
	ContainerPort int               `json:"containerPort"`
	HostPort      *int              `json:"hostPort,omitempty"`
	ServicePort   int               `json:"servicePort,omitempty"`
	Protocol      string            `json:"protocol"`
	Name          string            `json:"name,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	NetworkNames  []string          `json:"networkNames,omitempty"`
}

// Network that the application joins; Mode is host, container or
// container/bridge.
type Network struct {
	Mode   string            `json:"mode"`
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// PortDefinition is a port of the host network; 0 is any.
type PortDefinition struct {
	Port     int               `json:"port"`
	Protocol string            `json:"protocol"`
	Name     string            `json:"name,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// Fetch is a file for the sandbox.
type Fetch struct {
	URI        string `json:"uri"`
	Extract    *bool  `json:"extract,omitempty"`
	Executable bool   `json:"executable,omitempty"`
	Cache      bool   `json:"cache,omitempty"`
	DestPath   string `json:"destPath,omitempty"`
}

// UpgradeStrategy bounds what runs while a change is rolled out, as fractions of
// the instances.
type UpgradeStrategy struct {
	MinimumHealthCapacity float64 `json:"minimumHealthCapacity"`
	MaximumOverCapacity   float64 `json:"maximumOverCapacity"`
}

// UnreachableStrategy is what happens to instances of unreachable agents: after
// how long they are replaced and forgotten.
type UnreachableStrategy struct {
	InactiveAfterSeconds float64
	ExpungeAfterSeconds  float64
	Disabled             bool
}

type unreachableJSON struct {
	InactiveAfterSeconds float64 `json:"inactiveAfterSeconds"`
	ExpungeAfterSeconds  float64 `json:"expungeAfterSeconds"`
}

// MarshalJSON writes "disabled" or the two times.
func (u UnreachableStrategy) MarshalJSON() ([]byte, error) {
	if u.Disabled {
		return []byte(`"disabled"`), nil
	}
	return json.Marshal(unreachableJSON{u.InactiveAfterSeconds, u.ExpungeAfterSeconds})
}

// UnmarshalJSON reads "disabled" or the two times.
func (u *UnreachableStrategy) UnmarshalJSON(data []byte) error {
	if string(data) == `"disabled"` {
		*u = UnreachableStrategy{Disabled: true}
		return nil
	}
	var times unreachableJSON
	if err := json.Unmarshal(data, &times); err != nil {
		return err
	}
	*u = UnreachableStrategy{InactiveAfterSeconds: times.InactiveAfterSeconds, ExpungeAfterSeconds: times.ExpungeAfterSeconds}
	return nil
}

// VersionInfo says when what was changed last.
type VersionInfo struct {
	LastScalingAt      string `json:"lastScalingAt"`
	LastConfigChangeAt string `json:"lastConfigChangeAt"`
}

// timestamp is how Marathon writes times.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// refusedKeys are parts of a definition that would do nothing here.
var refusedKeys = []string{"healthChecks", "readinessChecks", "check", "secrets", "residency"}

// readOnlyKeys are answered but not taken.
var readOnlyKeys = []string{
	"version", "versionInfo", "tasks", "tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "deployments",
	"lastTaskFailure", "taskStats", "readinessCheckResults", "executor", "storeUrls", "taskRateLimit", "role", "ports", "uris", "tty",
}

// parseApp reads a definition: fields of body over those of base, which may be
// nil. The error is a *problem.
func parseApp(id string, body map[string]json.RawMessage, base *App, defaultNetwork string) (*App, error) {
	fields := map[string]json.RawMessage{}
	if base != nil {
		text, err := json.Marshal(base)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", base.ID, err)
		}
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, fmt.Errorf("decode %s: %w", base.ID, err)
		}
		if body["ipAddress"] != nil && !isNull(body["ipAddress"]) {
			delete(fields, "networks")
		}
		if _, ok := body["cmd"]; ok {
			delete(fields, "args")
		}
		if _, ok := body["args"]; ok {
			delete(fields, "cmd")
		}
	}
	old := map[string]json.RawMessage{}
	maps.Copy(old, body)
	var invalid violations
	if err := modernise(old, &invalid); err != nil {
		return nil, err
	}
	for name, value := range old {
		if isNull(value) {
			delete(fields, name)
			continue
		}
		fields[name] = value
	}
	for _, name := range refusedKeys {
		if value := fields[name]; value != nil && !isEmptyJSON(value) {
			invalid.add("/"+name, "is not supported: it would have no effect; leave it out")
		}
		delete(fields, name)
	}
	for _, name := range readOnlyKeys {
		delete(fields, name)
	}
	app := &App{
		Instances: 1, CPUs: 1, Mem: 128, BackoffSeconds: 1, BackoffFactor: 1.15, MaxLaunchDelaySeconds: 300,
		UpgradeStrategy: UpgradeStrategy{1, 1}, KillSelection: "YOUNGEST_FIRST",
	}
	if err := decodeFields(fields, app); err != nil {
		return nil, err
	}
	if id != "" {
		app.ID = id
	}
	app.complete(defaultNetwork)
	app.validate(&invalid)
	if len(invalid.details) > 0 {
		return nil, invalid.problem()
	}
	return app, nil
}

// decodeFields reads fields one by one, so that the error can name the field.
func decodeFields(fields map[string]json.RawMessage, app *App) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		one, err := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		if err == nil {
			err = json.Unmarshal(one, app)
		}
		if err != nil {
			return &problem{status: 400, message: "Invalid JSON", details: []detail{{Path: "/" + name, Errors: []string{err.Error()}}}}
		}
	}
	return nil
}

func isNull(value json.RawMessage) bool { return string(bytes.TrimSpace(value)) == "null" }

func isEmptyJSON(value json.RawMessage) bool {
	switch string(bytes.TrimSpace(value)) {
	case "null", "[]", "{}":
		return true
	}
	return false
}

// modernise rewrites the forms from before Marathon 1.5.
func modernise(fields map[string]json.RawMessage, invalid *violations) error {
	var old struct {
		IPAddress *struct {
			NetworkName string            `json:"networkName"`
			Labels      map[string]string `json:"labels"`
			Discovery   struct {
				Ports []struct {
					Number   int               `json:"number"`
					Name     string            `json:"name"`
					Protocol string            `json:"protocol"`
					Labels   map[string]string `json:"labels"`
				} `json:"ports"`
			} `json:"discovery"`
		} `json:"ipAddress"`
		Container map[string]json.RawMessage `json:"container"`
		Networks  []Network                  `json:"networks"`
		Ports     []int                      `json:"ports"`
		URIs      []string                   `json:"uris"`
	}
	text, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(text, &old)
	}
	if err != nil {
		return invalidJSON(err)
	}
	var docker map[string]json.RawMessage
	if raw := old.Container["docker"]; raw != nil && json.Unmarshal(raw, &docker) != nil {
		return invalidJSON(fmt.Errorf("container.docker is no object"))
	}
	var dockerNetwork string
	if raw := docker["network"]; raw != nil {
		if json.Unmarshal(raw, &dockerNetwork) != nil {
			return invalidJSON(fmt.Errorf("container.docker.network is no string"))
		}
		delete(docker, "network")
	}
	if len(old.Networks) > 0 && (old.IPAddress != nil || dockerNetwork != "") {
		invalid.add("/networks", "cannot mix deprecated and canonical network APIs")
		return nil
	}
	if raw := docker["portMappings"]; raw != nil {
		if !isEmptyJSON(raw) {
			old.Container["portMappings"] = raw
		}
		delete(docker, "portMappings")
	}
	network := Network{Mode: "container"}
	if ip := old.IPAddress; ip != nil {
		network.Name, network.Labels = ip.NetworkName, ip.Labels
		if old.Container == nil {
			old.Container = map[string]json.RawMessage{"type": json.RawMessage(`"MESOS"`)}
		}
		if ports := ip.Discovery.Ports; len(ports) > 0 {
			if old.Container["portMappings"] != nil {
				invalid.add("/ipAddress/discovery/ports", "cannot be set together with portMappings")
			}
			mappings := []PortMapping{}
			for _, p := range ports {
				mappings = append(mappings, PortMapping{ContainerPort: p.Number, Name: p.Name, Protocol: p.Protocol, Labels: p.Labels})
			}
			old.Container["portMappings"] = mustJSON(mappings)
		}
	}
	switch dockerNetwork {
	case "":
	case "HOST":
		network = Network{Mode: "host"}
	case "BRIDGE":
		network = Network{Mode: "container/bridge"}
	case "USER":
	default:
		invalid.add("/container/docker/network", "must be HOST, BRIDGE or USER")
	}
	if old.IPAddress != nil || dockerNetwork != "" {
		fields["networks"] = mustJSON([]Network{network})
	}
	delete(fields, "ipAddress")
	if docker != nil {
		old.Container["docker"] = mustJSON(docker)
	}
	if old.Container != nil {
		fields["container"] = mustJSON(old.Container)
	}
	if len(old.Ports) > 0 && fields["portDefinitions"] == nil {
		definitions := []PortDefinition{}
		for _, port := range old.Ports {
			definitions = append(definitions, PortDefinition{Port: port})
		}
		fields["portDefinitions"] = mustJSON(definitions)
	}
	if len(old.URIs) > 0 && fields["fetch"] == nil {
		fetch := []Fetch{}
		for _, uri := range old.URIs {
			fetch = append(fetch, Fetch{URI: uri})
		}
		fields["fetch"] = mustJSON(fetch)
	}
	return nil
}

// mustJSON encodes values of this package, which always can be.
func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// complete fills in what is left out.
func (a *App) complete(defaultNetwork string) {
	a.ID = "/" + strings.Trim(a.ID, "/")
	if a.Env == nil {
		a.Env = map[string]string{}
	}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	if a.Constraints == nil {
		a.Constraints = [][]string{}
	}
	if len(a.Networks) == 0 {
		a.Networks = []Network{{Mode: "host"}}
	}
	for i := range a.Networks {
		if a.Networks[i].Mode == "container" && a.Networks[i].Name == "" {
			a.Networks[i].Name = defaultNetwork
		}
	}
	if a.hostNetwork() {
		if a.PortDefinitions == nil {
			a.PortDefinitions = []PortDefinition{{Name: "default"}}
		}
		for i := range a.PortDefinitions {
			if a.PortDefinitions[i].Protocol == "" {
				a.PortDefinitions[i].Protocol = "tcp"
			}
		}
	} else {
		if a.Container == nil {
			a.Container = &Container{}
		}
		a.PortDefinitions = nil
	}
	c := a.Container
	if c == nil {
		return
	}
	if c.Type == "" {
		c.Type = "MESOS"
	}
	if c.Volumes == nil {
		c.Volumes = []Volume{}
	}
	for i := range c.PortMappings {
		if c.PortMappings[i].Protocol == "" {
			c.PortMappings[i].Protocol = "tcp"
		}
	}
}

func (a *App) hostNetwork() bool { return len(a.Networks) > 0 && a.Networks[0].Mode == "host" }

var (
	idPattern   = regexp.MustCompile(`^(/?((\.|\.\.)|([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)))+$`)
	namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`)
)

// maxLabel bounds labels, in bytes: they go into Mesos's messages, into plugin
// input and into object names.
const maxLabel = 4096

// validate collects everything that is wrong.
func (a *App) validate(invalid *violations) {
	if !idPattern.MatchString(a.ID) || len(a.ID) > 200 {
		invalid.add("/id", "must fully match regular expression '^(/?((\\.|\\.\\.)|([a-z0-9]([a-z0-9-]*[a-z0-9])?))(/…)*)$' and have at most 200 characters")
	}
	for _, n := range []struct {
		path        string
		value, most float64
	}{
		{"/cpus", a.CPUs, 1e6},
		{"/mem", a.Mem, 1e9},
		{"/disk", a.Disk, 1e12},
		{"/gpus", a.GPUs, 1e6},
		{"/instances", float64(a.Instances), 1e5},
		{"/backoffSeconds", a.BackoffSeconds, 1e6},
		{"/maxLaunchDelaySeconds", a.MaxLaunchDelaySeconds, 1e6},
		{"/upgradeStrategy/minimumHealthCapacity", a.UpgradeStrategy.MinimumHealthCapacity, 1},
		{"/upgradeStrategy/maximumOverCapacity", a.UpgradeStrategy.MaximumOverCapacity, 1},
	} {
		if n.value < 0 {
			invalid.add(n.path, "error.min")
		} else if n.value > n.most {
			invalid.add(n.path, "error.max")
		}
	}
	if a.BackoffFactor < 1 {
		invalid.add("/backoffFactor", "error.min")
	}
	if a.TaskKillGracePeriodSeconds != nil && (*a.TaskKillGracePeriodSeconds < 0 || *a.TaskKillGracePeriodSeconds > 1e6) {
		invalid.add("/taskKillGracePeriodSeconds", "error.min")
	}
	image := a.Container != nil && a.Container.Docker != nil && a.Container.Docker.Image != ""
	if a.Cmd != nil && len(a.Args) > 0 || a.Cmd == nil && len(a.Args) == 0 && !image {
		invalid.add("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.")
	}
	if a.KillSelection != "YOUNGEST_FIRST" && a.KillSelection != "OLDEST_FIRST" {
		invalid.add("/killSelection", "must be YOUNGEST_FIRST or OLDEST_FIRST")
	}
	a.validateNetworks(invalid)
	a.validateContainer(invalid)
	a.validateConstraints(invalid)
	validateLabels(invalid, "/labels", a.Labels)
	validateLabels(invalid, "/env", a.Env)
}

func validateLabels(invalid *violations, path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key == "" || len(key) > maxLabel || len(labels[key]) > maxLabel {
			invalid.add(path, fmt.Sprintf("%.40q: keys must not be empty, and keys and values have at most %d characters", key, maxLabel))
		}
	}
}

func (a *App) validateNetworks(invalid *violations) {
	modes := map[string]int{}
	names := map[string]bool{}
	for i, n := range a.Networks {
		path := fmt.Sprintf("/networks(%d)", i)
		modes[n.Mode]++
		switch n.Mode {
		case "host":
			if n.Name != "" || len(n.Labels) > 0 {
				invalid.add(path, "must not have name or labels for host networks")
			}
		case "container/bridge":
			if n.Name != "" {
				invalid.add(path+"/name", "must be empty for bridge networks")
			}
		case "container":
			switch {
			case n.Name == "":
				invalid.add(path, "Network name must be specified when container network is selected.")
			case !namePattern.MatchString(n.Name):
				invalid.add(path+"/name", "must fully match regular expression '"+namePattern.String()+"'")
			case names[n.Name]:
				invalid.add("/networks", "networks must have unique names")
			}
			names[n.Name] = true
		default:
			invalid.add(path+"/mode", "must be host, container or container/bridge")
		}
		validateLabels(invalid, path+"/labels", n.Labels)
	}
	if len(modes) > 1 || modes["host"] > 1 || modes["container/bridge"] > 1 {
		invalid.add("/networks", "Must specify either a single host network, a single bridge network, or else 1-to-n container networks")
	}
	if a.Container != nil && a.Container.Type == "DOCKER" && modes["container"] > 1 {
		invalid.add("/networks", "may only specify a single container network when using the Docker container engine")
	}
}

func (a *App) validateContainer(invalid *violations) {
	c := a.Container
	if c == nil {
		return
	}
	if c.Type != "MESOS" && c.Type != "DOCKER" {
		invalid.add("/container/type", "must be MESOS or DOCKER")
	}
	if c.Docker != nil && (c.Docker.Image == "" || strings.ContainsAny(c.Docker.Image, " \t\n")) {
		invalid.add("/container/docker/image", "must not be empty or contain blanks")
	}
	if c.Type == "DOCKER" && c.Docker == nil {
		invalid.add("/container/docker", "not defined")
	}
	if a.hostNetwork() && len(c.PortMappings) > 0 {
		invalid.add("/container/portMappings", "must be empty for host networks")
	}
	names := map[string]bool{}
	for i, p := range c.PortMappings {
		path := fmt.Sprintf("/container/portMappings(%d)", i)
		if p.ContainerPort < 0 || p.ContainerPort > 65535 || p.HostPort != nil && (*p.HostPort < 0 || *p.HostPort > 65535) {
			invalid.add(path, "ports are between 0 and 65535")
		}
		if !slices.Contains([]string{"tcp", "udp", "udp,tcp", "tcp,udp"}, p.Protocol) {
			invalid.add(path+"/protocol", "must be tcp, udp or udp,tcp")
		}
		if p.Name != "" && names[p.Name] {
			invalid.add("/container/portMappings", "Port names must be unique.")
		}
		names[p.Name] = true
		for _, name := range p.NetworkNames {
			if !slices.ContainsFunc(a.Networks, func(n Network) bool { return n.Name == name }) {
				invalid.add(path+"/networkNames", fmt.Sprintf("%q is no network of the application", name))
			}
		}
		if p.HostPort != nil && len(a.Networks) > 1 && len(p.NetworkNames) != 1 {
			invalid.add(path, "Single networkName must be specified for a portMapping with a hostPort when there are multiple container networks")
		}
	}
	for i, v := range c.Volumes {
		path := fmt.Sprintf("/container/volumes(%d)", i)
		if v.ContainerPath == "" || v.HostPath == "" {
			invalid.add(path, "containerPath and hostPath must be set; other kinds of volumes are not supported")
		}
		if v.Mode != "RO" && v.Mode != "RW" {
			invalid.add(path+"/mode", "must be RO or RW")
		}
	}
}

// identical tells whether two definitions differ in nothing but the number of
// instances and the version.
func identical(a, b *App) bool {
	x, y := *a, *b
	x.Instances, x.Version, x.VersionInfo = y.Instances, y.Version, y.VersionInfo
	return bytes.Equal(mustJSON(x), mustJSON(y))
}
