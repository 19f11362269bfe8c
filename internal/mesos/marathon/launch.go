package marathon

import (
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

// room is what is left of an offer.
type room struct {
	offer   *mesosv1.Offer
	scalars map[string]float64
	ports   []*mesosv1.Value_Range
	taken   map[int]bool
}

func newRoom(o *mesosv1.Offer) *room {
	r := &room{offer: o, scalars: map[string]float64{}, taken: map[int]bool{}}
	for _, resource := range o.GetResources() {
		switch {
		case resource.Scalar != nil:
			r.scalars[resource.GetName()] += resource.GetScalar().GetValue()
		case resource.GetName() == "ports":
			r.ports = append(r.ports, resource.GetRanges().GetRange()...)
		}
	}
	return r
}

func (r *room) has(port int) bool {
	return !r.taken[port] && slices.ContainsFunc(r.ports, func(p *mesosv1.Value_Range) bool {
		return uint64(port) >= p.GetBegin() && uint64(port) <= p.GetEnd()
	})
}

// port returns a free port, from a random place on.
func (r *room) port(taken map[int]bool) (int, bool) {
	if len(r.ports) == 0 {
		return 0, false
	}
	start := rand.IntN(len(r.ports))
	for n := range r.ports {
		p := r.ports[(start+n)%len(r.ports)]
		begin, size := int(p.GetBegin()), int(p.GetEnd()-p.GetBegin())+1
		from := rand.IntN(size)
		for k := range size {
			if port := begin + (from+k)%size; !r.taken[port] && !taken[port] {
				return port, true
			}
		}
	}
	return 0, false
}

// build makes an instance and its task for what is left of an offer and takes
// its part, or says why it does not fit.
func (m *Marathon) build(a *App, r *room) (*instance, *mesosv1.TaskInfo, string) {
	var others []place
	for _, i := range m.instancesOf(a.ID) {
		if !i.Killing && i.Version == a.VersionInfo.LastConfigChangeAt {
			others = append(others, i.Place)
		}
	}
	here := placeOf(r.offer)
	if !a.fits(here, others) {
		return nil, nil, "UnfulfilledConstraint"
	}
	for _, need := range []struct {
		name   string
		amount float64
		why    string
	}{{"cpus", a.CPUs, "InsufficientCpus"}, {"mem", a.Mem, "InsufficientMemory"}, {"disk", a.Disk, "InsufficientDisk"}, {"gpus", a.GPUs, "InsufficientGpus"}} {
		if need.amount > r.scalars[need.name]+1e-9 {
			return nil, nil, need.why
		}
	}
	ports, ok := a.hostPorts(r)
	if !ok {
		return nil, nil, "InsufficientPorts"
	}
	r.scalars["cpus"] -= a.CPUs
	r.scalars["mem"] -= a.Mem
	r.scalars["disk"] -= a.Disk
	r.scalars["gpus"] -= a.GPUs
	for _, port := range ports {
		r.taken[port] = true
	}
	i := &instance{
		ID: newTaskID(a.ID), AppID: a.ID, Version: a.VersionInfo.LastConfigChangeAt, State: "TASK_STAGING",
		AgentID: r.offer.GetAgentId().GetValue(), Place: here, Ports: append([]int{}, ports...),
	}
	return i, a.taskInfo(i, r.offer), ""
}

// hostPorts picks the host's ports, in the order of definitions or of the
// mappings that have one.
func (a *App) hostPorts(r *room) ([]int, bool) {
	var wanted []int
	if a.hostNetwork() {
		for _, d := range a.PortDefinitions {
			port := d.Port
			if !a.RequirePorts && port != 0 && !r.has(port) {
				port = 0
			}
			wanted = append(wanted, port)
		}
	} else {
		for _, p := range a.Container.PortMappings {
			if p.HostPort != nil {
				wanted = append(wanted, *p.HostPort)
			}
		}
	}
	taken := map[int]bool{}
	ports := make([]int, 0, len(wanted))
	for _, port := range wanted {
		ok := port != 0 && r.has(port) && !taken[port]
		if port == 0 {
			port, ok = r.port(taken)
		}
		if !ok {
			return nil, false
		}
		taken[port] = true
		ports = append(ports, port)
	}
	return ports, true
}

// parts of an id, from the root.
func parts(id string) []string { return strings.Split(strings.Trim(id, "/"), "/") }

// flatID is an id as the first part of a task's id.
func flatID(id string) string { return strings.Join(parts(id), "_") }

// reversed is an id as the name of a task: the leaf first.
func reversed(id, separator string) string {
	all := parts(id)
	slices.Reverse(all)
	return strings.Join(all, separator)
}

func (a *App) taskInfo(i *instance, o *mesosv1.Offer) *mesosv1.TaskInfo {
	info := &mesosv1.TaskInfo{
		Name: proto.String(reversed(a.ID, ".")), TaskId: &mesosv1.TaskID{Value: &i.ID}, AgentId: o.GetAgentId(),
		Command: a.command(i), Container: a.container(i.Ports), Labels: labelsOf(a.Labels), Discovery: a.discovery(i),
	}
	for _, s := range []struct {
		name  string
		value float64
	}{{"cpus", a.CPUs}, {"mem", a.Mem}, {"disk", a.Disk}, {"gpus", a.GPUs}} {
		if s.value > 0 {
			info.Resources = append(info.Resources, resource(o, &mesosv1.Resource{
				Name: &s.name, Type: mesosv1.Value_SCALAR.Enum(), Scalar: &mesosv1.Value_Scalar{Value: &s.value},
			}))
		}
	}
	if len(i.Ports) > 0 {
		ranges := &mesosv1.Value_Ranges{}
		for _, port := range i.Ports {
			ranges.Range = append(ranges.Range, &mesosv1.Value_Range{Begin: proto.Uint64(uint64(port)), End: proto.Uint64(uint64(port))})
		}
		info.Resources = append(info.Resources, resource(o, &mesosv1.Resource{Name: proto.String("ports"), Type: mesosv1.Value_RANGES.Enum(), Ranges: ranges}))
	}
	if s := a.TaskKillGracePeriodSeconds; s != nil {
		info.KillPolicy = &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: proto.Int64(int64(*s * 1e9))}}
	}
	return info
}

