package compile

import (
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestSilent: what does nothing is among the problems of the network that it was
// meant for.
func TestSilent(t *testing.T) {
	blue := network("blue", 1)
	blue.VirtualNetworkProperties = &model.VirtualNetworkType{ForwardingMode: "l2"}
	meta := func(kind, name string) model.Meta {
		return model.Meta{UUID: model.DerivedUUID(kind, name), FQName: []string{"default-domain", "p", name}, ParentType: "project", ParentUUID: blue.ParentUUID}
	}
	vmi := &model.VirtualMachineInterface{Meta: meta("vmi", "port")}
	ip := &model.InstanceIP{Meta: model.Meta{UUID: model.DerivedUUID("ip"), FQName: []string{"ip"}}, InstanceIPAddress: "10.0.0.3"}
	check := &model.ServiceHealthCheck{Meta: meta("check", "check"), ServiceHealthCheckProperties: &model.ServiceHealthCheckType{MonitorType: "PING"}}
	service := &model.BGPAsAService{Meta: meta("service", "speaker"), AutonomousSystem: new(int64(65001))}
	zone := &model.ControlNodeZone{Meta: model.Meta{UUID: model.DerivedUUID("zone"), FQName: []string{"default-global-system-config", "zone"}}}
	vrouters := &model.GlobalVrouterConfig{
		Meta:                    model.Meta{UUID: model.DerivedUUID("vrouters"), FQName: []string{"default-global-system-config", "default-global-vrouter-config"}},
		EncapsulationPriorities: &model.EncapsulationPrioritiesType{Encapsulation: []string{"MPLSoUDP"}},
	}
	ref := func(from, to model.Object) model.Reference {
		return model.Reference{From: model.EntityOf(from), To: model.EntityOf(to)}
	}
	speaks := ref(service, vmi)
	speaks.Number = 50000
	g := configuration(blue, vmi, ip, check, service, zone, vrouters)
	g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: 2}, References: []model.Reference{
		ref(vmi, blue), ref(ip, blue), ref(ip, vmi), ref(vmi, check), speaks, ref(service, zone), ref(service, check),
		{From: model.EntityOf(blue), To: model.Entity{Kind: model.KindNetworkIPAM, UUID: model.DerivedUUID("ipam")}, Attr: []byte(
			`{"ipam_subnets": [{"subnet": {"ip_prefix": "10.0.0.0", "ip_prefix_len": 24}, "default_gateway": "10.0.0.1"}]}`)},
	}})
	told := func(revision uint64, change model.Object) (told string, h *HealthCheck) {
		g.Apply(model.Batch{Position: model.Position{Epoch: 1, Revision: revision}, Objects: []model.Object{change}})
		g.View(func(v *model.View) {
			for _, p := range Explain(v, blue.UUID).Problems {
				told += string(p.About.Kind) + " " + p.About.Name + ": " + p.Text + "\n"
			}
			h = healthChecks.get(graphOf(v), check.UUID)
		})
		return told, h
	}
	const (
		noFrames  = "virtual-network default-domain:p:blue: its frames do not leave a node"
		noCheck   = "service-health-check default-domain:p:check: virtual-machine-interface default-domain:p:port is of a network with the forwarding_mode l2"
		noSession = "bgp-as-a-service default-domain:p:speaker: virtual-machine-interface default-domain:p:port has no session by it: its network has the forwarding_mode l2"
		noZone    = "bgp-as-a-service default-domain:p:speaker: control_node_zone does nothing"
		noHealth  = "bgp-as-a-service default-domain:p:speaker: service_health_check does nothing here"
	)
	bridged := *blue
	text, h := told(3, &bridged)
	for _, want := range []string{noFrames, noCheck, noSession, noZone, noHealth} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if len(h.Interfaces) != 0 {
		t.Errorf("what cannot be asked is asked: %+v", h.Interfaces)
	}
	routed := *blue
	routed.VirtualNetworkProperties = &model.VirtualNetworkType{ForwardingMode: "l3"}
	text, h = told(4, &routed)
	for _, gone := range []string{noFrames, noCheck, noSession} {
		if strings.Contains(text, gone) {
			t.Errorf("a network that routes has the problem %q", gone)
		}
	}
	if len(h.Interfaces) != 1 {
		t.Errorf("asked are %+v, want the interface", h.Interfaces)
	}
	taken := *vrouters
	taken.EncapsulationPriorities = &model.EncapsulationPrioritiesType{Encapsulation: []string{"VXLAN"}}
	told(5, &taken)
	if text, _ = told(6, &bridged); strings.Contains(text, noFrames) {
		t.Errorf("with VXLAN there is the problem %q", noFrames)
	}
}
