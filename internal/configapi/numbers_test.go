package configapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestSecurityGroupNumbers(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	group := func(name, more string) string {
		return b.create("security-group", fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q]%s}`, name, more))
	}
	number := func(id string) float64 { return b.get("security-group", id)["security_group_id"].(float64) }
	auto := group("auto", "")
	if n := number(auto); n < firstSecurityGroup {
		t.Errorf("automatic number %v", n)
	}
	five := group("five", `, "configured_security_group_id": 5`)
	if n := number(five); n != 5 {
		t.Errorf("configured number %v, want 5", n)
	}
	before := b.dump()
	b.denies("POST", "/security-groups", `{"security-group": {"fq_name": ["default-domain", "p", "x"], "configured_security_group_id": 5}}`, 409, "configured_security_group_id 5 is in use; choose another; held by security-group/"+five)
	b.denies("POST", "/security-groups", `{"security-group": {"fq_name": ["default-domain", "p", "x"], "configured_security_group_id": 8000000}}`, 400, "configured_security_group_id")
	b.denies("PUT", "/security-group/"+auto, `{"security-group": {"configured_security_group_id": 5}}`, 409, "is in use")
	b.denies("PUT", "/security-group/"+auto, `{"security-group": {"security_group_id": 9000000}}`, 403, "Cannot set the security group ID")
	b.unchanged(before)
	b.json("PUT", "/security-group/"+five, `{"security-group": {"configured_security_group_id": 6}}`)
	six := group("again", `, "configured_security_group_id": 5`) // what rests is given to whoever asks
	if number(five) != 6 || number(six) != 5 {
		t.Errorf("numbers %v and %v, want 6 and 5", number(five), number(six))
	}
	b.json("PUT", "/security-group/"+five, `{"security-group": {"configured_security_group_id": 0}}`)
	if n := number(five); n < firstSecurityGroup || n == number(auto) {
		t.Errorf("number %v after it was cleared", n)
	}
	for _, id := range []string{auto, five, six} {
		b.json("DELETE", "/security-group/"+id, "")
	}
	b.noneOf("number/security-group/", 1) // that of __no_rule__
}

// noneOf demands that so many keys of a range are left.
func (b *bench) noneOf(prefix string, want int) {
	b.Helper()
	n := 0
	for k := range b.dump() {
		if strings.HasPrefix(string(k), prefix) {
			n++
		}
	}
	if n != want {
		b.Errorf("%d keys %s, want %d", n, prefix, want)
	}
}

func TestVXLANNumbers(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	network := func(name string, vni int) string {
		return fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q], "virtual_network_properties": {"vxlan_network_identifier": %d}}`, name, vni)
	}
	router := func(name, vni string) string {
		return fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q], "parent_type": "project", "vxlan_network_identifier": %q}`, name, vni)
	}
	vn := b.create("virtual-network", network("blue", 100))
	lr := b.create("logical-router", router("r", "200"))
	before := b.dump()
	b.denies("POST", "/virtual-networks", `{"virtual-network": `+network("red", 100)+`}`, 409, "vxlan_network_identifier 100 is in use; choose another; held by virtual-network/"+vn)
	b.denies("POST", "/virtual-networks", `{"virtual-network": `+network("red", 200)+`}`, 409, "held by logical-router/"+lr)
	b.denies("POST", "/virtual-networks", `{"virtual-network": `+network("red", 1<<24)+`}`, 400, "vxlan_network_identifier")
	b.denies("POST", "/logical-routers", `{"logical-router": `+router("s", "100")+`}`, 409, "is in use")
	b.denies("POST", "/logical-routers", `{"logical-router": `+router("s", "x")+`}`, 400, `vxlan_network_identifier "x" is no number from 1 to 16777215`)
	b.unchanged(before)
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"virtual_network_properties": {"vxlan_network_identifier": 101, "forwarding_mode": "l3"}}}`)
	b.json("PUT", "/logical-router/"+lr, `{"logical-router": {"vxlan_network_identifier": "100"}}`)
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {"virtual_network_properties": null}}`)
	b.noneOf("number/vxlan/", 1)
	b.json("DELETE", "/logical-router/"+lr, "")
	b.json("DELETE", "/virtual-network/"+vn, "")
	b.noneOf("number/vxlan/", 0)
}

func TestRouteTargetRange(t *testing.T) {
	b := newBench(t, testConfig())
	b.create("project", `{"fq_name": ["default-domain", "p"]}`)
	system := b.json("POST", "/fqname-to-id", `{"type": "global-system-config", "fq_name": ["default-global-system-config"]}`)["uuid"].(string)
	with := func(field, target string) string {
		return fmt.Sprintf(`%q: {"route_target": [%q]}`, field, target)
	}
	vn := b.create("virtual-network", `{"fq_name": ["default-domain", "p", "blue"], `+with("route_target_list", "target:64512:7999999")+`, `+with("import_route_target_list", "target:65000:8000009")+`}`)
	before := b.dump()
	const text = "Configured route target must use ASN that is different from global ASN or route target value must be less than 8000000: target:64512:8000001"
	for _, field := range []string{"route_target_list", "import_route_target_list", "export_route_target_list"} {
		b.denies("PUT", "/virtual-network/"+vn, `{"virtual-network": {`+with(field, "target:64512:8000001")+`}}`, 400, text)
		b.denies("POST", "/bgpvpns", `{"bgpvpn": {"fq_name": ["default-domain", "p", "x"], `+with(field, "target:64512:8000001")+`}}`, 400, text)
	}
	b.denies("POST", "/virtual-networks", `{"virtual-network": {"fq_name": ["default-domain", "p", "x"], `+with("route_target_list", "target:64512:8000001")+`}}`, 400, text)
	b.denies("POST", "/logical-routers", `{"logical-router": {"fq_name": ["default-domain", "p", "x"], "parent_type": "project", `+with("configured_route_target_list", "target:64512:8000001")+`}}`, 400, text)
	b.denies("POST", "/route-targets", `{"route-target": {"fq_name": ["target:64512:8999999"]}}`, 400, "route target value must be less than 8000000: target:64512:8999999")
	b.denies("PUT", "/global-system-config/"+system, `{"global-system-config": {"autonomous_system": 65000}}`, 400, "virtual-network default-domain:p:blue is configured with route target target:65000:8000009")
	b.unchanged(before)

	// A 4-byte number of the autonomous system leaves 16 bits for the network's.
	b.json("PUT", "/global-system-config/"+system, `{"global-system-config": {"autonomous_system": 4200000000}}`)
	number := int(b.get("virtual-network", vn)["virtual_network_network_id"].(float64))
	b.json("POST", "/fqname-to-id", fmt.Sprintf(`{"type": "route-target", "fq_name": ["target:4200000000:%d"]}`, 8000+number))
	b.denies("PUT", "/virtual-network/"+vn, `{"virtual-network": {`+with("route_target_list", "target:4200000000:8001")+`}}`, 400, "must be less than 8000")
	b.json("PUT", "/virtual-network/"+vn, `{"virtual-network": {`+with("route_target_list", "target:4200000000:7999")+`}}`)
	b.json("PUT", "/global-system-config/"+system, `{"global-system-config": {"autonomous_system": 64512}}`)
	_, err := b.api.write(b.ctx(), audit{"test", ""}, func(c *change) error {
		project, _ := c.v.ByName(model.KindProject, []string{"default-domain", "p"})
		m, err := c.meta(model.NewUUID(), project, "default-domain", "p", "high")
		c.CreateObject(&model.VirtualNetwork{Meta: m, VirtualNetworkNetworkID: new(int64(57536))})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.denies("PUT", "/global-system-config/"+system, `{"global-system-config": {"autonomous_system": 4200000000}}`, 400, "virtual-network default-domain:p:high has number 57536")
}

// TestStrangersVPN: by the rules of a new cluster nobody joins the networks of
// another project by writing its route targets into a VPN of his own, or by
// referring to a VPN that is not his.
func TestStrangersVPN(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	list := `{"route_target": ["target:1:1"]}`
	theirs := b.create("bgpvpn", `{"fq_name": ["default-domain", "p2", "vpn"], "route_target_list": `+list+`}`)
	own := `{"bgpvpn": {"fq_name": ["default-domain", "p1", "vpn"], "parent_type": "project"}}`
	status, text := b.callAs(admin1, "POST", "/bgpvpns", own)
	if status != 200 {
		t.Fatalf("a VPN without targets: %d %s", status, text)
	}
	vpn := b.json("POST", "/fqname-to-id", `{"type": "bgpvpn", "fq_name": ["default-domain", "p1", "vpn"]}`)["uuid"].(string)
	before := b.dump()
	for _, field := range []string{"route_target_list", "import_route_target_list", "export_route_target_list"} {
		if status, text := b.callAs(admin1, "PUT", "/bgpvpn/"+vpn, fmt.Sprintf(`{"bgpvpn": {%q: %s}}`, field, list)); status != 403 || !strings.Contains(text, field) {
			t.Errorf("%s: %d %s", field, status, text)
		}
		made := fmt.Sprintf(`{"bgpvpn": {"fq_name": ["default-domain", "p1", "other"], "parent_type": "project", %q: %s}}`, field, list)
		if status, text := b.callAs(admin1, "POST", "/bgpvpns", made); status != 403 {
			t.Errorf("made with %s: %d %s", field, status, text)
		}
	}
	refer := `{"type": "virtual-network", "uuid": "` + ids["p1/virtual-network"] + `", "ref-type": "bgpvpn", "ref-uuid": "` + theirs + `", "operation": "ADD"}`
	if status, text := b.callAs(admin1, "POST", "/ref-update", refer); status != 404 {
		t.Errorf("a reference to the VPN of others: %d %s", status, text)
	}
	b.unchanged(before)
}

func TestMACAddresses(t *testing.T) {
	b := newBench(t, testConfig())
	vn, other := b.networkWith("blue", ""), b.networkWith("red", "")
	port := func(name, network, mac string) string {
		return fmt.Sprintf(`{"fq_name": ["default-domain", "p", %q], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}],
			"virtual_machine_interface_mac_addresses": {"mac_address": [%q]}}`, name, network, mac)
	}
	one := b.create("virtual-machine-interface", port("one", vn, "02:00:00:00:00:01"))
	elsewhere := b.create("virtual-machine-interface", port("elsewhere", other, "02:00:00:00:00:01"))
	two := b.create("virtual-machine-interface", port("two", vn, "02:00:00:00:00:02"))
	before := b.dump()
	post := func(mac string, status int, text string) {
		t.Helper()
		b.denies("POST", "/virtual-machine-interfaces", `{"virtual-machine-interface": `+port("x", vn, mac)+`}`, status, text)
	}
	post("02-00-00-00-00-01", 409, "MAC address 02:00:00:00:00:01 is already in use in virtual-network "+vn+"; choose another or leave it out; held by virtual-machine-interface/"+one)
	post("fish", 400, "want a MAC address such as 02:00:00:00:00:01")
	post("01:00:5e:00:00:01", 400, "is a group's or nobody's address")
	post("00:00:00:00:00:00", 400, "is a group's or nobody's address")
	b.denies("PUT", "/virtual-machine-interface/"+two, `{"virtual-machine-interface": {"virtual_machine_interface_mac_addresses": {"mac_address": ["02:00:00:00:00:01"]}}}`, 409, "MAC address 02:00:00:00:00:01 is already in use")
	b.denies("PUT", "/virtual-machine-interface/"+elsewhere, `{"virtual-machine-interface": {"virtual_network_refs": [{"uuid": "`+vn+`"}]}}`, 409, "MAC address 02:00:00:00:00:01 is already in use")
	b.unchanged(before)
	b.json("PUT", "/virtual-machine-interface/"+one, `{"virtual-machine-interface": {"virtual_machine_interface_mac_addresses": {"mac_address": ["02:00:00:00:00:03"]}}}`)
	b.json("PUT", "/virtual-machine-interface/"+two, `{"virtual-machine-interface": {"virtual_machine_interface_mac_addresses": {"mac_address": ["02:00:00:00:00:01"]}}}`)
	for _, id := range []string{one, two, elsewhere} {
		b.json("DELETE", "/virtual-machine-interface/"+id, "")
	}
	b.noneOf("mac/", 0)
}