func resource(o *mesosv1.Offer, r *mesosv1.Resource) *mesosv1.Resource {
	r.Role = proto.String("*")
	r.AllocationInfo = o.GetAllocationInfo()
	return r
}

func (a *App) command(i *instance) *mesosv1.CommandInfo {
	command := &mesosv1.CommandInfo{Environment: a.environment(i)}
	if a.User != "" {
		command.User = &a.User
	}
	switch {
	case a.Cmd != nil:
		command.Shell, command.Value = proto.Bool(true), a.Cmd
	case len(a.Args) > 0:
		command.Shell, command.Arguments = proto.Bool(false), a.Args
		if a.Container == nil || a.Container.Docker == nil {
			command.Value = &a.Args[0]
		}
	default:
		command.Shell = proto.Bool(false)
	}
	for _, f := range a.Fetch {
		uri := &mesosv1.CommandInfo_URI{Value: &f.URI, Extract: f.Extract, Executable: proto.Bool(f.Executable), Cache: proto.Bool(f.Cache)}
		if f.DestPath != "" {
			uri.OutputFile = &f.DestPath
		}
		command.Uris = append(command.Uris, uri)
	}
	return command
}

var notInNames = regexp.MustCompile(`[^A-Z0-9_]`)

func envName(s string) string { return notInNames.ReplaceAllString(strings.ToUpper(s), "_") }

func (a *App) environment(i *instance) *mesosv1.Environment {
	env := map[string]string{
		"MESOS_TASK_ID": i.ID, "MARATHON_APP_ID": a.ID, "MARATHON_APP_VERSION": a.Version, "HOST": i.Place.Host,
		"MARATHON_APP_RESOURCE_CPUS": formatAmount(a.CPUs), "MARATHON_APP_RESOURCE_MEM": formatAmount(a.Mem),
		"MARATHON_APP_RESOURCE_DISK": formatAmount(a.Disk), "MARATHON_APP_RESOURCE_GPUS": formatAmount(a.GPUs),
	}
	if a.Container != nil && a.Container.Docker != nil {
		env["MARATHON_APP_DOCKER_IMAGE"] = a.Container.Docker.Image
	}
	var names []string
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		if len(a.Labels[key]) <= 512 {
			names = append(names, envName(key))
			env["MARATHON_APP_LABEL_"+envName(key)] = a.Labels[key]
		}
	}
	env["MARATHON_APP_LABELS"] = strings.Join(names, " ")
	var ports []string
	for n, port := range i.Ports {
		text := strconv.Itoa(port)
		ports = append(ports, text)
		env["PORT"+strconv.Itoa(n)] = text
		if name := a.portName(n); name != "" {
			env["PORT_"+envName(name)] = text
		}
	}
	if len(ports) > 0 {
		env["PORT"], env["PORTS"] = ports[0], strings.Join(ports, ",")
	}
	maps.Copy(env, a.Env)
	all := &mesosv1.Environment{}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		all.Variables = append(all.Variables, &mesosv1.Environment_Variable{Name: &name, Value: &value})
	}
	return all
}

