package dataplane

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// The layout of the pinned maps: bpf/types.h asserts the same sizes. Whoever
// has to change a number here needs a new layout version of the map.
func TestLayoutOfSharedStructs(t *testing.T) {
	sizes := []struct {
		name      string
		got, want uintptr
	}{
		{"addr", unsafe.Sizeof(bpfAddr{}), 16},
		{"next_hop", unsafe.Sizeof(bpfNextHop{}), 32},
		{"flow.role", unsafe.Offsetof(bpfFlow{}.Role), 66},
		{"flow.policy", unsafe.Offsetof(bpfFlow{}.Policy), 100},
		{"identity", unsafe.Sizeof(bpfIdentity{}), 512},
		{"identity.values", unsafe.Offsetof(bpfIdentity{}.Values), 8},
		{"port_policy", unsafe.Sizeof(bpfPortPolicy{}), 20},
		{"fragment_key", unsafe.Sizeof(bpfFragmentKey{}), 40},
		{"fragment", unsafe.Sizeof(bpfFragment{}), 8},
		{"fragment6_key", unsafe.Sizeof(bpfFragment6Key{}), 44},
		{"fragment6", unsafe.Sizeof(bpfFragment6{}), 8},
		{"gateways", unsafe.Sizeof(bpfGateways{}), 4 + 16*MaxGateways},
		{"limit", unsafe.Sizeof(bpfLimit{}), 40},
		{"limit.cost", unsafe.Offsetof(bpfLimit{}.Cost), 8},
		{"flow.limits", unsafe.Offsetof(bpfFlow{}.Limits), 113},
		{"policy_row", unsafe.Sizeof(policyRow{}), 32},
		{"next_hop.identity", unsafe.Offsetof(bpfNextHop{}.Identity), 12},
		{"route", unsafe.Sizeof(bpfRoute{}), 16},
		{"route.identity", unsafe.Offsetof(bpfRoute{}.Identity), 12},
		{"route.label", unsafe.Offsetof(bpfRoute{}.Label), 4},
		{"ecmp", unsafe.Sizeof(bpfEcmp{}), 1540},
		{"ecmp_member_key", unsafe.Sizeof(bpfEcmpMemberKey{}), 24},
		{"ecmp.slot", unsafe.Offsetof(bpfEcmp{}.Slot), 4},
		{"ecmp.member", unsafe.Offsetof(bpfEcmp{}.Member), 260},
		{"next_hop.encap", unsafe.Offsetof(bpfNextHop{}.Encap), 1},
		{"next_hop.ifindex", unsafe.Offsetof(bpfNextHop{}.Ifindex), 4},
		{"receiver_mac", unsafe.Sizeof(bpfReceiverMac{}), 8},
		{"next_hop.remote", unsafe.Offsetof(bpfNextHop{}.Remote), 16},
		{"vif", unsafe.Sizeof(bpfVif{}), 52},
		{"vif.mac", unsafe.Offsetof(bpfVif{}.Mac), 12},
		{"vif.blocked", unsafe.Offsetof(bpfVif{}.Blocked), 18},
		{"vif.primary", unsafe.Offsetof(bpfVif{}.Primary), 20},
		{"vif.name", unsafe.Offsetof(bpfVif{}.Name), 36},
		{"port_addr_key", unsafe.Sizeof(bpfPortAddrKey{}), 20},
		{"host_route_key", unsafe.Sizeof(bpfHostRouteKey{}), 20},
		{"route_key", unsafe.Sizeof(bpfRouteKey{}), 24},
		{"route_key.vrf", unsafe.Offsetof(bpfRouteKey{}.Vrf), 4},
		{"route_key.addr", unsafe.Offsetof(bpfRouteKey{}.Addr), 8},
		{"flow_key", unsafe.Sizeof(bpfFlowKey{}), 44},
		{"flow_key.dst", unsafe.Offsetof(bpfFlowKey{}.Dst), 16},
		{"flow_key.scope", unsafe.Offsetof(bpfFlowKey{}.Scope), 32},
		{"flow_key.sport", unsafe.Offsetof(bpfFlowKey{}.Sport), 36},
		{"flow_key.proto", unsafe.Offsetof(bpfFlowKey{}.Proto), 40},
		{"flow", unsafe.Sizeof(bpfFlow{}), 120},
		{"flow.answered", unsafe.Offsetof(bpfFlow{}.Answered), 112},
		{"flow.nat_sport", unsafe.Offsetof(bpfFlow{}.NatSport), 116},
		{"flow.fabric", unsafe.Offsetof(bpfFlow{}.Fabric), 114},
		{"link_local_key", unsafe.Sizeof(bpfLinkLocalKey{}), 8},
		{"link_local.port", unsafe.Offsetof(bpfLinkLocal{}.Port), 36},
		{"refused_key", unsafe.Sizeof(bpfRefusedKey{}), 8},
		{"bgp_service", unsafe.Sizeof(bpfBgpService{}), 8},
		{"flow_event", unsafe.Sizeof(bpfFlowEvent{}), 176},
		{"flow_event.key", unsafe.Offsetof(bpfFlowEvent{}.Key), 128},
		{"flow_count", unsafe.Sizeof(bpfFlowCount{}), 8},
		{"node.flow_share", unsafe.Offsetof(bpfNode{}.FlowShare), 4},
		{"flow.generation", unsafe.Offsetof(bpfFlow{}.Generation), 32},
		{"flow.slot", unsafe.Offsetof(bpfFlow{}.Slot), 44},
		{"flow.smac", unsafe.Offsetof(bpfFlow{}.Smac), 52},
		{"flow.nat_src", unsafe.Offsetof(bpfFlow{}.NatSrc), 104},
		{"foreign", unsafe.Sizeof(bpfForeign{}), 260},
		{"flow.nh", unsafe.Offsetof(bpfFlow{}.Nh), 68},
		{"bridge", unsafe.Sizeof(bpfBridge{}), 12 + 8*MaxRemotes},
		{"bridge.remote", unsafe.Offsetof(bpfBridge{}.Remote), 12},
		{"bridge_ports", unsafe.Sizeof(bpfBridgePorts{}), 4 + 4*MaxBridgePorts},
		{"bridge_member", unsafe.Sizeof(bpfBridgeMember{}), 8},
		{"mac_key", unsafe.Sizeof(bpfMacKey{}), 12},
		{"node", unsafe.Sizeof(bpfNode{}), 16},
		{"counters", unsafe.Sizeof(bpfCounters{}), 32},
		{"probe", unsafe.Sizeof(bpfProbe{}), 12},
		{"probe_key", unsafe.Sizeof(bpfProbeKey{}), 20},
		{"prober.mac", unsafe.Offsetof(bpfProber{}.Mac), 12},
		{"drop_key", unsafe.Sizeof(bpfDropKey{}), 8},
		{"drop_count", unsafe.Sizeof(bpfDropCount{}), 16},
	}
	for _, s := range sizes {
		if s.got != s.want {
			t.Errorf("%s is at or has %d bytes, want %d", s.name, s.got, s.want)
		}
	}
}

