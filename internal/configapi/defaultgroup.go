package configapi

import (
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// Where the tuning TuneDefaultGroup is on, each project gets a security group of
// this name, and what is attached in it has the group. It lets its members begin
// anything, and reach each other. As long as nobody has touched it, it goes with
// the project; then it is the user's.
const defaultGroupName = "default"

// hasDefaultGroups tells whether projects get them.
func (c *change) hasDefaultGroups() bool {
	o, ok := c.v.ByName(model.KindGlobalSystemConfig, []string{systemConfig})
	return ok && compile.IsTuned(o.(*model.GlobalSystemConfig), compile.TuneDefaultGroup)
}

// createDefaultGroup gives a new project its group, if projects get one.
func (c *change) createDefaultGroup(project *model.Project) error {
	if !c.hasDefaultGroups() {
		return nil
	}
	_, err := c.makeDefaultGroup(project)
	return err
}

// defaultGroup is the group that a new container in a project gets, nil for
// none. A project from before the groups were wanted gets it now.
func (c *change) defaultGroup(project *model.Project) (*model.SecurityGroup, error) {
	if !c.hasDefaultGroups() {
		return nil, nil
	}
	if o, ok := c.v.ByName(model.KindSecurityGroup, below(project, defaultGroupName)); ok {
		c.Need(model.EntityOf(o))
		return o.(*model.SecurityGroup), nil
	}
	for _, o := range c.made { // with the project, a moment ago
		if g, ok := o.(*model.SecurityGroup); ok && g.ParentUUID == project.UUID {
			return g, nil
		}
	}
	return c.makeDefaultGroup(project)
}

func (c *change) makeDefaultGroup(project *model.Project) (*model.SecurityGroup, error) {
	name := below(project, defaultGroupName)
	meta, err := c.meta(model.NewUUID(), project, name...)
	if err != nil {
		return nil, err
	}
	g := &model.SecurityGroup{Meta: meta, SecurityGroupEntries: defaultGroupRules(model.FQString(name))}
	if err := c.numberGroup(g, nil); err != nil {
		return nil, err
	}
	c.makeByItself(g)
	c.own(g)
	return g, nil
}

// defaultGroupRules let members of a group begin anything, and be reached by members.
func defaultGroupRules(group string) *model.PolicyEntriesType {
	local := []model.AddressType{{SecurityGroup: "local"}}
	all := []model.PortType{{StartPort: new(int64(0)), EndPort: new(int64(65535))}}
	rule := func(ethertype string, src, dst []model.AddressType) model.PolicyRuleType {
		return model.PolicyRuleType{
			RuleUUID: model.NewUUID(), Direction: ">", Protocol: "any", Ethertype: ethertype,
			SrcAddresses: src, SrcPorts: all, DstAddresses: dst, DstPorts: all,
		}
	}
	entries := &model.PolicyEntriesType{}
	for _, family := range []struct{ ethertype, everywhere string }{{"IPv4", "0.0.0.0"}, {"IPv6", "::"}} {
		everywhere := []model.AddressType{{Subnet: &model.SubnetType{IPPrefix: family.everywhere}}}
		entries.PolicyRule = append(entries.PolicyRule,
			rule(family.ethertype, []model.AddressType{{SecurityGroup: group}}, local),
			rule(family.ethertype, local, everywhere))
	}
	return entries
}

// ownDefaultGroup is a project's default group, if nobody has touched it.
func (c *change) ownDefaultGroup(project *model.Project) (*model.SecurityGroup, bool) {
	o, ok := c.v.ByName(model.KindSecurityGroup, below(project, defaultGroupName))
	if !ok || !c.isDefaultGroup(o) {
		return nil, false
	}
	return o.(*model.SecurityGroup), true
}

// isDefaultGroup tells whether an object is the default group of its project,
// which nobody has touched.
func (c *change) isDefaultGroup(o model.Object) bool {
	return o.Kind() == model.KindSecurityGroup && o.GetMeta().Name() == defaultGroupName && c.api.ledger.isOwned(o.GetMeta().UUID)
}
