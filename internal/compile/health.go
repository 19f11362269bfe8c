package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// ProbeKind is how an interface is asked whether it works.
type ProbeKind string

// The kinds of probes, as monitor_type names them.
const (
	PingProbe ProbeKind = "PING"
	TCPProbe  ProbeKind = "TCP"
	HTTPProbe ProbeKind = "HTTP"
)

// LocalIP is the host in a url_path that stands for the checked address.
const LocalIP = "local-ip"

// Probe is what a health check asks an interface, and when it has failed. It is
// never changed.
type Probe struct {
	Kind ProbeKind `json:"kind"`
	// Delay from the beginning of one probe to that of the next, Timeout of each.
	Delay   time.Duration `json:"delay"`
	Timeout time.Duration `json:"timeout"`
	// Retries are the probes in a row that have to fail.
	Retries uint32 `json:"retries"`
	// Port of TCP.
	Port uint16 `json:"port,omitempty"`
	// Method, URL and Codes are of HTTP. The connection goes to the interface,
	// whatever the URL's host, which is for the Host header only.
	Method string  `json:"method,omitempty"`
	URL    string  `json:"url,omitempty"`
	Codes  []Ports `json:"codes,omitempty"`
}

// HealthCheck is a service-health-check that is enabled, with the interfaces that
// it acts on: those that refer to it, and of services that it refers to.
type HealthCheck struct {
	From Origin
	// Probe is nil where it is disabled, or is none that can be done.
	Probe *Probe
	// Interfaces are sorted by UUID.
	Interfaces []CheckedInterface
	Problems   []Problem
}

// CheckedInterface is one that is asked at an address of its own, by packets
// from an address of its network that no workload has.
type CheckedInterface struct {
	UUID            string
	Address, Source netip.Addr
}

// Of is the interface's entry.
func (h *HealthCheck) Of(iface string) (CheckedInterface, bool) {
	at, ok := slices.BinarySearchFunc(h.Interfaces, iface, func(c CheckedInterface, id string) int { return cmp.Compare(c.UUID, id) })
	if !ok || h.Probe == nil {
		return CheckedInterface{}, false
	}
	return h.Interfaces[at], true
}

var healthChecks = &unit[HealthCheck]{
	name: "health-check", layer: 1, of: model.KindServiceHealthCheck,
	compute: func(g *graph, id string) *HealthCheck {
		o, ok := get[*model.ServiceHealthCheck](g, model.KindServiceHealthCheck, id)
		if !ok {
			return nil
		}
		h := &HealthCheck{From: originOf(o)}
		h.read(o.ServiceHealthCheckProperties)
		if h.Probe == nil {
			return h
		}
		for _, iface := range h.interfacesChecked(g, o) {
			c, problem := checkedAt(g, iface)
			if problem == "" {
				h.Interfaces = append(h.Interfaces, c)
			} else if vmi, ok := g.Object(model.KindVirtualMachineInterface, iface); ok {
				h.problemOf(originOf(vmi), problem)
			}
		}
		return h
	},
}

func (h *HealthCheck) problem(format string, args ...any) {
	h.Problems = append(h.Problems, Problem{About: h.From, Text: fmt.Sprintf(format, args...)})
}

// problemOf says what is wrong with an object that the check is for. It may be
// another tenant's, who shares the check.
func (h *HealthCheck) problemOf(x Origin, what string) {
	h.Problems = append(h.Problems, Problem{About: h.From, Names: []Origin{x}, Text: fmt.Sprintf("%s %s %s", x.Kind, x.Name, what)})
}