func TestLayoutOfMaps(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	maps := map[string]struct{ key, value uintptr }{
		bpfMapVifV1:            {4, unsafe.Sizeof(bpfVif{})},
		bpfMapForeignAddrV1:    {unsafe.Sizeof(bpfPortAddrKey{}), unsafe.Sizeof(bpfForeignAddr{})},
		bpfMapForeignV1:        {4, unsafe.Sizeof(bpfForeign{})},
		bpfMapGatewayV1:        {4, unsafe.Sizeof(bpfGateways{})},
		bpfMapBgpServiceV1:     {unsafe.Sizeof(bpfBgpServiceKey{}), unsafe.Sizeof(bpfBgpService{})},
		bpfMapLinkLocalV1:      {unsafe.Sizeof(bpfLinkLocalKey{}), unsafe.Sizeof(bpfLinkLocal{})},
		bpfMapSnatV1:           {4, 4},
		bpfMapFabricRefusedV1:  {unsafe.Sizeof(bpfRefusedKey{}), 4},
		bpfMapFabricProgramsV1: {4, 4},
		bpfMapPortAddrV1:       {unsafe.Sizeof(bpfPortAddrKey{}), 4},
		bpfMapLabelV1:          {4, 4},
		bpfMapVniV1:            {4, 4},
		bpfMapNextHopMacV1:     {4, unsafe.Sizeof(bpfReceiverMac{})},
		bpfMapHostRouteV2:      {unsafe.Sizeof(bpfHostRouteKey{}), unsafe.Sizeof(bpfRoute{})},
		bpfMapRouteV2:          {unsafe.Sizeof(bpfRouteKey{}), unsafe.Sizeof(bpfRoute{})},
		bpfMapNextHopV1:        {4, unsafe.Sizeof(bpfNextHop{})},
		bpfMapEcmpV1:           {4, unsafe.Sizeof(bpfEcmp{})},
		bpfMapEcmpMemberV1:     {unsafe.Sizeof(bpfEcmpMemberKey{}), unsafe.Sizeof(bpfRoute{})},
		bpfMapFlowV3:           {unsafe.Sizeof(bpfFlowKey{}), unsafe.Sizeof(bpfFlow{})},
		bpfMapNodeV1:           {4, unsafe.Sizeof(bpfNode{})},
		bpfMapFlowMadeV2:       {4, unsafe.Sizeof(bpfFlowCount{})},
		bpfMapFlowGoneV2:       {4, unsafe.Sizeof(bpfFlowCount{})},
		bpfMapCounterV1:        {4, unsafe.Sizeof(bpfCounters{})},
		bpfMapLimitV1:          {4, unsafe.Sizeof(bpfLimit{})},
		bpfMapDropV1:           {unsafe.Sizeof(bpfDropKey{}), unsafe.Sizeof(bpfDropCount{})},

		bpfMapBridgeV1:         {4, unsafe.Sizeof(bpfBridge{})},
		bpfMapBridgePortsV1:    {4, unsafe.Sizeof(bpfBridgePorts{})},
		bpfMapBridgeMemberV1:   {unsafe.Sizeof(bpfBridgeMember{}), 4},
		bpfMapBridgeProgramsV1: {4, 4},
		bpfMapMacV1:            {unsafe.Sizeof(bpfMacKey{}), unsafe.Sizeof(bpfRoute{})},
		bpfMapFloodPaidV1:      {4, 8},

		bpfMapIdentityV1:         {4, unsafe.Sizeof(bpfIdentity{})},
		bpfMapPortPolicyV1:       {4, unsafe.Sizeof(bpfPortPolicy{})},
		bpfMapPolicySetV1:        {4, 4},
		bpfMapPolicyGenerationV1: {4, 4},
		bpfMapRuleCountV1:        {4, 8},
		bpfMapProbeV1:            {4, unsafe.Sizeof(bpfProbe{})},
		bpfMapProbeAnswerV1:      {unsafe.Sizeof(bpfProbeKey{}), unsafe.Sizeof(bpfProber{})},
		bpfMapFragmentV1:         {unsafe.Sizeof(bpfFragmentKey{}), unsafe.Sizeof(bpfFragment{})},
		bpfMapFragment6V1:        {unsafe.Sizeof(bpfFragment6Key{}), unsafe.Sizeof(bpfFragment6{})},
	}
	for name, m := range spec.Maps {
		if isScratch(name) {
			continue
		}
		want, ok := maps[name]
		if !ok {
			t.Errorf("map %s is not in this test", name)
		} else if uintptr(m.KeySize) != want.key || uintptr(m.ValueSize) != want.value {
			t.Errorf("map %s has a key of %d and a value of %d bytes, want %d and %d",
				name, m.KeySize, m.ValueSize, want.key, want.value)
		}
	}
}

