package compile

import (
	"encoding/json"
	"fmt"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// drawnKinds are the kinds of objects that instances follow from; there are a
// few of each, so that they meet.
var drawnKinds = []model.Kind{
	model.KindVirtualNetwork, model.KindVirtualNetwork, model.KindNetworkPolicy, model.KindNetworkPolicy, model.KindLogicalRouter,
	model.KindVirtualMachineInterface, model.KindRouteTable, model.KindInterfaceRouteTable,
	model.KindRouteAggregate, model.KindRoutingPolicy, model.KindBGPVPN, model.KindProject, model.KindGlobalSystemConfig,
	model.KindServiceInstance, model.KindServiceTemplate, model.KindPortTuple, model.KindInstanceIP, model.KindRoutingInstance, model.KindRouteTarget,
	model.KindGlobalVrouterConfig, model.KindServiceHealthCheck,
}

func drawnID(kind model.Kind, n int) string { return model.DerivedUUID(string(kind), fmt.Sprint(n)) }

func drawnName(kind model.Kind, n int) []string {
	return []string{"d", fmt.Sprintf("p%d", n%2), fmt.Sprintf("%.3s%d", kind, n)}
}

func drawTargets(t *rapid.T, what string) *model.RouteTargetList {
	return targets(rapid.SliceOfN(rapid.SampledFrom([]string{"target:1:1", "target:1:2", "target:64512:8000001", "target:64513:8000002"}), 0, 2).Draw(t, what)...)
}

// drawObject draws an object of one of the kinds.
func drawObject(t *rapid.T) model.Object {
	kind := rapid.SampledFrom(drawnKinds).Draw(t, "kind")
	n := rapid.IntRange(0, 3).Draw(t, "number")
	meta := model.Meta{UUID: drawnID(kind, n), FQName: drawnName(kind, n), ParentType: "project", ParentUUID: model.DerivedUUID("project", fmt.Sprint(n%2))}
	switch kind {
	case model.KindVirtualNetwork:
		return drawNetwork(t, meta, n)
	case model.KindNetworkPolicy:
		return &model.NetworkPolicy{Meta: meta, NetworkPolicyEntries: &model.PolicyEntriesType{PolicyRule: rapid.SliceOfN(rapid.Custom(drawRule), 0, 3).Draw(t, "rules")}}
	case model.KindProject:
		return &model.Project{Meta: model.Meta{UUID: meta.ParentUUID, FQName: meta.FQName}, VXLANRouting: new(rapid.Bool().Draw(t, "vxlan"))}
	case model.KindLogicalRouter:
		return &model.LogicalRouter{
			Meta: meta, ConfiguredRouteTargetList: drawTargets(t, "configured"),
			VXLANNetworkIdentifier: rapid.SampledFrom([]string{"", "1", "5", "6", "x"}).Draw(t, "vni"),
		}
	case model.KindBGPVPN:
		return &model.BGPVPN{
			Meta: meta, BGPVPNType: rapid.SampledFrom([]string{"", "l3", "l2"}).Draw(t, "type"),
			RouteTargetList: drawTargets(t, "both"), ExportRouteTargetList: drawTargets(t, "export"),
		}
	case model.KindVirtualMachineInterface:
		return &model.VirtualMachineInterface{Meta: meta, VirtualMachineInterfaceProperties: &model.VirtualMachineInterfacePropertiesType{
			ServiceInterfaceType: rapid.SampledFrom([]string{"", "left", "right"}).Draw(t, "side"),
		}}
	case model.KindServiceInstance:
		return &model.ServiceInstance{Meta: meta}
	case model.KindServiceHealthCheck:
		return &model.ServiceHealthCheck{Meta: meta, ServiceHealthCheckProperties: &model.ServiceHealthCheckType{
			MonitorType: rapid.SampledFrom([]string{"PING", "BFD"}).Draw(t, "monitor"), Enabled: new(rapid.Bool().Draw(t, "enabled")),
		}}
	case model.KindServiceTemplate:
		return &model.ServiceTemplate{Meta: meta, ServiceTemplateProperties: &model.ServiceTemplateType{
			ServiceMode: rapid.SampledFrom([]string{"", inNetwork, inNetwork, inNetNAT, "x"}).Draw(t, "mode"),
		}}
	case model.KindPortTuple:
		meta.ParentType, meta.ParentUUID = string(model.KindServiceInstance), drawnID(model.KindServiceInstance, n/2)
		return &model.PortTuple{Meta: meta}
	case model.KindInstanceIP:
		return &model.InstanceIP{Meta: meta, InstanceIPAddress: fmt.Sprintf("10.0.0.%d", n+3), InstanceIPSecondary: new(rapid.IntRange(0, 5).Draw(t, "secondary") == 0)}
	case model.KindRoutingInstance:
		meta.ParentType, meta.ParentUUID = string(model.KindVirtualNetwork), drawnID(model.KindVirtualNetwork, n/2)
		meta.FQName = append(drawnName(model.KindVirtualNetwork, n/2), "client")
		if n%2 == 0 { // it stands for the network's own
			meta.FQName = instanceName(drawnName(model.KindVirtualNetwork, n/2))
		}
		return &model.RoutingInstance{Meta: meta, StaticRouteEntries: &model.StaticRouteEntriesType{Route: []model.StaticRouteType{{
			Prefix:      rapid.SampledFrom([]string{"10.0.0.0/8", "x"}).Draw(t, "static"),
			NextHop:     rapid.SampledFrom([]string{"10.0.0.1", "2001:db8::1"}).Draw(t, "hop"),
			RouteTarget: rapid.SliceOfN(rapid.SampledFrom([]string{"target:1:1", "target:64512:8000001"}), 0, 1).Draw(t, "targets"),
		}}}}
	case model.KindRouteTarget:
		name := []string{"target:1:1", "target:1:2", "target:64512:8000001", "target:64513:8000002"}[n]
		return &model.RouteTarget{Meta: model.Meta{UUID: meta.UUID, FQName: []string{name}}}
	case model.KindRouteTable:
		return &model.RouteTable{Meta: meta, Routes: drawRoutes(t)}
	case model.KindInterfaceRouteTable:
		return &model.InterfaceRouteTable{Meta: meta, InterfaceRouteTableRoutes: drawRoutes(t)}
	case model.KindRouteAggregate:
		return &model.RouteAggregate{Meta: meta, AggregateRouteNexthop: rapid.SampledFrom([]string{"", "10.0.0.1", "x"}).Draw(t, "hop"), AggregateRouteEntries: &model.RouteListType{
			Route: rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "x", "2001:db8::/32"}), 0, 2).Draw(t, "aggregates"),
		}}
	case model.KindRoutingPolicy:
		return &model.RoutingPolicy{Meta: meta, RoutingPolicyEntries: &model.PolicyStatementType{Term: []model.PolicyTermType{{
			TermMatchCondition: &model.TermMatchConditionType{CommunityList: rapid.SliceOfN(rapid.SampledFrom([]string{"1:2", "no-export", "64512:.*", "("}), 0, 2).Draw(t, "communities")},
			TermActionList: &model.TermActionListType{Action: rapid.SampledFrom([]string{"", "accept", "reject", "next"}).Draw(t, "action"), Update: &model.ActionUpdateType{
				Extcommunity: &model.ActionExtCommunityType{Add: &model.ExtCommunityListType{
					Community: rapid.SliceOfN(rapid.SampledFrom([]string{"target:64512:5", "target:64513:8000001"}), 0, 1).Draw(t, "targets"),
				}},
			}},
		}}}}
	case model.KindGlobalSystemConfig:
		meta.FQName, meta.ParentUUID = []string{"default-global-system-config"}, ""
		meta.UUID = drawnID(kind, 0)
		return &model.GlobalSystemConfig{Meta: meta, AutonomousSystem: new(int64(rapid.IntRange(64512, 64514).Draw(t, "asn")))}
	default:
		meta.FQName = []string{"default-global-system-config", "default-global-vrouter-config"}
		meta.UUID = drawnID(kind, 0)
		return &model.GlobalVrouterConfig{
			Meta:                       meta,
			ForwardingMode:             rapid.SampledFrom([]string{"", "l2", "l3", "l2_l3"}).Draw(t, "mode"),
			VXLANNetworkIdentifierMode: rapid.SampledFrom([]string{"", "automatic", "configured"}).Draw(t, "identifiers"),
		}
	}
}

