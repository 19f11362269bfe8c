// Package validate holds the rules of the object model that types, ranges and
// references cannot express: a rule of a security group has one local side, a
// DNS record's data fits its type, a firewall rule has one kind of endpoint.
//
//	object + references as they will be -> Check -> violations, each with the path of its value
//
// Every rule looks at an object as it will be after a change, with all its
// references, so that it does not matter by which request the change comes.
// Whoever calls Check compares with what was violated before: an object that
// an older version let in can still be changed elsewhere.
//
// A rule that looks at other objects asks the Subject for them; whoever made
// the Subject sees to it that they do not change meanwhile.
package validate

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Neighbours are the other objects, as they will be after the change.
type Neighbours interface {
	// Find returns the object with the UUID.
	Find(kind model.Kind, uuid string) (model.Object, bool)
	// ByName returns the object with the fully qualified name.
	ByName(kind model.Kind, fq []string) (model.Object, bool)
	// Children returns the children of a kind.
	Children(parent string, kind model.Kind) []model.Object
	// References returns the references of an object to a kind.
	References(from model.Entity, to model.Kind) []model.Reference
	// BackReferences returns the references from objects of a kind.
	BackReferences(to model.Entity, from model.Kind) []model.Reference
}

// Subject is an object to check.
type Subject struct {
	Object model.Object
	// Before returns the object as it was, nil when it is new.
	Before     func() model.Object
	Neighbours Neighbours
}

// byReferences are the references that rules look at, by the kind they are of.
var byReferences = map[model.Kind][]model.Kind{
	model.KindFirewallRule:            {model.KindServiceGroup},
	model.KindFirewallPolicy:          {model.KindFirewallRule},
	model.KindApplicationPolicySet:    {model.KindFirewallPolicy},
	model.KindVirtualNetwork:          {model.KindVirtualNetwork},
	model.KindVirtualMachineInterface: {model.KindVirtualNetwork, model.KindVirtualMachineInterface, model.KindPortTuple},
	model.KindLogicalRouter:           {model.KindVirtualNetwork, model.KindVirtualMachineInterface},
	model.KindBGPRouter:               {model.KindBGPRouter},
	model.KindServiceInstance:         {model.KindServiceTemplate},
	model.KindLoadbalancerListener:    {model.KindLoadbalancer},
	model.KindPhysicalInterface:       {model.KindPhysicalInterface},
}

// ByReference tells whether an object has to be checked when one of its
// references from a kind to a kind comes, goes or changes.
func ByReference(from, to model.Kind) bool { return slices.Contains(byReferences[from], to) }

// Attribute returns what the attribute of a reference violates by itself.
func Attribute(r model.Reference) []*model.PropertyError {
	c := &checker{}
	t, _ := model.TypeOf(string(r.From.Kind))
	rt, ok := t.Reference(r.To.Kind)
	if !ok || rt.Attr == "" || len(r.Attr) == 0 {
		return nil
	}
	if attr, err := rt.DecodeAttr(r.Attr); err == nil { // else another version wrote it
		c.walk(rt.JSONName()+".attr", reflect.ValueOf(attr))
	}
	return c.found
}

