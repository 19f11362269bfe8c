package cli

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

// column is one of a table of objects.
type column struct {
	title string
	// wide columns are shown with -o wide only.
	wide bool
	// needs are the fields of an object that the value is made of.
	needs []string
	value func(*row) string
	// join is what has to be known of other objects.
	join func(*joins)
}

// row is an object with what was found about it elsewhere.
type row struct {
	object
	*joins
}

// joins are facts of other objects, by what they are about. Each is loaded
// once, where a column wants it.
type joins struct {
	wantAddresses, wantNodes bool
	// addresses by the UUID of the interface, nodes by that of the machine.
	addresses, nodes map[string][]string
}

func property(title, path string) column {
	first, _, _ := strings.Cut(path, ".")
	return column{title: title, needs: []string{first}, value: func(r *row) string { return strings.Join(textsAt(r.object, path), ",") }}
}

func names(title, field string) column {
	return column{title: title, needs: []string{field}, value: func(r *row) string { return r.shorts(field) }}
}

func count(title, field string) column {
	return column{title: title, needs: []string{field}, value: func(r *row) string { return strconv.Itoa(len(r.links(field))) }}
}

func elements(title, path string) column {
	first, _, _ := strings.Cut(path, ".")
	return column{title: title, needs: []string{first}, value: func(r *row) string { return strconv.Itoa(len(r.at(path))) }}
}

func (c column) onlyWide() column {
	c.wide = true
	return c
}

var (
	uuidColumn = column{title: "UUID", value: func(r *row) string { return r.uuid() }}
	ageColumn  = column{title: "AGE", needs: []string{"id_perms"}, value: func(r *row) string { return age(r.object, time.Now()) }}
	addresses  = column{
		title: "ADDRESSES", join: func(j *joins) { j.wantAddresses = true },
		value: func(r *row) string { return strings.Join(r.joins.addresses[r.uuid()], ",") },
	}
	nodeOfInterface = column{
		title: "NODE", needs: []string{"virtual_machine_refs"}, join: func(j *joins) { j.wantNodes = true },
		value: func(r *row) string {
			var list []string
			for _, l := range r.links("virtual_machine_refs") {
				list = append(list, r.nodes[l.UUID]...)
			}
			return strings.Join(list, ",")
		},
	}
	subnetsColumn = column{
		title: "SUBNETS", needs: []string{"network_ipam_refs"},
		value: func(r *row) string {
			var list []string
			for _, l := range r.links("network_ipam_refs") {
				list = append(list, prefixesIn(l)...)
			}
			return strings.Join(list, ",")
		},
	}
)

// prefixesIn are the subnets of a network's reference to an IPAM.
func prefixesIn(l linkTo) []string {
	attr := object{"attr": l.Attr}
	addresses := attr.at("attr.ipam_subnets.subnet.ip_prefix")
	lengths := attr.at("attr.ipam_subnets.subnet.ip_prefix_len")
	var list []string
	for i := range min(len(addresses), len(lengths)) {
		list = append(list, plainText(addresses[i])+"/"+plainText(lengths[i]))
	}
	return list
}

// columnsByType are what is worth seeing of the types that people look at. The
// name comes before, the age after.
var columnsByType = map[model.Kind][]column{
	model.KindVirtualNetwork: {
		subnetsColumn, count("PORTS", "virtual_machine_interface_back_refs"), names("POLICIES", "network_policy_refs"),
		property("ID", "virtual_network_network_id").onlyWide(), names("IPAMS", "network_ipam_refs").onlyWide(),
	},
	model.KindVirtualMachineInterface: {
		names("NETWORK", "virtual_network_refs"), addresses, property("MAC", "virtual_machine_interface_mac_addresses.mac_address"), nodeOfInterface,
		names("MACHINE", "virtual_machine_refs").onlyWide(), names("GROUPS", "security_group_refs").onlyWide(),
	},
	model.KindInstanceIP: {
		property("ADDRESS", "instance_ip_address"), names("NETWORK", "virtual_network_refs"), names("INTERFACES", "virtual_machine_interface_refs"),
	},
	model.KindVirtualMachine: {
		count("INTERFACES", "virtual_machine_interface_back_refs"), names("NODE", "virtual_router_back_refs"),
	},
	model.KindVirtualRouter: {
		property("ADDRESS", "virtual_router_ip_address"), count("MACHINES", "virtual_machine_refs"),
	},
	model.KindSecurityGroup: {
		property("ID", "security_group_id"), elements("RULES", "security_group_entries.policy_rule"), count("INTERFACES", "virtual_machine_interface_back_refs"),
	},
	model.KindNetworkPolicy: {
		elements("RULES", "network_policy_entries.policy_rule"), names("NETWORKS", "virtual_network_back_refs"),
	},
	model.KindNetworkIPAM: {
		names("NETWORKS", "virtual_network_back_refs"), property("METHOD", "network_ipam_mgmt.ipam_method").onlyWide(),
	},
	model.KindFloatingIP: {
		property("ADDRESS", "floating_ip_address"), property("FIXED", "floating_ip_fixed_ip_address"), names("INTERFACES", "virtual_machine_interface_refs"), names("FOR", "project_refs").onlyWide(),
	},
	model.KindFloatingIPPool: {count("FLOATING-IPS", "floating_ips"), names("FOR", "project_back_refs").onlyWide()},
	model.KindProject: {
		count("NETWORKS", "virtual_networks"), count("INTERFACES", "virtual_machine_interfaces"), count("POLICIES", "network_policys"), count("GROUPS", "security_groups"),
	},
	model.KindDomain:          {count("PROJECTS", "projects")},
	model.KindRoutingInstance: {names("ROUTE-TARGETS", "route_target_refs"), property("DEFAULT", "routing_instance_is_default")},
	model.KindRouteTarget:     {names("INSTANCES", "routing_instance_back_refs")},
	model.KindLogicalRouter:   {names("INTERFACES", "virtual_machine_interface_refs"), names("NETWORKS", "virtual_network_refs")},
	model.KindBGPRouter: {
		property("ADDRESS", "bgp_router_parameters.address"), property("AS", "bgp_router_parameters.autonomous_system"), property("VENDOR", "bgp_router_parameters.vendor"),
	},
	model.KindTag: {property("TYPE", "tag_type_name"), property("VALUE", "tag_value"), property("ID", "tag_id")},
}

