package configapi

import (
	"context"
	"fmt"

	"github.com/contrail-mesos/contrail/internal/model"
)

// initial is an object that every cluster has from its first start on.
type initial struct {
	kind   model.Kind
	fqName []string
	parent model.Kind
	// properties are JSON.
	properties string
	// globalAccess of perms2: what everybody may do.
	globalAccess int64
	// refs are targets by kind and name.
	refs []initialRef
}

type initialRef struct {
	kind   model.Kind
	fqName []string
}

// initialObjects are in the order of creation: parents and targets first.
func initialObjects() []initial {
	system := []string{systemConfig}
	project := []string{defaultDomain, systemProject}
	under := func(parent []string, name string) []string {
		return append(parent[:len(parent):len(parent)], name)
	}
	policies := []string{"default-policy-management"}
	vrouters := under(system, "default-global-vrouter-config")
	list := []initial{
		{kind: model.KindGlobalSystemConfig, fqName: system, properties: `{"autonomous_system": 64512, "ibgp_auto_mesh": true, "config_version": "1.0"}`},
		{
			kind: model.KindGlobalVrouterConfig, fqName: vrouters, parent: model.KindGlobalSystemConfig,
			properties: `{"encapsulation_priorities": {"encapsulation": ["MPLSoUDP", "MPLSoGRE", "VXLAN"]}, "vxlan_network_identifier_mode": "automatic"}`,
		},
		{kind: model.KindGlobalQoSConfig, fqName: under(system, "default-global-qos-config"), parent: model.KindGlobalSystemConfig},
		{
			kind: model.KindAPIAccessList, fqName: under(system, "default-api-access-list"), parent: model.KindGlobalSystemConfig,
			properties: defaultAccessList(),
		},
		{kind: model.KindDiscoveryServiceAssignment, fqName: []string{"default-discovery-service-assignment"}},
		{kind: model.KindPolicyManagement, fqName: policies},
		{
			kind: model.KindApplicationPolicySet, fqName: under(policies, "default-application-policy-set"), parent: model.KindPolicyManagement,
			properties: `{"all_applications": true}`, refs: []initialRef{{model.KindGlobalVrouterConfig, vrouters}},
		},
		{kind: model.KindDomain, fqName: []string{defaultDomain}},
		{kind: model.KindProject, fqName: project, parent: model.KindDomain},
		{kind: model.KindNetworkIPAM, fqName: under(project, "default-network-ipam"), parent: model.KindProject, globalAccess: 5},
		{
			kind: model.KindNetworkIPAM, fqName: under(project, "service-chain-flat-ipam"), parent: model.KindProject,
			properties: `{"ipam_subnet_method": "flat-subnet", "ipam_subnets": {"subnets": [
				{"subnet": {"ip_prefix": "0.0.0.0", "ip_prefix_len": 8}},
				{"subnet": {"ip_prefix": "::ffff:0:0", "ip_prefix_len": 104}}]}}`,
		},
		{kind: model.KindVirtualNetwork, fqName: under(project, "default-virtual-network"), parent: model.KindProject},
		{kind: model.KindVirtualNetwork, fqName: under(project, fabricNetwork), parent: model.KindProject, properties: `{"is_provider_network": true}`},
		{kind: model.KindRoutingInstance, fqName: under(under(project, fabricNetwork), "__default__"), parent: model.KindVirtualNetwork},
		{kind: model.KindVirtualNetwork, fqName: under(project, linkLocalNetwork), parent: model.KindProject},
		{kind: model.KindVirtualNetwork, fqName: under(project, "dci-network"), parent: model.KindProject},
		{kind: model.KindSecurityGroup, fqName: under(project, "__no_rule__"), parent: model.KindProject, globalAccess: 4},
	}
	for _, name := range predefinedTypes {
		list = append(list, initial{kind: model.KindTagType, fqName: []string{name}, globalAccess: 5})
	}
	return list
}

// Networks that the system needs; nobody may delete them.
const (
	systemProject    = "default-project"
	fabricNetwork    = "ip-fabric"
	linkLocalNetwork = "__link_local__"
)

func isSystemNetwork(name []string) bool {
	return len(name) == 3 && name[0] == defaultDomain && name[1] == systemProject && (name[2] == fabricNetwork || name[2] == linkLocalNetwork)
}

// createInitial creates those of the objects that are missing, whose parents
// and targets exist already.
func (a *API) createInitial(ctx context.Context, list ...initial) error {
	what := audit{"create initial " + string(list[0].kind), model.FQString(list[0].fqName)}
	_, err := a.write(ctx, what, func(c *change) error {
		for i := range list {
			if err := c.createInitial(&list[i]); err != nil {
				return fmt.Errorf("create initial %s %v: %w", list[i].kind, list[i].fqName, err)
			}
		}
		return nil
	})
	return err
}

func (c *change) createInitial(i *initial) error {
	if _, ok := c.v.ByName(i.kind, i.fqName); ok {
		return nil
	}
	t, ok := model.TypeOf(string(i.kind))
	if !ok {
		return fmt.Errorf("unknown type %q", i.kind)
	}
	properties := i.properties
	if properties == "" {
		properties = "{}"
	}
	o, err := t.Decode([]byte(properties))
	if err != nil {
		return err
	}
	var parent model.Object
	if i.parent != "" {
		if parent, ok = c.v.ByName(i.parent, i.fqName[:len(i.fqName)-1]); !ok {
			return fmt.Errorf("parent does not exist")
		}
	}
	id := model.NewUUID()
	meta, err := c.meta(id, parent, i.fqName...)
	if err != nil {
		return err
	}
	if i.kind == model.KindProject {
		meta.Perms2 = model.NewPerms2(tenant(id))
	}
	if i.globalAccess > 0 {
		meta.Perms2.GlobalAccess = &i.globalAccess
	}
	*o.GetMeta() = meta
	var refs []model.Reference
	for _, r := range i.refs {
		target, ok := c.v.ByName(r.kind, r.fqName)
		if !ok {
			return fmt.Errorf("%s %v does not exist", r.kind, r.fqName)
		}
		refs = append(refs, model.Reference{From: model.EntityOf(o), To: model.EntityOf(target)})
	}
	return c.create(o, refs)
}
