package configapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// denies sends a request that must be refused, with a status and a text.
func (b *bench) denies(method, path, body string, status int, text string) {
	b.Helper()
	got, said, _ := b.call(method, path, body)
	if got != status || !strings.Contains(said, text) {
		b.Errorf("%s %s %s: %d %q, want %d and %q", method, path, body, got, said, status, text)
	}
}

// networkWith makes a network in project p with the subnets, given as JSON,
// under an IPAM of its own.
func (b *bench) networkWith(name, subnets string) string {
	b.Helper()
	if status, _, _ := b.call("POST", "/fqname-to-id", `{"type": "project", "fq_name": ["default-domain", "p"]}`); status != http.StatusOK {
		b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	}
	b.create("network-ipam", fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q]}`, name))
	return b.create("virtual-network", fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q], "network_ipam_refs": [{"to": ["default-domain", "p", %q],
		"attr": {"ipam_subnets": [%s]}}]}`, name, name, subnets))
}

func subnetJSON(prefix, more string) string {
	p := netip.MustParsePrefix(prefix)
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"subnet": {"ip_prefix": %q, "ip_prefix_len": %d}%s}`, p.Addr(), p.Bits(), more)
}

// setSubnets replaces the subnets of a network that networkWith made.
func (b *bench) setSubnets(name, vn, subnets string) (int, string) {
	status, text, _ := b.call("PUT", "/virtual-network/"+vn, fmt.Sprintf(`{"virtual-network": {"network_ipam_refs": [{"to": ["default-domain", "p", %q],
		"attr": {"ipam_subnets": [%s]}}]}}`, name, subnets))
	return status, text
}

var ipCount int

// ip makes an instance-ip and returns its address and UUID.
func (b *bench) ip(vn, more string) (address, id string) {
	b.Helper()
	ipCount++
	if more != "" {
		more = ", " + more
	}
	id = b.create("instance-ip", fmt.Sprintf(`{"fq_name": ["ip-%d"], "virtual_network_refs": [{"uuid": %q}]%s}`, ipCount, vn, more))
	return b.get("instance-ip", id)["instance_ip_address"].(string), id
}

func ipJSON(vn, more string) string {
	if more != "" {
		more = ", " + more
	}
	return fmt.Sprintf(`{"instance-ip": {"fq_name": ["refused"], "virtual_network_refs": [{"uuid": %q}]%s}}`, vn, more)
}

func TestSubnets(t *testing.T) {
	b := newBench(t, testConfig())
	for i, tt := range []struct {
		subnet, gateway, dns string
		// first addresses given out, and how many there are.
		first []string
		size  uint64
	}{
		{subnetJSON("10.1.0.0/24", ""), "10.1.0.254", "10.1.0.253", []string{"10.1.0.252", "10.1.0.251"}, 252},
		{subnetJSON("10.1.0.0/24", `"addr_from_start": true`), "10.1.0.1", "10.1.0.2", []string{"10.1.0.3", "10.1.0.4"}, 252},
		{subnetJSON("10.1.0.0/24", `"default_gateway": "10.1.0.9", "dns_server_address": "10.1.0.9"`), "10.1.0.9", "10.1.0.9", []string{"10.1.0.254", "10.1.0.253"}, 253},
		{subnetJSON("10.1.0.0/24", `"default_gateway": "0.0.0.0"`), "0.0.0.0", "10.1.0.253", []string{"10.1.0.254", "10.1.0.252"}, 253},
		{subnetJSON("10.1.0.0/29", `"addr_from_start": true`), "10.1.0.1", "10.1.0.2", []string{"10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"}, 4},
		{subnetJSON("10.1.0.0/30", `"addr_from_start": true`), "10.1.0.1", "10.1.0.1", []string{"10.1.0.2"}, 1},
		{subnetJSON("10.1.0.0/30", ``), "10.1.0.2", "10.1.0.2", []string{"10.1.0.1"}, 1},
		{subnetJSON("10.1.0.0/31", `"addr_from_start": true`), "10.1.0.0", "10.1.0.0", []string{"10.1.0.1"}, 1},
		{subnetJSON("10.1.0.7/32", ``), "0.0.0.0", "0.0.0.0", []string{"10.1.0.7"}, 1},
		{subnetJSON("0.0.0.0/8", `"addr_from_start": true`), "0.0.0.1", "0.0.0.2", []string{"0.0.0.3"}, 1<<24 - 4},
		{
			subnetJSON("10.1.0.0/24", `"allocation_pools": [{"start": "10.1.0.100", "end": "10.1.0.101"}, {"start": "10.1.0.50", "end": "10.1.0.50"}], "addr_from_start": true`),
			"10.1.0.1", "10.1.0.2",
			[]string{"10.1.0.50", "10.1.0.100", "10.1.0.101"},
			3,
		},
		{subnetJSON("10.1.0.0/24", `"alloc_unit": 4, "addr_from_start": true`), "10.1.0.1", "10.1.0.2", []string{"10.1.0.4", "10.1.0.8"}, 62},
		{subnetJSON("10.1.0.0/24", `"alloc_unit": 8`), "10.1.0.254", "10.1.0.253", []string{"10.1.0.240", "10.1.0.232"}, 30},
		{subnetJSON("10.1.0.0/20", `"alloc_unit": 1024`), "10.1.15.254", "10.1.15.253", []string{"10.1.8.0", "10.1.4.0"}, 2},
		{subnetJSON("fd00::/64", `"addr_from_start": true`), "fd00::1", "fd00::2", []string{"fd00::3", "fd00::4"}, 1 << 62},
		{subnetJSON("fd00::/64", ``), "fd00::ffff:ffff:ffff:fffe", "fd00::ffff:ffff:ffff:fffd", []string{"fd00::ffff:ffff:ffff:fffc"}, 1 << 62},
		{subnetJSON("fd00::/126", ``), "fd00::2", "fd00::2", []string{"fd00::1"}, 1},
		{subnetJSON("fd00::7/128", ``), "::", "::", []string{"fd00::7"}, 1},
	} {
		name := fmt.Sprint("n", i)
		vn := b.networkWith(name, tt.subnet)
		attr := b.get("virtual-network", vn)["network_ipam_refs"].([]any)[0].(map[string]any)["attr"].(map[string]any)
		got := attr["ipam_subnets"].([]any)[0].(map[string]any)
		if got["default_gateway"] != tt.gateway || got["dns_server_address"] != tt.dns || got["subnet_uuid"] == nil {
			t.Errorf("%s: gateway %v dns %v, want %s and %s", tt.subnet, got["default_gateway"], got["dns_server_address"], tt.gateway, tt.dns)
		}
		family := `"instance_ip_family": "v4"`
		if strings.Contains(tt.gateway, ":") {
			family = `"instance_ip_family": "v6"`
		}
		for _, want := range tt.first {
			if a, _ := b.ip(vn, family); a != want {
				t.Errorf("%s: got %s, want %s", tt.subnet, a, want)
			}
		}
		if tt.size == uint64(len(tt.first)) {
			b.denies("POST", "/instance-ips", ipJSON(vn, family), 400, "Virtual-Network(default-domain:p:"+name+") has exhausted subnet(")
		}
		b.api.graph.View(func(v *model.View) {
			list, err := subnetsOf(v, vn)
			if err != nil || len(list) != 1 || list[0].size() != tt.size {
				t.Errorf("%s: %v %v, want %d addresses", tt.subnet, list, err, tt.size)
			}
		})
	}
}

func TestSubnetErrors(t *testing.T) {
	b := newBench(t, testConfig())
	b.networkWith("there", subnetJSON("10.9.0.0/24", ""))
	flat := b.create("network-ipam", `{"fq_name": ["default-domain", "p", "flat"], "ipam_subnet_method": "flat-subnet", "ipam_subnets": {"subnets": [`+subnetJSON("10.8.0.0/24", "")+`]}}`)
	before := b.dump()
	for _, tt := range []struct{ subnets, text string }{
		{`{}`, "want ip_prefix and ip_prefix_len"},
		{subnetJSON("10.1.0.1/24", ""), "host bits set; write 10.1.0.0/24"},
		{`{"subnet": {"ip_prefix": "10.1.0.0", "ip_prefix_len": 33}}`, "the length is from 0 to 32"},
		{subnetJSON("10.1.0.0/24", `"default_gateway": "10.2.0.1"`), "default_gateway 10.2.0.1 is outside of it"},
		{subnetJSON("10.1.0.0/24", `"dns_server_address": "10.2.0.1"`), "dns_server_address 10.2.0.1 is outside of it"},
		{subnetJSON("10.1.0.0/24", `"allocation_pools": [{"start": "10.2.0.1", "end": "10.2.0.2"}]`), "10.2.0.1 is outside of it"},
		{subnetJSON("10.1.0.0/24", `"allocation_pools": [{"start": "10.1.0.9", "end": "10.1.0.2"}]`), "ends before it starts"},
		{subnetJSON("10.1.0.0/24", `"allocation_pools": [{"start": "10.1.0.1", "end": "10.1.0.9"}, {"start": "10.1.0.9", "end": "10.1.0.12"}]`), "overlap"},
		{subnetJSON("10.1.0.0/24", `"alloc_unit": 3`), "alloc_unit 3 is no power of two"},
		{subnetJSON("10.1.0.0/24", `"alloc_unit": 512`), "leaves no room for two units"},
		{subnetJSON("10.1.0.0/24", `"subnet_uuid": "x"`), "subnet_uuid"},
		{subnetJSON("127.0.0.0/24", ""), "overlaps 127.0.0.0/8"},
		{subnetJSON("0.0.0.0/0", ""), "which hosts use for themselves"},
		{subnetJSON("224.0.0.0/8", ""), "overlaps 224.0.0.0/4"},
		{subnetJSON("ff02::/64", ""), "overlaps ff00::/8"},
		{subnetJSON("10.1.0.0/24", "") + "," + subnetJSON("10.1.0.128/25", ""), "overlaps subnet"},
	} {
		b.denies("POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "bad"], "network_ipam_refs": [{"to": ["default-domain", "p", "there"],
			"attr": {"ipam_subnets": [`+tt.subnets+`]}}]}}`, 400, tt.text)
		b.denies("POST", "/network-ipams", `{"network-ipam": {"fq_name": ["default-domain", "p", "bad"], "ipam_subnet_method": "flat-subnet",
			"ipam_subnets": {"subnets": [`+tt.subnets+`]}}}`, 400, strings.Replace(tt.text, "want ip_prefix and ip_prefix_len", "subnet", 1))
	}
	id := model.NewUUID()
	for _, tt := range []struct{ kind, body, text string }{
		{"virtual-network", `"network_ipam_refs": [{"uuid": "` + flat + `", "attr": {"ipam_subnets": [` + subnetJSON("10.1.0.0/24", "") + `]}}]`, "leave ipam_subnets empty"},
		{"virtual-network", `"network_ipam_refs": [{"uuid": "` + flat + `"}, {"to": ["default-domain", "p", "there"], "attr": {"ipam_subnets": [` + subnetJSON("10.8.0.0/25", "") + `]}}]`, "overlaps"},
		{"virtual-network", `"network_ipam_refs": [{"to": ["default-domain", "p", "there"], "attr": {"ipam_subnets": [` +
			subnetJSON("10.1.0.0/25", `"subnet_uuid": "`+id+`"`) + `,` + subnetJSON("10.2.0.0/25", `"subnet_uuid": "`+id+`"`) + `]}}]`, "have the same subnet_uuid"},
		{"network-ipam", `"ipam_subnets": {"subnets": [` + subnetJSON("10.1.0.0/24", "") + `]}`, "ipam_subnets need the ipam_subnet_method flat-subnet"},
		{"network-ipam", `"ipam_subnet_method": "auto-subnet"`, "auto-subnet is not offered; use user-defined-subnet or flat-subnet"},
	} {
		b.denies("POST", "/"+tt.kind+"s", `{"`+tt.kind+`": {"fq_name": ["default-domain", "p", "bad"], `+tt.body+`}}`, 400, tt.text)
	}
	b.unchanged(before)
}