func formatAmount(v float64) string {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// portName is the name of the n-th host port.
func (a *App) portName(n int) string {
	if a.hostNetwork() {
		return a.PortDefinitions[n].Name
	}
	for _, p := range a.Container.PortMappings {
		if p.HostPort == nil {
			continue
		}
		if n == 0 {
			return p.Name
		}
		n--
	}
	return ""
}

func labelsOf(labels map[string]string) *mesosv1.Labels {
	if len(labels) == 0 {
		return nil
	}
	all := &mesosv1.Labels{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		all.Labels = append(all.Labels, &mesosv1.Label{Key: &key, Value: &value})
	}
	return all
}

// bridgeName is the network of mode container/bridge.
const bridgeName = "mesos-bridge"

func (a *App) container(ports []int) *mesosv1.ContainerInfo {
	if a.Container == nil {
		return nil
	}
	info := &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum()}
	if d := a.Container.Docker; d != nil && a.Container.Type == "DOCKER" {
		info.Type = mesosv1.ContainerInfo_DOCKER.Enum()
		info.Docker = &mesosv1.ContainerInfo_DockerInfo{
			Image: &d.Image, ForcePullImage: &d.ForcePullImage, Privileged: &d.Privileged, Network: mesosv1.ContainerInfo_DockerInfo_HOST.Enum(),
		}
		switch a.Networks[0].Mode {
		case "container":
			info.Docker.Network = mesosv1.ContainerInfo_DockerInfo_USER.Enum()
			info.NetworkInfos = []*mesosv1.NetworkInfo{{Name: &a.Networks[0].Name}}
		case "container/bridge":
			info.Docker.Network = mesosv1.ContainerInfo_DockerInfo_BRIDGE.Enum()
		}
		return a.withVolumes(info)
	} else if d != nil {
		info.Mesos = &mesosv1.ContainerInfo_MesosInfo{Image: &mesosv1.Image{
			Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: &d.Image}, Cached: proto.Bool(!d.ForcePullImage),
		}}
	}
	for _, n := range a.Networks {
		switch n.Mode {
		case "host":
			continue
		case "container/bridge":
			n.Name = bridgeName
		}
		info.NetworkInfos = append(info.NetworkInfos, &mesosv1.NetworkInfo{
			Name: &n.Name, Labels: labelsOf(n.Labels), IpAddresses: []*mesosv1.NetworkInfo_IPAddress{{}}, PortMappings: a.mappings(n.Name, ports),
		})
	}
	return a.withVolumes(info)
}

func (a *App) withVolumes(info *mesosv1.ContainerInfo) *mesosv1.ContainerInfo {
	for _, v := range a.Container.Volumes {
		mode := mesosv1.Volume_RW
		if v.Mode == "RO" {
			mode = mesosv1.Volume_RO
		}
		info.Volumes = append(info.Volumes, &mesosv1.Volume{ContainerPath: &v.ContainerPath, HostPath: &v.HostPath, Mode: &mode})
	}
	return info
}

// mappings are those of the network that have a host port.
func (a *App) mappings(network string, ports []int) []*mesosv1.NetworkInfo_PortMapping {
	var all []*mesosv1.NetworkInfo_PortMapping
	n := 0
	for _, p := range a.Container.PortMappings {
		if p.HostPort == nil {
			continue
		}
		host := ports[n]
		n++
		if len(p.NetworkNames) > 0 && !slices.Contains(p.NetworkNames, network) {
			continue
		}
		container := p.ContainerPort
		if container == 0 {
			container = host
		}
		for protocol := range strings.SplitSeq(p.Protocol, ",") {
			all = append(all, &mesosv1.NetworkInfo_PortMapping{
				HostPort: proto.Uint32(uint32(host)), ContainerPort: proto.Uint32(uint32(container)), Protocol: &protocol,
			})
		}
	}
	return all
}

func (a *App) discovery(i *instance) *mesosv1.DiscoveryInfo {
	info := &mesosv1.DiscoveryInfo{
		Visibility: mesosv1.DiscoveryInfo_FRAMEWORK.Enum(), Name: proto.String(reversed(a.ID, ".")), Ports: &mesosv1.Ports{},
	}
	add := func(number int, name, protocol, scope, network string, labels map[string]string) {
		all := maps.Clone(labels)
		if all == nil {
			all = map[string]string{}
		}
		all["network-scope"] = scope
		if network != "" {
			all["network-name"] = network
		}
		for one := range strings.SplitSeq(protocol, ",") {
			port := &mesosv1.Port{Number: proto.Uint32(uint32(number)), Protocol: &one, Labels: labelsOf(all)}
			if name != "" {
				port.Name = &name
			}
			info.Ports.Ports = append(info.Ports.Ports, port)
		}
	}
	if a.hostNetwork() {
		for n, d := range a.PortDefinitions {
			add(i.Ports[n], d.Name, d.Protocol, "host", "", d.Labels)
		}
		return info
	}
	n := 0
	for _, p := range a.Container.PortMappings {
		if p.HostPort != nil {
			add(i.Ports[n], p.Name, p.Protocol, "host", "", p.Labels)
			n++
			continue
		}
		network := ""
		if len(a.Networks) == 1 {
			network = a.Networks[0].Name
		} else if len(p.NetworkNames) == 1 {
			network = p.NetworkNames[0]
		}
		add(p.ContainerPort, p.Name, p.Protocol, "container", network, p.Labels)
	}
	return info
}

// actionName is the Marathon name of what a change of an application does.
func actionName(before, after *App, removed bool) string {
	switch {
	case removed:
		return "StopApplication"
	case before == nil:
		return "StartApplication"
	case identical(before, after):
		return "ScaleApplication"
	default:
		return "RestartApplication"
	}
}
