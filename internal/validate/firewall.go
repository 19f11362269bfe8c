package validate

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

func (c *checker) firewallRule(o *model.FirewallRule) {
	if o.ActionList == nil || o.ActionList.SimpleAction == "" {
		c.bad("action_list.simple_action", nil, "pass or deny")
	} else if len(o.ActionList.ApplyService) > 0 {
		c.bad("action_list.apply_service", o.ActionList.ApplyService, "no service; chains are made by network policies")
	}
	if o.Direction == "" {
		c.bad("direction", nil, "<, > or <>")
	}
	c.endpoint("endpoint_1", o.Endpoint1)
	c.endpoint("endpoint_2", o.Endpoint2)
	groups := len(c.to(model.KindServiceGroup))
	switch {
	case o.Service != nil && groups > 0:
		c.bad("service", *o.Service, "no service beside a reference to a service-group")
	case o.Service == nil && groups == 0:
		c.bad("service", nil, "a protocol with ports, or a reference to a service-group")
	case o.Service != nil:
		c.service("service", o.Service)
	}
	if o.MatchTags != nil {
		c.matchTags(o.MatchTags.TagList)
	}
}

// endpoint checks one side of a firewall rule. tag_ids are the system's.
func (c *checker) endpoint(path string, e *model.FirewallRuleEndpointType) {
	if e == nil {
		c.bad(path, nil, "one of any, subnet, virtual_network, address_group and tags")
		return
	}
	kinds := 0
	for _, is := range []bool{model.ValueOr(e.Any, false), e.Subnet != nil, e.VirtualNetwork != "", e.AddressGroup != "", len(e.Tags) > 0} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		c.bad(path, *e, "exactly one of any, subnet, virtual_network, address_group and tags")
	}
	if e.VirtualNetwork != "" && e.VirtualNetwork != "any" && !isFQName(e.VirtualNetwork, 3) {
		c.bad(path+".virtual_network", e.VirtualNetwork, "a network as domain:project:name")
	}
	if e.AddressGroup != "" && !isFQName(e.AddressGroup, 2) && !isFQName(e.AddressGroup, 3) {
		c.bad(path+".address_group", e.AddressGroup, "an address group as domain:project:name, or default-policy-management:name")
	}
	once(c, path+".tags", e.Tags, itself, "each tag once")
	for i, text := range e.Tags {
		c.tag(at("%s.tags[%d]", path, i), text)
	}
}

// tag checks the tag type=value of a rule.
func (c *checker) tag(path, text string) {
	name, ok := compile.TagName(c.Object.GetMeta(), text)
	if !ok {
		c.bad(path, text, "a tag as type=value, or global:type=value")
		return
	}
	if _, ok := c.Neighbours.ByName(model.KindTag, name); !ok {
		c.bad(path, text, "a tag that exists; create the tag %s first", model.FQString(name))
	}
}

func (c *checker) matchTags(list []string) {
	once(c, "match_tags.tag_list", list, itself, "each tag type once")
	for i, name := range list {
		path := at("match_tags.tag_list[%d]", i)
		if name == "label" {
			c.bad(path, name, "a tag type of which an object has one value; label has many")
		} else if _, ok := c.Neighbours.ByName(model.KindTagType, []string{name}); !ok {
			c.bad(path, name, "a tag type that exists; create the tag-type %s first", name)
		}
	}
}

func (c *checker) service(path string, s *model.FirewallServiceType) {
	switch {
	case s.Protocol == "" && s.ProtocolID == nil:
		c.bad(path+".protocol", nil, wantProtocol)
	case s.Protocol != "":
		c.protocol(path+".protocol", s.Protocol)
	}
	if s.SrcPorts != nil {
		c.portsOf(s.Protocol, path+".src_ports", "src", s.SrcPorts)
	}
	if s.DstPorts != nil {
		c.portsOf(s.Protocol, path+".dst_ports", "dst", s.DstPorts)
	}
}

func (c *checker) serviceGroup(o *model.ServiceGroup) {
	if o.ServiceGroupFirewallServiceList == nil {
		return
	}
	for i := range o.ServiceGroupFirewallServiceList.FirewallService {
		c.service(at("service_group_firewall_service_list.firewall_service[%d]", i), &o.ServiceGroupFirewallServiceList.FirewallService[i])
	}
}

var sequence = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// sequences checks the order in which policies and rules are looked at: it is
// an attribute of the references to them, and no two have the same place.
func (c *checker) sequences(kind model.Kind) {
	path := kind.Name() + "_refs.attr.sequence"
	seen := map[string]bool{}
	for _, r := range c.to(kind) {
		s := attribute[model.FirewallSequence](r).Sequence
		switch {
		case !sequence.MatchString(s):
			c.bad(path, s, "the place of %s in the order, such as 1.0", c.nameOf(r))
		case seen[s]:
			c.bad(path, s, "a place of its own for %s", c.nameOf(r))
		}
		seen[s] = true
	}
}

func (c *checker) alarm(o *model.Alarm) {
	if o.UveKeys != nil {
		once(c, "uve_keys.uve_key", o.UveKeys.UveKey, itself, "each key once")
	}
	if o.AlarmRules == nil {
		return
	}
	for i, or := range o.AlarmRules.OrList {
		if len(or.AndList) == 0 {
			c.bad(at("alarm_rules.or_list[%d].and_list", i), nil, "at least one condition")
		}
		for j := range or.AndList {
			c.expression(at("alarm_rules.or_list[%d].and_list[%d]", i, j), &or.AndList[j])
		}
	}
}

func (c *checker) expression(path string, e *model.AlarmExpression) {
	if e.Operand1 == "" {
		c.bad(path+".operand1", nil, "what to compare, such as NodeStatus.process_info")
	}
	if e.Operation == "" {
		c.bad(path+".operation", nil, "how to compare, such as ==")
	}
	if e.Operand2 == nil || (e.Operand2.JSONValue == "") == (e.Operand2.UveAttribute == "") {
		c.bad(path+".operand2", nil, "one of json_value and uve_attribute")
		return
	}
	if e.Operand2.JSONValue == "" {
		return
	}
	var v any
	path += ".operand2.json_value"
	if json.Unmarshal([]byte(e.Operand2.JSONValue), &v) != nil {
		c.bad(path, e.Operand2.JSONValue, `a value in JSON; a text has quotes: "\"up\""`)
		return
	}
	list, isList := v.([]any)
	switch e.Operation {
	case "in", "not in":
		if !isList {
			c.bad(path, e.Operand2.JSONValue, "a list, as the operation is %s", e.Operation)
		}
	case "range":
		if low, high, ok := pair(list); !ok || low >= high {
			c.bad(path, e.Operand2.JSONValue, "a list of two numbers, the lower first")
		}
	case "size==", "size!=":
		if n, err := strconv.Atoi(strings.TrimSpace(e.Operand2.JSONValue)); err != nil || n < 0 {
			c.bad(path, e.Operand2.JSONValue, "a number from 0, as the operation is %s", e.Operation)
		}
	}
}

func pair(list []any) (low, high float64, ok bool) {
	if len(list) != 2 {
		return 0, 0, false
	}
	low, ok = list[0].(float64)
	high, ok2 := list[1].(float64)
	return low, high, ok && ok2
}