func drawNetwork(t *rapid.T, meta model.Meta, n int) *model.VirtualNetwork {
	vn := &model.VirtualNetwork{Meta: meta, VirtualNetworkNetworkID: new(int64(n)), RouteTargetList: drawTargets(t, "both"), ImportRouteTargetList: drawTargets(t, "import")}
	if rapid.Bool().Draw(t, "properties") {
		vn.RouterExternal = new(true)
		vn.VirtualNetworkProperties = &model.VirtualNetworkType{
			ForwardingMode:         rapid.SampledFrom([]string{"", "l2", "l3", "l2_l3"}).Draw(t, "mode"),
			VXLANNetworkIdentifier: new(int64(rapid.IntRange(0, 9).Draw(t, "identifier"))),
			RPF:                    rapid.SampledFrom([]string{"", "enable", "disable"}).Draw(t, "rpf"),
		}
	}
	return vn
}

func drawRoutes(t *rapid.T) *model.RouteTableType {
	return &model.RouteTableType{Route: []model.RouteType{{
		Prefix:  rapid.SampledFrom([]string{"10.0.0.0/8", "10.9.0.0/16", "x", "2001:db8::/32"}).Draw(t, "prefix"),
		NextHop: rapid.SampledFrom([]string{"", "10.0.0.1", "2001:db8::1", "x"}).Draw(t, "hop"),
	}}}
}