func TestDropReasonsAgreeWithHeader(t *testing.T) {
	out := filepath.Join(t.TempDir(), "drop_reasons.go")
	gen := exec.Command("go", "run", "./gendrops", "bpf/drop_reasons.h", out)
	if msg, err := gen.CombinedOutput(); err != nil {
		t.Fatalf("generate: %v: %s", err, msg)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("drop_reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("drop_reasons.go is not what bpf/drop_reasons.h says: run go generate")
	}
}

func drawAddr(t *rapid.T) netip.Addr {
	size := rapid.SampledFrom([]int{4, 16}).Draw(t, "family")
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "address"))
	return a.Unmap()
}

func TestRouteKeysRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := RouteKey{
			VRF: rapid.Uint32Min(1).Draw(t, "vrf"),
		}
		a := drawAddr(t)
		key.Prefix = netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
		if got := fromRouteKey(toRouteKey(key)); got != key {
			t.Fatalf("trie key of %s reads as %s", key, got)
		}
		if a.IsUnspecified() && a.Is6() {
			return // is no host
		}
		key.Prefix = netip.PrefixFrom(a, a.BitLen())
		if got := fromHostRouteKey(toHostRouteKey(key)); got != key {
			t.Fatalf("host key of %s reads as %s", key, got)
		}
	})
}