// unchanged demands that the store is as it was.
func (b *bench) unchanged(before any) {
	b.Helper()
	if now := b.dump(); fmt.Sprint(now) != fmt.Sprint(before) {
		b.Errorf("refused requests changed the store: %d keys now", len(now))
	}
}

func TestFlatSubnets(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	b.create("network-ipam", `{"fq_name": ["default-domain", "p", "own"]}`)
	ipam := b.create("network-ipam", `{"fq_name": ["default-domain", "p", "flat"], "ipam_subnet_method": "flat-subnet",
		"ipam_subnets": {"subnets": [`+subnetJSON("10.8.0.0/24", `"addr_from_start": true`)+`]}}`)
	got := b.get("network-ipam", ipam)["ipam_subnets"].(map[string]any)["subnets"].([]any)[0].(map[string]any)
	if got["default_gateway"] != "10.8.0.1" || got["subnet_uuid"] == nil {
		t.Errorf("flat subnet %v", got)
	}
	refs := `"network_ipam_refs": [{"uuid": "` + ipam + `", "attr": {}}]`
	red := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "red"], `+refs+`}`)
	blue := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "blue"], "network_ipam_refs": [{"uuid": "`+ipam+`"},
		{"to": ["default-domain", "p", "own"], "attr": {"ipam_subnets": [`+subnetJSON("10.1.0.0/24", `"addr_from_start": true`)+`]}}]}`)
	first, ip := b.ip(red, "")
	if first != "10.8.0.3" {
		t.Errorf("red got %s", first)
	}
	if a, _ := b.ip(blue, ""); a != "10.1.0.3" {
		t.Errorf("blue got %s, want one of its own subnet first", a)
	}
	b.denies("POST", "/instance-ips", ipJSON(blue, `"instance_ip_address": "10.8.0.3"`), 409, "IP address already in use: 10.8.0.3 of network-ipam:default-domain:p:flat; held by instance-ip/"+ip)
	for mode, want := range map[string]string{
		"flat-subnet-preferred": "10.8.0.", "flat-subnet-only": "10.8.0.",
		"user-defined-subnet-only": "10.1.0.", "user-defined-subnet-preferred": "10.1.0.",
	} {
		b.json("PUT", "/virtual-network/"+blue, `{"virtual-network": {"address_allocation_mode": "`+mode+`"}}`)
		if a, _ := b.ip(blue, ""); !strings.HasPrefix(a, want) {
			t.Errorf("%s: got %s, want %s*", mode, a, want)
		}
	}
	if a, _ := b.ip(red, ""); a == "10.8.0.3" || a == "10.8.0.4" || !strings.HasPrefix(a, "10.8.0.") {
		t.Errorf("red got %s, which blue may have", a)
	}
	at := b.attach(inProject(node, "c", "red"))
	if !strings.HasPrefix(at.Addresses[0].Address, "10.8.0.") || at.Addresses[0].Gateway != "10.8.0.1" {
		t.Errorf("a container of red got %v", at.Addresses)
	}

	// Neither the IPAM nor the reference may lose an address in use.
	b.denies("PUT", "/network-ipam/"+ipam, `{"network-ipam": {"ipam_subnets": null}}`, 409, "address 10.8.0.3 of network-ipam:default-domain:p:flat is in use")
	b.denies("PUT", "/network-ipam/"+ipam, `{"network-ipam": {"ipam_subnets": {"subnets": [`+subnetJSON("10.8.0.0/23", "")+`,`+subnetJSON("10.1.0.0/16", "")+`]}}}`, 409, "do not fit virtual-network "+blue)
	b.json("PUT", "/network-ipam/"+ipam, `{"network-ipam": {"ipam_subnets": {"subnets": [`+subnetJSON("10.8.0.0/23", `"addr_from_start": true`)+`]}}}`)
	b.denies("PUT", "/virtual-network/"+red, `{"virtual-network": {"network_ipam_refs": []}}`, 409, "is in use")
	b.denies("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-ipam", "ref-uuid": %q, "operation": "DELETE"}`, blue, ipam), 409, "is in use")
	b.detach(at.Key)
	b.json("DELETE", "/instance-ip/"+ip, "")
	if usage, err := b.store.List(b.ctx(), "rest/ip/network-ipam:default-domain:p:flat/"); err != nil || len(usage) != 2 {
		t.Errorf("%d flat addresses rest (%v), want 2", len(usage), err)
	}
}

// inProject asks for a container in a network of project p.
func inProject(node, container, network string) *configv1.AttachRequest {
	r := request(node, container, network)
	r.Network.Project = "p"
	return r
}

func TestInstanceIPSources(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.networkWith("blue", subnetJSON("10.1.0.0/24", `"addr_from_start": true, "subnet_uuid": "00000000-0000-4000-8000-00000000000a"`)+","+subnetJSON("10.2.0.0/24", `"addr_from_start": true`)+","+subnetJSON("fd00::/64", `"addr_from_start": true`))
	other := b.networkWith("red", subnetJSON("10.1.0.0/24", ""))
	empty := b.networkWith("empty", "")
	flat := b.create("network-ipam", `{"fq_name": ["default-domain", "p", "flat"], "ipam_subnet_method": "flat-subnet", "ipam_subnets": {"subnets": [`+
		subnetJSON("10.8.0.0/24", `"addr_from_start": true, "allocation_pools": [{"start": "10.8.0.200", "end": "10.8.0.210", "vrouter_specific_pool": true}]`)+`]}}`)
	router := b.create("virtual-router", `{"fq_name": ["default-global-system-config", "vr"], "virtual_router_ip_address": "172.31.0.9",
		"network_ipam_refs": [{"uuid": "`+flat+`", "attr": {"allocation_pools": [{"start": "10.8.0.201", "end": "10.8.0.202"}]}}]}`)
	for more, want := range map[string]string{
		`"subnet_uuid": "00000000-0000-4000-8000-00000000000a"`:                "10.1.0.3",
		`"instance_ip_subnet": {"ip_prefix": "10.2.0.0", "ip_prefix_len": 24}`: "10.2.0.3",
		`"instance_ip_family": "v6"`:                                           "fd00::3",
		`"instance_ip_address": "10.2.0.77"`:                                   "10.2.0.77",
		`"instance_ip_address": "fd00::77"`:                                    "fd00::77",
	} {
		if a, id := b.ip(vn, more); a != want {
			t.Errorf("%s: got %s, want %s", more, a, want)
		} else if family := b.get("instance-ip", id)["instance_ip_family"]; family != familyOf(netip.MustParseAddr(want)) {
			t.Errorf("%s: family %v", a, family)
		}
	}
	from := func(name, refs, more string) string {
		if more != "" {
			more = ", " + more
		}
		return fmt.Sprintf(`{"fq_name": [%q], %s%s}`, name, refs, more)
	}
	byIPAM, byRouter := `"network_ipam_refs": [{"uuid": "`+flat+`"}]`, `"virtual_router_refs": [{"uuid": "`+router+`"}]`
	id := b.create("instance-ip", from("by-ipam", byIPAM, ""))
	if a := b.get("instance-ip", id)["instance_ip_address"]; a != "10.8.0.3" {
		t.Errorf("by IPAM: %v", a)
	}
	var mine []string
	for n := range 2 {
		id := b.create("instance-ip", from(fmt.Sprint("by-router-", n), byRouter, ""))
		mine = append(mine, b.get("instance-ip", id)["instance_ip_address"].(string))
	}
	if !slices.Equal(mine, []string{"10.8.0.201", "10.8.0.202"}) {
		t.Errorf("the router got %v", mine)
	}
	before := b.dump()
	for _, tt := range []struct {
		body   string
		status int
		text   string
	}{
		{from("x", byRouter, ""), 400, "has exhausted subnet(10.8.0.0/24)"},
		{from("x", byRouter+","+byIPAM, ""), 400, "virtual_router_refs beside another source"},
		{from("x", `"network_ipam_refs": [{"to": ["default-domain", "p", "blue"]}]`, ""), 400, "has no flat-subnet of its own"},
		{from("x", `"virtual_network_refs": [{"uuid": "`+vn+`"}, {"uuid": "`+other+`"}]`, ""), 400, "name one source"},
	} {
		b.denies("POST", "/instance-ips", `{"instance-ip": `+tt.body+`}`, tt.status, tt.text)
	}
	for _, tt := range []struct {
		vn, more string
		status   int
		text     string
	}{
		{empty, "", 400, "Virtual-Network(default-domain:p:empty) has no defined subnets"},
		{vn, `"subnet_uuid": "00000000-0000-4000-8000-00000000000b"`, 400, "has invalid subnet(00000000-0000-4000-8000-00000000000b)"},
		{vn, `"instance_ip_subnet": {"ip_prefix": "10.3.0.0", "ip_prefix_len": 24}`, 400, "has invalid subnet(10.3.0.0/24)"},
		{other, `"instance_ip_family": "v6"`, 400, "has no subnet of family v6"},
		{vn, `"instance_ip_family": "v6", "instance_ip_address": "10.2.0.9"`, 400, "is not of the family v6"},
		{vn, `"instance_ip_address": "10.3.0.9"`, 400, "has invalid subnet(10.3.0.9)"},
		{vn, `"instance_ip_address": "10.1.0.1"`, 400, "Gateway IP cannot be used by VM port"},
		{vn, `"instance_ip_address": "10.1.0.2"`, 400, "is the dns_server_address"},
		{vn, `"instance_ip_address": "10.1.0.255"`, 400, "network or broadcast address"},
		{vn, `"instance_ip_address": "10.1.0.3"`, 409, "IP address already in use"},
		{vn, `"secondary_ip_tracking_ip": {"ip_prefix": "10.1.0.3", "ip_prefix_len": 24}, "instance_ip_secondary": true`, 400, "is no single address"},
		{vn, `"secondary_ip_tracking_ip": {"ip_prefix": "10.1.0.3", "ip_prefix_len": 32}`, 400, "needs instance_ip_secondary true"},
	} {
		b.denies("POST", "/instance-ips", ipJSON(tt.vn, tt.more), tt.status, tt.text)
	}
	b.denies("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-router", "uuid": %q, "ref-type": "network-ipam", "ref-uuid": %q, "operation": "DELETE"}`, router, flat), 409, "in use by instance-ip")
	b.unchanged(before)
}

