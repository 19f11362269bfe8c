package compile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestHealthChecksAsWritten: what properties mean, and what they cannot.
func TestHealthChecksAsWritten(t *testing.T) {
	const second = time.Second
	number := func(n int64) *int64 { return &n }
	for name, test := range map[string]struct {
		written model.ServiceHealthCheckType
		want    *Probe
		problem string
	}{
		"ping": {
			model.ServiceHealthCheckType{MonitorType: "PING", Delay: number(2), Timeout: number(1), MaxRetries: number(4)},
			&Probe{Kind: PingProbe, Delay: 2 * second, Timeout: second, Retries: 4}, "",
		},
		"defaults": {
			model.ServiceHealthCheckType{MonitorType: "PING", HealthCheckType: "link-local"},
			&Probe{Kind: PingProbe, Delay: 3 * second, Timeout: 5 * second, Retries: 2}, "",
		},
		"microseconds": {
			model.ServiceHealthCheckType{MonitorType: "PING", Delay: number(1), DelayUsecs: number(500_000), TimeoutUsecs: number(20_000), MaxRetries: number(1)},
			&Probe{Kind: PingProbe, Delay: 1500 * time.Millisecond, Timeout: 20 * time.Millisecond, Retries: 1}, "",
		},
		"too often and too long": {
			model.ServiceHealthCheckType{MonitorType: "PING", DelayUsecs: number(1), Timeout: number(1 << 31), MaxRetries: number(1)},
			&Probe{Kind: PingProbe, Delay: minProbeDelay, Timeout: maxProbeTimeout, Retries: 1}, "",
		},
		"tcp": {
			model.ServiceHealthCheckType{MonitorType: "TCP", URLPath: "local-ip:8080"},
			&Probe{Kind: TCPProbe, Delay: 3 * second, Timeout: 5 * second, Retries: 2, Port: 8080}, "",
		},
		"tcp without a port": {model.ServiceHealthCheckType{MonitorType: "TCP", URLPath: "/"}, nil, "names no port"},
		"tcp to others":      {model.ServiceHealthCheckType{MonitorType: "TCP", URLPath: "10.0.0.9:80"}, nil, "names no port"},
		"http": {
			model.ServiceHealthCheckType{MonitorType: "HTTP", URLPath: "/health?full=1"},
			&Probe{Kind: HTTPProbe, Delay: 3 * second, Timeout: 5 * second, Retries: 2, Method: "GET", URL: "http://local-ip/health?full=1", Codes: []Ports{{200, 200}}}, "",
		},
		"http with more": {
			model.ServiceHealthCheckType{MonitorType: "HTTP", URLPath: "https://me:secret@web.example:8443/x#y", HTTPMethod: "HEAD", ExpectedCodes: "200-204,301"},
			&Probe{Kind: HTTPProbe, Delay: 3 * second, Timeout: 5 * second, Retries: 2, Method: "HEAD", URL: "https://web.example:8443/x", Codes: []Ports{{200, 204}, {301, 301}}}, "",
		},
		"http without a path": {model.ServiceHealthCheckType{MonitorType: "HTTP", URLPath: "ftp://x"}, nil, "is none for HTTP"},
		"http port":           {model.ServiceHealthCheckType{MonitorType: "HTTP", URLPath: "http://local-ip:70000/"}, nil, "port"},
		"bfd":                 {model.ServiceHealthCheckType{MonitorType: "BFD"}, nil, `"BFD" is not supported`},
		"end to end":          {model.ServiceHealthCheckType{MonitorType: "PING", HealthCheckType: "end-to-end"}, nil, "end-to-end is not supported"},
		"disabled":            {model.ServiceHealthCheckType{MonitorType: "BFD", Enabled: new(bool)}, nil, ""},
	} {
		h := &HealthCheck{}
		h.read(&test.written)
		if diff := cmp.Diff(test.want, h.Probe); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if (test.problem == "") != (len(h.Problems) == 0) || len(h.Problems) > 0 && !strings.Contains(h.Problems[0].Text, test.problem) {
			t.Errorf("%s: problems %v, want %q", name, h.Problems, test.problem)
		}
	}
}

// TestCheckedInterfaces: a check acts on the interfaces that refer to it and on
// those of services of its project, on the side that it names, and asks from an
// address that nobody has.
func TestCheckedInterfaces(t *testing.T) {
	w := &town{}
	blue, red := w.routed("blue", 1), w.network("red", 2)
	ipam := &model.NetworkIPAM{Meta: meta(model.KindNetworkIPAM, "red")}
	w.put(ipam)
	w.refer(red, ipam, `{"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.2.0", "ip_prefix_len": 24}, "default_gateway": "10.0.2.1", "dns_server_address": "10.0.2.2"}]}`)
	si := w.service("fw", "in-network", blue, red, 1)
	check := func(name string) *model.ServiceHealthCheck {
		o := &model.ServiceHealthCheck{
			Meta: meta(model.KindServiceHealthCheck, name), ServiceHealthCheckProperties: &model.ServiceHealthCheckType{MonitorType: "PING"},
		}
		w.put(o)
		return o
	}
	one, left, both, foreign, lame := check("one"), check("left"), check("both"), check("foreign"), check("lame")
	w.refer(left, si, `{"interface_type": "left"}`)
	w.refer(both, si, "")
	foreign.ParentUUID = model.DerivedUUID("other")
	w.refer(foreign, si, "")
	vmi := &model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, "web")}
	ip := &model.InstanceIP{Meta: meta(model.KindInstanceIP, "web"), InstanceIPAddress: "10.0.2.9"}
	w.put(vmi)
	w.put(ip)
	w.refer(vmi, red, "")
	w.refer(ip, vmi, "")
	w.refer(vmi, one, "")
	bare := &model.VirtualMachineInterface{Meta: meta(model.KindVirtualMachineInterface, "bare")}
	w.put(bare)
	w.refer(bare, red, "")
	w.refer(bare, lame, "")
	w.view(func(v *model.View) {
		g := graphOf(v)
		for o, want := range map[*model.ServiceHealthCheck][]string{
			one: {"10.0.2.9 from 10.0.2.2"}, left: {"10.0.1.102 from 169.254.169.254"},
			both: {"10.0.1.102 from 169.254.169.254", "10.0.2.102 from 10.0.2.2"}, foreign: nil, lame: nil,
		} {
			h := healthChecks.get(g, o.UUID)
			var got []string
			for _, c := range h.Interfaces {
				got = append(got, c.Address.String()+" from "+c.Source.String())
				if again, ok := h.Of(c.UUID); !ok || again != c {
					t.Errorf("%s: %v is not found again", o.DisplayName, c)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s asks %v, want %v", o.DisplayName, got, want)
			}
			if len(h.Problems) > 0 != (o == lame || o == foreign) {
				t.Errorf("%s has the problems %v", o.DisplayName, h.Problems)
			}
		}
		if problems := Explain(v, red.UUID).Problems; !slices.ContainsFunc(problems, func(p Problem) bool { return p.About.UUID == lame.UUID }) {
			t.Errorf("the network does not say that an interface is not checked: %v", problems)
		}
		// Who shares a check with others learns nothing of their interfaces.
		e := Explain(v, red.UUID)
		e.ShowOnly(false, func(o Origin) bool { return o.UUID != bare.UUID && o.UUID != si.UUID })
		if len(e.Problems) > 0 {
			t.Errorf("what one may not see is told of: %v", e.Problems)
		}
	})
}