func drawRule(t *rapid.T) model.PolicyRuleType {
	return model.PolicyRuleType{
		RuleUUID: drawnID("rule", rapid.IntRange(0, 9).Draw(t, "rule")), SrcAddresses: drawAddresses(t, "src"), DstAddresses: drawAddresses(t, "dst"),
		ActionList: rapid.SampledFrom([]*model.ActionListType{nil, {SimpleAction: "pass"}, {SimpleAction: "pass"}, {SimpleAction: "deny"}, {SimpleAction: "pass", ApplyService: drawServices(t)}}).Draw(t, "action"),
	}
}

func drawServices(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return model.FQString(drawnName(model.KindServiceInstance, rapid.IntRange(0, 3).Draw(t, "service")))
	}), 1, 2).Draw(t, "services")
}

func drawAddresses(t *rapid.T, what string) []model.AddressType {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) model.AddressType {
		n := rapid.IntRange(0, 3).Draw(t, "number")
		switch rapid.IntRange(0, 5).Draw(t, "address") {
		case 0:
			return model.AddressType{VirtualNetwork: "any"}
		case 1:
			return model.AddressType{VirtualNetwork: "local"}
		case 2:
			return model.AddressType{NetworkPolicy: model.FQString(drawnName(model.KindNetworkPolicy, n))}
		case 3:
			return model.AddressType{Subnet: &model.SubnetType{IPPrefix: "10.0.0.0", IPPrefixLen: 8}}
		}
		return model.AddressType{VirtualNetwork: model.FQString(drawnName(model.KindVirtualNetwork, n))}
	}), 1, 2).Draw(t, what)
}