func TestSharedAndGatewayAddresses(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.networkWith("blue", subnetJSON("10.1.0.0/24", `"addr_from_start": true`))
	other := b.networkWith("red", subnetJSON("10.1.0.0/24", ""))
	vm := b.create("virtual-machine", `{"fq_name": ["vm"]}`)
	port := func(name, network string) string {
		return b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}]}`, name, network))
	}
	one, two, foreign, routerPort := port("one", vn), port("two", vn), port("foreign", other), port("router", vn)
	b.json("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-machine-interface", "uuid": %q, "ref-type": "virtual-machine", "ref-uuid": %q, "operation": "ADD"}`, one, vm))
	_, ip := b.ip(vn, fmt.Sprintf(`"instance_ip_mode": "active-standby", "virtual_machine_interface_refs": [{"uuid": %q}, {"uuid": %q}]`, one, two))
	if refs := b.get("instance-ip", ip)["virtual_machine_interface_refs"].([]any); len(refs) != 2 {
		t.Errorf("%d interfaces share the address", len(refs))
	}
	before := b.dump()
	refUpdate := func(kind, from, to string) string {
		return fmt.Sprintf(`{"type": %q, "uuid": %q, "ref-type": "virtual-machine-interface", "ref-uuid": %q, "operation": "ADD"}`, kind, from, to)
	}
	b.denies("POST", "/ref-update", refUpdate("instance-ip", ip, foreign), 400, "is not in virtual-network default-domain:p:blue")
	b.denies("POST", "/instance-ips", ipJSON(vn, fmt.Sprintf(`"virtual_machine_interface_refs": [{"uuid": %q}]`, foreign)), 400, "is not in virtual-network")
	b.denies("POST", "/instance-ips", ipJSON(vn, fmt.Sprintf(`"instance_ip_address": "10.1.0.1", "virtual_machine_interface_refs": [{"uuid": %q}]`, one)), 400, "Gateway IP cannot be used by VM port")
	b.denies("PUT", "/instance-ip/"+ip, `{"instance-ip": {"instance_ip_address": "10.1.0.9"}}`, 400, "Instance IP Address can not be changed")
	b.denies("PUT", "/instance-ip/"+ip, fmt.Sprintf(`{"instance-ip": {"virtual_network_refs": [{"uuid": %q}]}}`, other), 400, "the network of an instance-ip can not be changed")
	b.unchanged(before)

	// The port of a router has the gateway's address, and gets no machine then.
	a, gateway := b.ip(vn, fmt.Sprintf(`"instance_ip_address": "10.1.0.1", "virtual_machine_interface_refs": [{"uuid": %q}]`, routerPort))
	if a != "10.1.0.1" {
		t.Errorf("the router got %s", a)
	}
	b.denies("POST", "/ref-update", refUpdate("instance-ip", gateway, one), 400, "Gateway IP cannot be used by VM port")
	b.denies("POST", "/ref-update", fmt.Sprintf(`{"type": "virtual-machine-interface", "uuid": %q, "ref-type": "virtual-machine", "ref-uuid": %q, "operation": "ADD"}`, routerPort, vm), 400, "Gateway IP cannot be used by VM port")
	b.json("DELETE", "/instance-ip/"+gateway, "")

	// The underlay has no subnets; nodes name their own addresses.
	fabric := b.json("POST", "/fqname-to-id", `{"type": "virtual-network", "fq_name": ["default-domain", "default-project", "ip-fabric"]}`)["uuid"].(string)
	if a, _ := b.ip(fabric, `"instance_ip_address": "172.31.0.11"`); a != "172.31.0.11" {
		t.Errorf("vhost0 got %s", a)
	}
	b.denies("POST", "/instance-ips", ipJSON(fabric, `"instance_ip_address": "172.31.0.11"`), 409, "IP address already in use")
}

