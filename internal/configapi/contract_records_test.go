package configapi

import (
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/dbcheck"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// A.1: what shows the API's insides.
func TestContractRecords(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	blue := c.network("p", "blue", "10.1.0.0/24")
	ip := c.create("instance-ip", m{"fq_name": l{"ip"}, "virtual_network_refs": l{m{"uuid": blue}}})
	for _, method := range []string{"GET", "POST"} {
		got := c.do(method, "/obj-cache", m{"uuids": l{blue, ip}, "count": 10})
		if len(got) != 2 || got["1"].(m)["uuid"] != blue || got["2"].(m)["virtual_network_refs"] == nil {
			t.Errorf("%s obj-cache %v", method, got)
		}
	}
	if got := c.do("GET", "/obj-cache", nil); len(got) != 10 {
		t.Errorf("%d objects, want 10", len(got))
	}
	if got := c.do("POST", "/obj-cache", m{"count": 3}); len(got) != 3 {
		t.Errorf("%d objects, want 3", len(got))
	}
	c.fails(400, "Bad Request", "POST", "/obj-cache", m{"count": -1})
	found := false
	for _, r := range c.do("POST", "/fetch-records", nil)["results"].(l) {
		found = found || r.(m)["uuid"] == ip && r.(m)["type"] == "instance-ip" && r.(m)["fq_name"].(l)[0] == "ip"
	}
	if !found {
		t.Error("fetch-records misses an object")
	}
	if got := c.do("POST", "/db-check", nil)["results"].(l); len(got) != 0 {
		t.Errorf("db-check finds %v", got)
	}
}

// What does not fit together is found, each by its key.
func TestDBCheck(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	a := b.attach(request(node, containerID(), "blue"))
	b.create("bgp-router", `{"fq_name": ["default-domain", "mesos-default", "blue", "blue", "r"]}`)
	b.create("logical-router", `{"fq_name": ["default-domain", "default-project", "lr"], "route_target_refs": [{"to": ["target:64512:8000001"]}]}`)
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if got := dbcheck.Check(entries); len(got) != 0 {
		t.Fatalf("a sound store: %v", got)
	}
	network := model.Entity{Kind: model.KindVirtualNetwork, UUID: a.NetworkId}
	ip := model.Entity{Kind: model.KindInstanceIP, UUID: a.Addresses[0].InstanceIpId}
	for name, tt := range map[string]struct {
		without store.Key
		want    []string
	}{
		"address without owner":  {store.ObjectKey(ip), []string{"ip/", "fq/instance-ip/", "ref/virtual-network/"}},
		"object without name":    {store.NameKey(network.Kind, []string{"default-domain", "mesos-default", "blue"}), []string{"obj/virtual-network/" + a.NetworkId}},
		"view without network":   {store.ObjectKey(network), []string{"obj/bgp-router/", "child/", "number/virtual-network/", "fq/virtual-network/", "ref/network-ipam/"}},
		"machine without object": {store.ObjectKey(model.Entity{Kind: model.KindVirtualMachineInterface, UUID: a.InterfaceId}), []string{"binding/" + a.InterfaceId, "label/" + node}},
	} {
		t.Run(name, func(t *testing.T) {
			var rest []store.Entry
			for _, e := range entries {
				if e.Key != tt.without {
					rest = append(rest, e)
				}
			}
			if len(rest) != len(entries)-1 {
				t.Fatalf("no key %s", tt.without)
			}
			found := dbcheck.Check(rest)
			for _, want := range tt.want {
				ok := false
				for _, f := range found {
					ok = ok || strings.HasPrefix(string(f.Key), want)
				}
				if !ok {
					t.Errorf("nothing about %s in %v", want, found)
				}
			}
		})
	}
}
