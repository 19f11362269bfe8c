package vrouter

import (
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// TestTrace: what is asked reaches the data plane, and each step is told in words,
// with the rule as its author knows it.
func TestTrace(t *testing.T) {
	_, plane, ask := lookAgent(t)
	far := netip.MustParseAddr("10.0.0.5")
	hop := dataplane.NextHop{Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.12"), Label: 17}
	rule := dataplane.Rule{UUID: "u-1", Owner: "network-policy d:p:web", Place: 2}
	plane.trace = dataplane.Trace{Src: netip.MustParseAddr("198.51.100.3"), Dst: far, NextHop: hop, Steps: []dataplane.Step{
		{Kind: dataplane.StepPort, IfIndex: 3, VRF: 1},
		{Kind: dataplane.StepNAT, IfIndex: 3, VRF: 1, NATSrc: netip.MustParseAddr("198.51.100.3")},
		{Kind: dataplane.StepRoute, IfIndex: 3, VRF: 1, Address: far, Route: &dataplane.RouteEntry{RouteKey: dataplane.RouteKey{VRF: 1, Prefix: netip.MustParsePrefix("10.0.0.5/32")}, Hop: 4, NextHop: hop}},
		{Kind: dataplane.StepPolicy, IfIndex: 3, Policy: &dataplane.PolicyStep{Rule: &rule, Place: 9, Pass: true}},
		{Kind: dataplane.StepPolicy, IfIndex: 3, Policy: &dataplane.PolicyStep{Kind: dataplane.Firewall, Rule: &dataplane.Rule{UUID: "u-2", Owner: "firewall-rule d:p:r"}, Place: 1}},
		{Kind: dataplane.StepPolicy, IfIndex: 3, Policy: &dataplane.PolicyStep{Kind: dataplane.Leaving}},
		{Kind: dataplane.StepMTU, MTU: 1500, Largest: 1468},
		{Kind: dataplane.StepTunnel, IfIndex: 3, NextHop: hop},
	}}
	got := decoded[vrouterapi.Trace](t, ask, "/trace?vif=web.1&destination=10.0.0.5&protocol=tcp&port=80&size=1400")
	if got.Verdict != vrouterapi.VerdictTunnel || got.NextHop.Label != 17 || got.SourceAs != "198.51.100.3" || !got.Translated || got.NodeAddress == "" {
		t.Errorf("trace is %+v", got)
	}
	for i, want := range []string{
		"vif 3 tap-here, vrf 1 default-domain:demo:blue",
		"source becomes 198.51.100.3, in vrf 1 default-domain:demo:blue",
		"10.0.0.5/32 in vrf 1 default-domain:demo:blue: nh 4 tunnel to 172.31.0.12, MPLSoUDP label 17",
		"policies of the network of vif 3 tap-here: pass by rule 2 of network-policy d:p:web (u-1)",
		"firewall of vif 3 tap-here: deny by firewall-rule d:p:r (u-2)",
		"security groups, leaving of vif 3 tap-here: deny, no rule matches",
		"the underlay takes 1500 bytes, so packets of up to 1468",
		"tunnel to 172.31.0.12, MPLSoUDP label 17",
	} {
		if got.Steps[i].Text != want {
			t.Errorf("step %d is %q, want %q", i, got.Steps[i].Text, want)
		}
	}
	if r := got.Steps[3].Rule; r == nil || *r != (vrouterapi.TraceRule{Kind: "network", Set: dataplane.SetID{}.String(), Pass: true, UUID: "u-1", Owner: rule.Owner, OwnerPlace: 2, Place: 9}) {
		t.Errorf("rule is %+v", r)
	}
	query := dataplane.TraceQuery{IfIndex: 3, Src: netip.MustParseAddr("10.0.0.3"), Dst: far, Protocol: 6, SrcPort: 49152, DstPort: 80, Size: 1400}
	decoded[vrouterapi.Trace](t, ask, "/trace/arrival?node="+got.NodeAddress+"&outer=172.31.0.12&encapsulation=vxlan&vni=5&mac=02:00:00:00:00:09&source=10.0.0.5&destination=10.0.0.3&protocol=icmp&asked=10.0.0.5")
	arrival := dataplane.ArrivalQuery{
		Outer: netip.MustParseAddr("172.31.0.12"), Encapsulation: dataplane.VXLAN, VNI: 5, MAC: dataplane.MAC{2, 0, 0, 0, 0, 9},
		TraceQuery: dataplane.TraceQuery{Src: far, Dst: query.Src, Protocol: 1, SrcPort: 49152, DstPort: 8, Answers: true, Asked: far},
	}
	if want := []any{query, arrival}; !reflect.DeepEqual(plane.traced, want) {
		t.Errorf("asked the data plane\n%+v\nwant\n%+v", plane.traced, want)
	}
	plane.trace = dataplane.Trace{Reason: dataplane.DropNoRoute, Steps: []dataplane.Step{{Kind: dataplane.StepDrop, Reason: dataplane.DropNoRoute}}}
	got = decoded[vrouterapi.Trace](t, ask, "/trace?vif=3&destination=10.9.0.5&protocol=47")
	if got.Verdict != vrouterapi.VerdictDropped || got.Reason != "no-route" || got.Advice == "" || got.NextHop != nil || got.Steps[0].Text != "no-route: no route to the destination" {
		t.Errorf("drop is %+v", got)
	}
}

// TestBadTrace: what cannot be asked says so, and asks nothing.
func TestBadTrace(t *testing.T) {
	_, plane, ask := lookAgent(t)
	for path, want := range map[string]string{
		"/trace?destination=10.0.0.5&protocol=tcp":                                                                                             "want the port",
		"/trace?vif=2&destination=10.0.0.5&protocol=tcp":                                                                                       "want the port",
		"/trace?vif=nobody&destination=10.0.0.5&protocol=tcp":                                                                                  "nobody",
		"/trace?vif=3&destination=x&protocol=tcp":                                                                                              "destination",
		"/trace?vif=3&destination=fe80::1%25eth0&protocol=tcp":                                                                                 "destination",
		"/trace?vif=3&destination=10.0.0.5&protocol=ip":                                                                                        "protocol",
		"/trace?vif=3&destination=10.0.0.5&protocol=tcp&port=65536":                                                                            "port",
		"/trace?vif=3&destination=10.0.0.5&protocol=tcp&source_port=-1":                                                                        "source_port",
		"/trace?vif=3&destination=10.0.0.5&protocol=tcp&size=70000":                                                                            "size",
		"/trace?vif=3&destination=2001:db8::5&protocol=tcp":                                                                                    "family",
		"/trace?vif=3&source=10.0.0.3&destination=2001:db8::5&protocol=tcp":                                                                    "families",
		"/trace/arrival?node=172.31.9.9":                                                                                                       "172.31.9.9",
		"/trace/arrival?outer=::1&encapsulation=VXLAN&source=10.0.0.5&destination=10.0.0.3&protocol=tcp":                                       "outer",
		"/trace/arrival?outer=172.31.0.12&encapsulation=GENEVE&source=10.0.0.5&destination=10.0.0.3&protocol=tcp":                              "encapsulation",
		"/trace/arrival?outer=172.31.0.12&encapsulation=MPLSoUDP&label=1048576&source=10.0.0.5&destination=10.0.0.3&protocol=tcp":              "label",
		"/trace/arrival?outer=172.31.0.12&encapsulation=VXLAN&vni=16777216&source=10.0.0.5&destination=10.0.0.3&protocol=tcp":                  "vni",
		"/trace/arrival?outer=172.31.0.12&encapsulation=VXLAN&vni=5&mac=x&source=10.0.0.5&destination=10.0.0.3&protocol=tcp":                   "mac",
		"/trace/arrival?outer=172.31.0.12&encapsulation=MPLSoUDP&label=16&source=10.0.0.5&destination=2001:db8::3&protocol=tcp&asked=nonsense": "asked",
	} {
		if code, body := ask(path); code == http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want an error about %s", path, code, body, want)
		}
	}
	if len(plane.traced) != 0 {
		t.Errorf("asked the data plane %v", plane.traced)
	}
}