func TestFloatingAndAlias(t *testing.T) {
	b := newBench(t, testConfig())
	b.networkWith("public", subnetJSON("198.51.100.0/29", `"addr_from_start": true`)+","+subnetJSON("203.0.113.0/29", `"addr_from_start": true, "subnet_uuid": "00000000-0000-4000-8000-00000000000a"`)+","+subnetJSON("fd00::/64", `"addr_from_start": true`))
	vn := b.networkWith("blue", subnetJSON("10.1.0.0/24", `"addr_from_start": true`))
	pool := b.create("floating-ip-pool", `{"fq_name": ["default-domain", "p", "public", "pool"]}`)
	small := b.create("floating-ip-pool", `{"fq_name": ["default-domain", "p", "public", "small"], "floating_ip_pool_subnets": {"subnet_uuid": ["00000000-0000-4000-8000-00000000000a"]}}`)
	b.create("alias-ip-pool", `{"fq_name": ["default-domain", "p", "public", "aliases"]}`)
	vmi := b.create("virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", "p", "i"], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}]}`, vn))
	fixed, ip := b.ip(vn, fmt.Sprintf(`"virtual_machine_interface_refs": [{"uuid": %q}]`, vmi))
	floating := func(pool, name, more string) string {
		if more != "" {
			more = ", " + more
		}
		return fmt.Sprintf(`{"fq_name": ["default-domain", "p", "public", %q, %q], "parent_type": "floating-ip-pool"%s}`, pool, name, more)
	}
	address := func(kind, id string) any { return b.get(kind, id)[strings.ReplaceAll(kind, "-", "_")+"_address"] }
	first := b.create("floating-ip", floating("pool", "a", fmt.Sprintf(`"floating_ip_fixed_ip_address": %q, "virtual_machine_interface_refs": [{"uuid": %q}]`, fixed, vmi)))
	if a := address("floating-ip", first); a != "198.51.100.3" {
		t.Errorf("floating %v", a)
	}
	if a := address("floating-ip", b.create("floating-ip", floating("small", "b", ""))); a != "203.0.113.3" {
		t.Errorf("floating of the small pool %v", a)
	}
	if a := address("floating-ip", b.create("floating-ip", floating("pool", "c", `"floating_ip_address_family": "v6"`))); a != "fd00::3" {
		t.Errorf("floating IPv6 %v", a)
	}
	alias := b.create("alias-ip", `{"fq_name": ["default-domain", "p", "public", "aliases", "a"]}`)
	if a := address("alias-ip", alias); a != "198.51.100.4" {
		t.Errorf("alias %v", a)
	}
	under := b.create("floating-ip", `{"fq_name": ["`+b.get("instance-ip", ip)["name"].(string)+`", "vip"], "parent_type": "instance-ip"}`)
	if a := address("floating-ip", under); a != fixed {
		t.Errorf("floating under an instance-ip has %v, want %s", a, fixed)
	}
	before := b.dump()
	post := func(body string, status int, text string) {
		t.Helper()
		b.denies("POST", "/floating-ips", `{"floating-ip": `+body+`}`, status, text)
	}
	post(floating("pool", "x", `"floating_ip_address": "198.51.100.4"`), 409, "IP address already in use: 198.51.100.4 of default-domain:p:public; held by alias-ip/"+alias)
	post(floating("pool", "x", `"floating_ip_address": "10.1.0.9"`), 400, "Virtual-Network(default-domain:p:public) has invalid subnet(10.1.0.9)")
	post(floating("small", "x", `"floating_ip_address": "198.51.100.5"`), 400, "has invalid subnet(198.51.100.5)")
	post(floating("pool", "x", `"floating_ip_address": "198.51.100.1"`), 400, "Gateway IP cannot be used")
	post(floating("pool", "x", fmt.Sprintf(`"floating_ip_fixed_ip_address": "10.1.0.99", "virtual_machine_interface_refs": [{"uuid": %q}]`, vmi)), 400, "10.1.0.99 is no address of virtual-machine-interface "+vmi)
	post(`{"fq_name": ["`+b.get("instance-ip", ip)["name"].(string)+`", "x"], "parent_type": "instance-ip", "floating_ip_address": "10.1.0.99"}`, 400, "is not that of the instance-ip above it")
	b.denies("PUT", "/floating-ip/"+first, `{"floating-ip": {"floating_ip_address": "198.51.100.6"}}`, 400, "floating_ip_address can not be changed")
	b.denies("PUT", "/floating-ip/"+first, `{"floating-ip": {"floating_ip_fixed_ip_address": "10.1.0.99"}}`, 400, "is no address of virtual-machine-interface")
	b.denies("PUT", "/alias-ip/"+alias, `{"alias-ip": {"alias_ip_address": "198.51.100.6"}}`, 400, "alias_ip_address can not be changed")
	b.denies("DELETE", "/instance-ip/"+ip, "", 409, "Delete when children still present")
	b.unchanged(before)
	b.json("PUT", "/floating-ip-pool/"+small, `{"floating-ip-pool": {"floating_ip_pool_subnets": {"subnet_uuid": ["00000000-0000-4000-8000-00000000000f"]}}}`)
	post(floating("small", "x", ""), 400, "has invalid subnet(00000000-0000-4000-8000-00000000000f)")

	// What is deleted rests; what shares an address does not give it back.
	b.json("DELETE", "/floating-ip/"+under, "")
	b.json("DELETE", "/floating-ip/"+first, "")
	b.json("DELETE", "/alias-ip/"+alias, "")
	keys := b.dump()
	if _, ok := keys["ip/default-domain:p:blue/10.1.0.3"]; !ok {
		t.Error("the instance-ip lost its address with the floating-ip under it")
	}
	for _, a := range []string{"198.51.100.3", "198.51.100.4"} {
		if list, err := b.store.List(b.ctx(), "rest/ip/default-domain:p:public/"); err != nil || !slices.ContainsFunc(list, func(e store.Entry) bool { return strings.HasSuffix(string(e.Key), a) }) {
			t.Errorf("%s does not rest (%v)", a, err)
		}
	}
	b.denies("DELETE", "/floating-ip-pool/"+pool, "", 409, "Delete when children still present")
}

func TestIPAlloc(t *testing.T) {
	b := newBench(t, testConfig())
	vn := b.networkWith("blue", subnetJSON("10.1.0.0/28", `"addr_from_start": true`)+","+subnetJSON("fd00::/64", `"addr_from_start": true, "subnet_uuid": "00000000-0000-4000-8000-00000000000a"`))
	empty := b.networkWith("empty", "")
	at := "/virtual-network/" + vn
	alloc := func(body string) []string {
		var out []string
		for _, a := range b.json("POST", at+"/ip-alloc", body)["ip_addr"].([]any) {
			out = append(out, a.(string))
		}
		return out
	}
	if got := alloc(`{"count": 2}`); !slices.Equal(got, []string{"10.1.0.3", "10.1.0.4"}) {
		t.Errorf("got %v", got)
	}
	if got := alloc(`{"family": "v6"}`); !slices.Equal(got, []string{"fd00::3"}) {
		t.Errorf("got %v", got)
	}
	if got := alloc(`{"subnet": "00000000-0000-4000-8000-00000000000a"}`); !slices.Equal(got, []string{"fd00::4"}) {
		t.Errorf("got %v", got)
	}
	used, ip := b.ip(vn, "")
	count := b.json("POST", at+"/subnet-ip-count", `{"subnet_list": ["10.1.0.0/28", "fd00::/64"]}`)["ip_count_list"]
	if fmt.Sprint(count) != "[3 2]" {
		t.Errorf("counts %v, want [3 2]", count)
	}
	list, err := b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true})
	if err != nil || len(list.Allocated) != 4 || list.Allocated[0].Address != "10.1.0.3" || list.Allocated[0].NetworkId != vn {
		t.Errorf("allocated are %v (%v)", list.Allocated, err)
	}
	before := b.dump()
	b.denies("POST", "/virtual-network/"+model.NewUUID()+"/ip-alloc", `{}`, 404, "No virtual-network object found")
	b.denies("POST", "/virtual-network/"+empty+"/ip-alloc", `{}`, 404, "has no defined subnets")
	b.denies("POST", at+"/ip-alloc", `{"count": 20}`, 409, "has exhausted subnet(10.1.0.0/28)")
	b.denies("POST", at+"/ip-alloc", `{"count": 0}`, 400, "count 0: want 1 to 256")
	b.denies("POST", at+"/ip-alloc", `{"family": "v5"}`, 400, "family")
	b.denies("POST", at+"/ip-alloc", `{"subnet": "x"}`, 400, "has invalid subnet(x)")
	b.denies("POST", at+"/ip-free", `{"ip_addr": ["`+used+`"]}`, 409, "was not given by ip-alloc of this network; delete what has it; held by instance-ip/"+ip)
	b.denies("POST", at+"/ip-free", `{"ip_addr": ["10.2.0.1"]}`, 400, "has invalid subnet(10.2.0.1)")
	b.denies("POST", at+"/ip-free", `{"ip_addr": ["x"]}`, 400, "is no address")
	b.denies("POST", at+"/subnet-ip-count", `{"subnet_list": ["10.2.0.0/24"]}`, 400, "has invalid subnet(10.2.0.0/24)")
	b.denies("POST", "/instance-ips", ipJSON(vn, `"instance_ip_address": "10.1.0.3"`), 409, "IP address already in use: 10.1.0.3 of default-domain:p:blue; held by virtual-network/"+vn)
	b.denies("PUT", at, `{"virtual-network": {"network_ipam_refs": []}}`, 409, "is in use")
	b.unchanged(before)
	b.json("DELETE", "/instance-ip/"+ip, "")
	b.denies("DELETE", at, "", 409, "address 10.1.0.3 of virtual-network default-domain:p:blue is in use by ip-alloc")
	for range 2 { // what is free already is fine
		b.json("POST", at+"/ip-free", `{"ip_addr": ["10.1.0.3", "10.1.0.4", "fd00::3", "fd00::4", "10.1.0.9"]}`)
	}
	b.json("DELETE", at, "")
	for k := range b.dump() {
		if strings.HasPrefix(string(k), "ip/") || strings.HasPrefix(string(k), "alloc/") {
			t.Errorf("left behind: %s", k)
		}
	}
}