// interfacesChecked are UUIDs, sorted. A service is checked by checks of its own
// project only: a check can take its routes away.
func (h *HealthCheck) interfacesChecked(g *graph, o *model.ServiceHealthCheck) []string {
	var list []string
	for _, r := range g.BackReferences(o.UUID, model.KindVirtualMachineInterface) {
		list = append(list, r.From.UUID)
	}
	for _, r := range g.References(o.UUID, model.KindServiceInstance) {
		service, ok := get[*model.ServiceInstance](g, model.KindServiceInstance, r.To.UUID)
		if !ok {
			continue
		}
		if service.ParentUUID != o.ParentUUID {
			h.problemOf(originOf(service), "is of another project and is not checked by it")
			continue
		}
		side, err := model.RefAttr[model.ServiceInterfaceTag](r)
		if err != nil {
			continue
		}
		for _, tuple := range g.Children(service.UUID, model.KindPortTuple) {
			for _, back := range g.BackReferences(tuple.GetMeta().UUID, model.KindVirtualMachineInterface) {
				if side.InterfaceType == "" || side.InterfaceType == sideOf(g, back.From.UUID) {
					list = append(list, back.From.UUID)
				}
			}
		}
	}
	return sorted(list)
}

// sideOf is what an interface is to its service: left, right, management, other0.
func sideOf(g *graph, iface string) string {
	vmi, ok := get[*model.VirtualMachineInterface](g, model.KindVirtualMachineInterface, iface)
	if !ok || vmi.VirtualMachineInterfaceProperties == nil {
		return ""
	}
	return vmi.VirtualMachineInterfaceProperties.ServiceInterfaceType
}

// linkLocalSource is where probes come from in a subnet without an address for that.
var linkLocalSource = netip.AddrFrom4([4]byte{169, 254, 169, 254})

// checkedAt is where an interface is asked: at the address by which routes lead
// to it, from the address of its subnet's services. The problem says why it is not.
func checkedAt(g *graph, iface string) (c CheckedInterface, problem string) {
	c = CheckedInterface{UUID: iface, Address: serviceAddress(g, iface), Source: linkLocalSource}
	if !c.Address.Is4() {
		return c, "has no IPv4 address and is not checked"
	}
	for _, network := range g.References(iface, model.KindVirtualNetwork) {
		if !isRouted(g, network.To.UUID) {
			return c, "is of a network with the forwarding_mode l2, which has no gateway to ask from, and is not checked; make it l2_l3 or l3"
		}
		for _, s := range gateways.get(g, network.To.UUID).list() {
			if s.Prefix.Contains(c.Address) && s.Service != c.Address {
				c.Source = s.Service
				return c, ""
			}
		}
	}
	return c, ""
}

// subnetService is a subnet with the address at which its services are: that
// of DNS, else the gateway.
type subnetService struct {
	Prefix  netip.Prefix
	Service netip.Addr
}

type subnetServices struct{ Subnets []subnetService }

func (s *subnetServices) list() []subnetService {
	if s == nil {
		return nil
	}
	return s.Subnets
}

var gateways = &unit[subnetServices]{name: "subnet-services", layer: 0, compute: func(g *graph, network string) *subnetServices {
	services := &subnetServices{}
	for s := range subnetsOf(g, network) {
		prefix, ok := ParsePrefix(s.Subnet)
		if !ok {
			continue
		}
		for _, text := range []string{s.DNSServerAddress, s.DefaultGateway} {
			if a, err := netip.ParseAddr(text); err == nil && !a.IsUnspecified() && prefix.Contains(a) {
				services.Subnets = append(services.Subnets, subnetService{prefix, a})
				break
			}
		}
	}
	return services
}}

// read reads the properties, as far as they can be done.
func (h *HealthCheck) read(p *model.ServiceHealthCheckType) {
	if p == nil || !model.ValueOr(p.Enabled, true) {
		return
	}
	if t := cmp.Or(p.HealthCheckType, "link-local"); t != "link-local" {
		h.problem("health_check_type %s is not supported, so nothing is checked; make one of the type link-local", t)
		return
	}
	probe := &Probe{
		Kind:    ProbeKind(p.MonitorType),
		Delay:   min(max(duration(p.Delay, p.DelayUsecs, defaultProbeDelay), minProbeDelay), maxProbeDelay),
		Timeout: min(max(duration(p.Timeout, p.TimeoutUsecs, defaultProbeTimeout), minProbeTimeout), maxProbeTimeout),
		Retries: uint32(min(max(model.ValueOr(p.MaxRetries, defaultRetries), 1), maxRetries)),
	}
	switch probe.Kind {
	case PingProbe:
	case TCPProbe:
		port, err := probedPort(p.URLPath)
		if err != nil {
			h.problem("%v", err)
			return
		}
		probe.Port = port
	case HTTPProbe:
		if err := probe.readHTTP(p); err != nil {
			h.problem("%v", err)
			return
		}
	default:
		h.problem("monitor_type %q is not supported, so nothing is checked; use %s, %s or %s", p.MonitorType, PingProbe, TCPProbe, HTTPProbe)
		return
	}
	h.Probe = probe
}