func TestBadInputNamesTheField(t *testing.T) {
	good := Port{
		IfIndex: 1, Name: "tap1", VRF: 1, Label: 16, MAC: MAC{2, 0, 0, 0, 0, 1},
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	ports := map[string]func(*Port){
		"ifindex":   func(p *Port) { p.IfIndex = 0 },
		"name":      func(p *Port) { p.Name = "sixteen-letters-" },
		"vrf":       func(p *Port) { p.VRF = 0 },
		"label":     func(p *Port) { p.Label = 15 },
		"mac":       func(p *Port) { p.MAC = MAC{1} },
		"addresses": func(p *Port) { p.Addresses = nil },
		"address":   func(p *Port) { p.Addresses = []netip.Addr{netip.MustParseAddr("fe80::1")} },
		"gateway":   func(p *Port) { p.Gateways = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} },
	}
	for field, spoil := range ports {
		p := good
		spoil(&p)
		if err := p.validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(field)) {
			t.Errorf("port with a bad %s: error is %v", field, err)
		}
	}
	far := netip.MustParseAddr("1.2.3.4")
	hops := map[string]NextHop{
		"MPLSoUDP takes only":   {Kind: Tunnel, Remote: far, Label: 16, VNI: 1},
		"vni 16777216":          {Kind: Tunnel, Remote: far, Encapsulation: VXLAN, VNI: 1 << 24},
		"vni 0":                 {Kind: Tunnel, Remote: far, Encapsulation: VXLAN},
		"VXLAN takes only":      {Kind: Tunnel, Remote: far, Encapsulation: VXLAN, VNI: 1, Label: 16},
		"mac":                   {Kind: Tunnel, Remote: far, Encapsulation: VXLAN, VNI: 1, MAC: MAC{1}},
		"unknown encapsulation": {Kind: Tunnel, Remote: far, Encapsulation: 3, Label: 16},
		"label":                 {Kind: Tunnel, Remote: netip.MustParseAddr("1.2.3.4"), Label: 1 << 20},
		"remote":                {Kind: Tunnel, Label: 16},
		"only":                  {Kind: Local, IfIndex: 3, Label: 16},
		"members":               {Kind: ECMP},
		"unknown":               {Kind: 9},
		"discard":               {Label: 1},
	}
	for field, nh := range hops {
		if err := nh.validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte(field)) {
			t.Errorf("next hop with a bad %s: error is %v", field, err)
		}
	}
	key := RouteKey{VRF: 1, Prefix: netip.MustParsePrefix("10.0.0.1/8")}
	if err := key.validate(); err == nil {
		t.Error("a prefix with host bits is accepted")
	}
}