// projectText is the project of a name as people write it.
func (s Scope) projectText(t *model.Type, name []string) string {
	return projectName(projectOf(t, name))
}

// projectName is the name of a project as people write it.
func projectName(name []string) string {
	return strings.TrimPrefix(strings.Join(name, ":"), DefaultDomain+":")
}

// columnsOf are the columns of a type's table.
func columnsOf(t *model.Type, scope Scope, wide bool) []column {
	list := []column{{title: "NAME", value: func(r *row) string { return scope.display(t, r.name()) }}}
	if scope.All && hasProjects(t) {
		list = slices.Insert(list, 0, column{title: "PROJECT", needs: tenants[t.Kind], value: func(r *row) string {
			var names []string
			for _, p := range projectsOf(t, r.object) {
				names = append(names, projectName(p))
			}
			return or(strings.Join(names, ","))
		}})
	}
	special, ok := columnsByType[t.Kind]
	if !ok {
		special = []column{uuidColumn, {title: "PARENT", needs: []string{"parent_type"}, value: func(r *row) string { return r.text("parent_type") }}}
	}
	for _, c := range special {
		if wide || !c.wide {
			list = append(list, c)
		}
	}
	if wide && ok {
		list = append(list, uuidColumn)
	}
	return append(list, ageColumn)
}

// projectOf is the project that an object with the name is in, nil for none.
func projectOf(t *model.Type, name []string) []string {
	if len(name) < 3 || name[0] == systemConfig || !inProject(t) {
		return nil
	}
	return name[:2]
}

// display is a name without the project that it is in.
func (s Scope) display(t *model.Type, name []string) string {
	if project := projectOf(t, name); project != nil && (s.All || slices.Equal(project, s.project())) {
		name = name[2:]
	}
	if len(name) == 2 && (t.Kind == model.KindProject && name[0] == DefaultDomain || name[0] == systemConfig && !inProject(t)) {
		name = name[1:]
	}
	return model.FQString(name)
}

// needs are all fields that the columns are made of.
func needs(columns []column) []string {
	list := []string{"fq_name"}
	for _, c := range columns {
		list = append(list, c.needs...)
	}
	return list
}

// load finds out what the columns want to know of other objects.
func (c *Client) load(ctx context.Context, columns []column) (*joins, error) {
	j := &joins{addresses: map[string][]string{}, nodes: map[string][]string{}}
	for _, column := range columns {
		if column.join != nil {
			column.join(j)
		}
	}
	collect := func(kind model.Kind, into map[string][]string, value func(object) string, field string) error {
		t, _ := model.TypeOf(string(kind))
		var own string
		if kind == model.KindInstanceIP {
			own = "instance_ip_address,"
		}
		return c.list(ctx, t, url.Values{"fields": {own + field}}, func(o object) error {
			for _, l := range o.links(field) {
				into[l.UUID] = append(into[l.UUID], value(o))
			}
			return nil
		})
	}
	if j.wantAddresses {
		address := func(o object) string { return o.text("instance_ip_address") }
		if err := collect(model.KindInstanceIP, j.addresses, address, "virtual_machine_interface_refs"); err != nil {
			return nil, err
		}
	}
	if j.wantNodes {
		name := func(o object) string { return linkTo{To: o.name()}.short() }
		if err := collect(model.KindVirtualRouter, j.nodes, name, "virtual_machine_refs"); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// age is how long ago an object was made.
func age(o object, now time.Time) string {
	created := dateOf(o, "created")
	if created.IsZero() {
		return "-"
	}
	return span(now.Sub(created))
}

// dateOf is a date of id_perms, zero where there is none.
func dateOf(o object, which string) time.Time {
	for _, v := range o.at("id_perms." + which) {
		if at, err := model.ParseTimestamp(plainText(v)); err == nil {
			return at
		}
	}
	return time.Time{}
}

// span is a duration as people say it, in one or two units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	default:
		return strconv.Itoa(int(d.Hours())/24) + "d"
	}
}