// drawReference draws one of the references that instances follow from.
func drawReference(t *rapid.T) model.Reference {
	ends := rapid.SampledFrom([][2]model.Kind{
		{model.KindVirtualNetwork, model.KindNetworkPolicy},
		{model.KindVirtualNetwork, model.KindNetworkPolicy},
		{model.KindVirtualNetwork, model.KindNetworkPolicy},

		{model.KindVirtualNetwork, model.KindLogicalRouter},
		{model.KindLogicalRouter, model.KindVirtualNetwork},
		{model.KindLogicalRouter, model.KindVirtualMachineInterface},
		{model.KindLogicalRouter, model.KindBGPVPN},
		{model.KindLogicalRouter, model.KindRouteTable},
		{model.KindVirtualNetwork, model.KindBGPVPN},
		{model.KindVirtualMachineInterface, model.KindVirtualNetwork},
		{model.KindVirtualMachineInterface, model.KindInterfaceRouteTable},
		{model.KindVirtualNetwork, model.KindRouteTable},
		{model.KindVirtualNetwork, model.KindNetworkIPAM},
		{model.KindVirtualMachineInterface, model.KindPortTuple},
		{model.KindInstanceIP, model.KindVirtualMachineInterface},
		{model.KindServiceInstance, model.KindServiceTemplate},
		{model.KindServiceHealthCheck, model.KindServiceInstance},
		{model.KindVirtualMachineInterface, model.KindServiceHealthCheck},
		{model.KindVirtualNetwork, model.KindRoutingPolicy},
		{model.KindRouteAggregate, model.KindRoutingInstance},
		{model.KindRoutingPolicy, model.KindRoutingInstance},
		{model.KindRoutingPolicy, model.KindServiceInstance},
		{model.KindRoutingInstance, model.KindRoutingInstance},
		{model.KindRoutingInstance, model.KindRouteTarget},
	}).Draw(t, "ends")
	end := func(kind model.Kind) model.Entity {
		n := rapid.IntRange(0, 3).Draw(t, "end")
		if kind == model.KindRoutingInstance && rapid.Bool().Draw(t, "view") {
			return model.Entity{Kind: kind, UUID: InstanceUUID(drawnID(model.KindVirtualNetwork, n))}
		}
		return model.Entity{Kind: kind, UUID: drawnID(kind, n)}
	}
	r := model.Reference{From: end(ends[0]), To: end(ends[1])}
	switch {
	case r.From.Kind == model.KindLogicalRouter && r.To.Kind == model.KindVirtualNetwork:
		r.Attr = json.RawMessage(rapid.SampledFrom([]string{"", `{"logical_router_virtual_network_type":"ExternalGateway"}`, `{"logical_router_virtual_network_type":"InternalVirtualNetwork"}`}).Draw(t, "as"))
	case r.To.Kind == model.KindRouteTarget:
		r.Attr = json.RawMessage(rapid.SampledFrom([]string{"", `{"import_export":"import"}`, `{"import_export":"export"}`}).Draw(t, "direction"))
	case r.To.Kind == model.KindNetworkIPAM:
		r.Attr = json.RawMessage(rapid.SampledFrom([]string{`{"ipam_subnets":[{"subnet":{"ip_prefix":"10.0.0.0","ip_prefix_len":24}}]}`, `{"ipam_subnets":[{"subnet":{"ip_prefix":"10.0.0.0","ip_prefix_len":24},"default_gateway":"10.0.0.1"}]}`, `{}`}).Draw(t, "subnets"))
	case r.From.Kind == model.KindRoutingPolicy && r.To.Kind == model.KindServiceInstance:
		r.Attr = json.RawMessage(rapid.SampledFrom([]string{"", `{"left_sequence":"1.0"}`, `{"left_sequence":"2","right_sequence":"1"}`}).Draw(t, "sequences"))
	case r.To.Kind == model.KindRoutingPolicy, r.From.Kind == model.KindRoutingPolicy:
		r.Attr = json.RawMessage(rapid.SampledFrom([]string{"", `{"sequence":"1.0"}`, `{"sequence":"10.0"}`, `{"sequence":"x"}`}).Draw(t, "sequence"))
	}
	return r
}

// drawGraph draws a whole configuration.
func drawGraph(t *rapid.T) *model.Graph {
	g := model.NewGraph()
	b := model.Batch{Position: model.Position{Epoch: 1, Revision: 1}}
	for n := range 4 {
		meta := func(kind model.Kind) model.Meta {
			return model.Meta{UUID: drawnID(kind, n), FQName: drawnName(kind, n), ParentType: "project", ParentUUID: model.DerivedUUID("project", fmt.Sprint(n%2))}
		}
		vn := drawNetwork(t, meta(model.KindVirtualNetwork), n+1)
		policy := &model.NetworkPolicy{Meta: meta(model.KindNetworkPolicy), NetworkPolicyEntries: &model.PolicyEntriesType{
			PolicyRule: rapid.SliceOfN(rapid.Custom(drawRule), 1, 3).Draw(t, "rules"),
		}}
		b.Objects = append(b.Objects, vn, policy, &model.ServiceInstance{Meta: meta(model.KindServiceInstance)})
		for _, to := range rapid.SliceOfN(rapid.IntRange(0, 3), 1, 3).Draw(t, "policies") {
			b.References = append(b.References, model.Reference{From: model.EntityOf(vn), To: model.Entity{Kind: model.KindNetworkPolicy, UUID: drawnID(model.KindNetworkPolicy, to)}})
		}
	}
	g.Apply(b)
	for range rapid.IntRange(0, 15).Draw(t, "changes") {
		mutate(t, g, drawObject, drawReference)
	}
	return g
}