// Check returns what the object violates.
func Check(s *Subject) []*model.PropertyError {
	c := &checker{Subject: s}
	c.values()
	switch o := s.Object.(type) {
	case *model.NetworkPolicy:
		c.networkPolicy(o)
	case *model.SecurityGroup:
		c.securityGroup(o)
	case *model.FirewallRule:
		c.firewallRule(o)
	case *model.FirewallPolicy:
		c.sequences(model.KindFirewallRule)
	case *model.ApplicationPolicySet:
		c.sequences(model.KindFirewallPolicy)
	case *model.ServiceGroup:
		c.serviceGroup(o)
	case *model.VirtualNetwork:
		c.virtualNetwork(o)
	case *model.VirtualMachineInterface:
		c.virtualMachineInterface(o)
	case *model.InstanceIP:
		c.family("instance_ip_family", o.InstanceIPFamily, o.InstanceIPAddress)
	case *model.FloatingIP:
		c.floatingIP(o)
	case *model.AliasIP:
		c.family("alias_ip_address_family", o.AliasIPAddressFamily, o.AliasIPAddress)
	case *model.NetworkIPAM:
		c.networkIPAM(o)
	case *model.LogicalRouter:
		c.logicalRouter(o)
	case *model.LogicalInterface:
		c.logicalInterface(o)
	case *model.PhysicalInterface:
		c.physicalInterface(o)
	case *model.MulticastPolicy:
		c.multicastPolicy(o)
	case *model.RouteTable:
		c.routeTable(o)
	case *model.RouteAggregate:
		c.routeAggregate(o)
	case *model.RoutingPolicy:
		c.routingPolicy(o)
	case *model.BGPRouter:
		c.bgpRouter(o)
	case *model.BGPAsAService:
		c.bgpAsAService(o)
	case *model.VirtualDNS:
		c.virtualDNS(o)
	case *model.VirtualDNSRecord:
		c.virtualDNSRecord(o)
	case *model.ServiceTemplate:
		c.serviceTemplate(o)
	case *model.ServiceInstance:
		c.serviceInstance(o)
	case *model.ServiceHealthCheck:
		c.serviceHealthCheck(o)
	case *model.LoadbalancerHealthmonitor:
		c.healthMonitor(o)
	case *model.LoadbalancerListener:
		c.listener(o)
	case *model.LoadbalancerPool:
		c.pool(o)
	case *model.LoadbalancerMember:
		c.member(o)
	case *model.VirtualIP:
		c.virtualIP(o)
	case *model.GlobalSystemConfig:
		c.globalSystemConfig(o)
	case *model.GlobalVrouterConfig:
		c.globalVrouterConfig(o)
	case *model.QoSConfig:
		c.qosConfig(o)
	case *model.QoSQueue:
		c.qosQueue(o)
	case *model.ForwardingClass:
		c.forwardingClass(o)
	case *model.Alarm:
		c.alarm(o)
	}
	return c.found
}

// checker collects violations.
type checker struct {
	*Subject
	found []*model.PropertyError
}

// bad notes that a value says the wrong thing; an empty one is missing.
func (c *checker) bad(path string, value any, want string, args ...any) {
	c.found = append(c.found, model.Violation(path, value, want, args...))
}

// to returns the object's references to a kind.
func (c *checker) to(kind model.Kind) []model.Reference {
	return c.Neighbours.References(model.EntityOf(c.Object), kind)
}

// nameOf is the name of a reference's target, for messages.
func (c *checker) nameOf(r model.Reference) string {
	if o, ok := c.Neighbours.Find(r.To.Kind, r.To.UUID); ok {
		return model.FQString(o.GetMeta().FQName)
	}
	return r.To.UUID
}

// attribute decodes the attribute of a reference; the zero value without one.
func attribute[T any](r model.Reference) T {
	v, err := model.RefAttr[T](r)
	if err != nil {
		var zero T
		return zero // the schema has been checked; another version wrote it
	}
	return v
}

// values checks every structured value of the object by itself.
func (c *checker) values() {
	v := reflect.ValueOf(c.Object).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); !f.Anonymous {
			c.walk(jsonName(f), v.Field(i))
		}
	}
	if a := c.Object.GetMeta().Annotations; a != nil {
		c.walk("annotations", reflect.ValueOf(a))
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func (c *checker) walk(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.walk(path, v.Elem())
		}
	case reflect.Slice:
		if kind := v.Type().Elem().Kind(); kind != reflect.Struct {
			return
		}
		for i := range v.Len() {
			c.walk(path+"["+strconv.Itoa(i)+"]", v.Index(i))
		}
	case reflect.Struct:
		c.structure(path, v.Addr().Interface())
		for i := range v.NumField() {
			c.walk(path+"."+jsonName(v.Type().Field(i)), v.Field(i))
		}
	}
}

// at is a path with indices.
func at(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// once notes values that a list has twice. key says what makes them the same;
// an empty one is not compared.
func once[T any](c *checker, path string, list []T, key func(*T) string, want string) {
	seen := map[string]bool{}
	for i := range list {
		k := key(&list[i])
		if k != "" && seen[k] {
			c.bad(at("%s[%d]", path, i), list[i], want)
		}
		seen[k] = true
	}
}

func itself(s *string) string { return *s }

func value(n *int64) int64 { return model.ValueOr(n, 0) }

func number(n *int64) any {
	if n == nil {
		return nil
	}
	return *n
}