// What is not said, and the bounds of what is: a node has many probes to send,
// and all tenants share it. What is beyond a bound counts as the bound.
const (
	defaultProbeDelay   = 3 * time.Second
	defaultProbeTimeout = 5 * time.Second
	defaultRetries      = 2
	minProbeDelay       = 100 * time.Millisecond
	maxProbeDelay       = 24 * time.Hour
	minProbeTimeout     = 10 * time.Millisecond
	maxProbeTimeout     = time.Minute
	maxRetries          = 1000
)

// duration is that of a property in seconds and one in microseconds; both count.
func duration(seconds, micros *int64, none time.Duration) time.Duration {
	if model.ValueOr(seconds, 0) <= 0 && model.ValueOr(micros, 0) <= 0 {
		return none
	}
	s := min(model.ValueOr(seconds, 0), int64(maxProbeDelay/time.Second))
	return time.Duration(s)*time.Second + time.Duration(model.ValueOr(micros, 0))*time.Microsecond
}

// probedPort reads a target of TCP, such as local-ip:8080 or :8080.
func probedPort(text string) (uint16, error) {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(text, "tcp://"))
	n, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil || n == 0 || host != "" && host != LocalIP {
		return 0, fmt.Errorf("url_path %q names no port for TCP; write one such as %s:8080", text, LocalIP)
	}
	return uint16(n), nil
}

func (p *Probe) readHTTP(t *model.ServiceHealthCheckType) error {
	text := t.URLPath
	if strings.HasPrefix(text, "/") {
		text = "http://" + LocalIP + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("url_path %q is none for HTTP; write a path such as /health, or http://%s:8080/health", t.URLPath, LocalIP)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("url_path %q has the port %s; use one from 1 to 65535", t.URLPath, port)
		}
	}
	u.User, u.Fragment = nil, ""
	p.URL, p.Method = u.String(), cmp.Or(t.HTTPMethod, "GET")
	p.Codes, err = httpCodes(cmp.Or(t.ExpectedCodes, "200"))
	return err
}

// httpCodes reads codes such as 200, 200,202 or 200-204.
func httpCodes(text string) ([]Ports, error) {
	var list []Ports
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return nil, fmt.Errorf("expected_codes %q are none; write codes such as 200, 200,202 or 200-204", text)
		}
		list = append(list, Ports{uint16(a), uint16(b)})
	}
	return list, nil
}

// checkProblems are those of the checks of a network's interfaces.
func checkProblems(g *graph, network string) []Problem {
	checks := map[string]bool{}
	for _, vmi := range g.BackReferences(network, model.KindVirtualMachineInterface) {
		for _, r := range g.References(vmi.From.UUID, model.KindServiceHealthCheck) {
			checks[r.To.UUID] = true
		}
		for _, service := range servicesOf(g, vmi.From.UUID) {
			for _, r := range g.BackReferences(service, model.KindServiceHealthCheck) {
				checks[r.From.UUID] = true
			}
		}
	}
	var list []Problem
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		if h := healthChecks.get(g, id); h != nil {
			list = append(list, h.Problems...)
		}
	}
	return list
}

// servicesOf are the service-instances that an interface is one of.
func servicesOf(g *graph, iface string) []string {
	var list []string
	for _, r := range g.References(iface, model.KindPortTuple) {
		if tuple, ok := g.Object(model.KindPortTuple, r.To.UUID); ok {
			list = append(list, tuple.GetMeta().ParentUUID)
		}
	}
	return list
}
