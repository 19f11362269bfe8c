package control

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

// TestFabric: agents are told of link-local services, and of the addresses of nodes
// and controllers that nothing may reach: as soon as something could.
func TestFabric(t *testing.T) {
	b := newBench()
	b.node("n1", "172.31.0.11", 1500)
	b.node("n2", "172.31.0.12", 1500)
	fabric, snat := int64(5), true
	b.apply(model.Batch{Objects: []model.Object{&model.VirtualNetwork{
		Meta: model.Meta{UUID: id("net", "ip-fabric"), FQName: []string{"default-domain", "default-project", "ip-fabric"}}, VirtualNetworkNetworkID: &fabric,
	}}})
	b.network("blue", 1, nil, nil)
	iface := b.attach("c", "blue", "n1", "10.0.0.3", 16)
	b.step()
	b.connect("n1", batch)
	agent := func() *agentState {
		t.Helper()
		b.step()
		if err := b.agents["n1"].drain(); err != nil {
			t.Fatal(err)
		}
		return b.agents["n1"].state
	}
	refused := func() (list string) {
		for raw := agent().fabric.GetRefused(); len(raw) > 0; raw = raw[4:] {
			list += netip.AddrFrom4([4]byte(raw)).String() + " "
		}
		return list
	}
	if f := agent().fabric; f == nil || len(f.GetServices())+len(f.GetRefused()) != 0 {
		t.Errorf("without SNAT and services the agent was told of %v", f)
	}
	number := int64(1)
	b.apply(model.Batch{Objects: []model.Object{&model.VirtualNetwork{
		Meta:                    model.Meta{UUID: id("net", "blue"), FQName: []string{"default-domain", "p", "blue"}},
		VirtualNetworkNetworkID: &number, FabricSNAT: &snat,
	}}})
	if got := refused(); got != "172.31.0.11 172.31.0.12 " {
		t.Errorf("refused is %q", got)
	}
	if got := agent().ports[iface].GetFabricNetwork(); got != 5 {
		t.Errorf("the port reaches network %d, want 5", got)
	}
	b.node("n3", "172.31.0.10", 1500)
	b.removeNode("n2")
	b.apply(model.Batch{Objects: []model.Object{&model.ConfigNode{
		Meta: model.Meta{UUID: id("config"), FQName: []string{"default-global-system-config", "c1"}}, ConfigNodeIPAddress: "172.31.0.3",
	}}})
	b.step()
	b.tables.setColleagues("172.31.0.1:5269", []string{"172.31.0.1:5269", "172.31.0.2:5269"})
	if got, want := refused(), "172.31.0.1 172.31.0.2 172.31.0.3 172.31.0.10 172.31.0.11 "; got != want {
		t.Errorf("refused is %q, want %q", got, want)
	}
	port, to := int64(80), int64(8775)
	b.vrouters.LinklocalServices = &model.LinklocalServicesTypes{LinklocalServiceEntry: []model.LinklocalServiceEntryType{
		{LinklocalServiceName: "metadata", LinklocalServiceIP: "169.254.169.254", LinklocalServicePort: &port, IPFabricServiceIP: "192.0.2.1", IPFabricServicePort: &to},
		{LinklocalServiceName: "named", LinklocalServiceIP: "169.254.169.254", LinklocalServicePort: &to, IPFabricDNSServiceName: "db.example.org", IPFabricServicePort: &to},
		{LinklocalServiceName: "elsewhere", LinklocalServiceIP: "10.0.0.9", LinklocalServicePort: &port, IPFabricServiceIP: "192.0.2.1", IPFabricServicePort: &to},
	}}
	b.configure()
	services := ""
	for _, s := range agent().fabric.GetServices() {
		services += fmt.Sprintf("%s %s:%d %s%s:%d ", s.GetName(), s.GetAddress(), s.GetPort(), s.GetTo(), s.GetDnsName(), s.GetToPort())
	}
	if want := "metadata 169.254.169.254:80 192.0.2.1:8775 named 169.254.169.254:8775 db.example.org:8775 "; services != want {
		t.Errorf("services are %q, want %q", services, want)
	}
	// Who comes later is told the same.
	b.disconnect("n1")
	b.connect("n1", batch)
	if got := agent().fabric; len(got.GetServices()) != 2 || len(got.GetRefused()) != 20 {
		t.Errorf("a new session says %v", got)
	}
	b.vrouters.LinklocalServices = nil
	b.network("blue", 1, nil, nil)
	b.configure()
	if f := agent().fabric; len(f.GetServices()) != 0 || agent().ports[iface].GetFabricNetwork() != 0 {
		t.Errorf("what is gone is still told: %v", f)
	}
}
