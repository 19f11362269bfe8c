package validate

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

func (c *checker) globalSystemConfig(o *model.GlobalSystemConfig) {
	c.asn("autonomous_system", o.AutonomousSystem)
	if p := o.BgpaasParameters; p != nil {
		switch {
		case value(p.PortStart) < 1:
			c.bad("bgpaas_parameters.port_start", number(p.PortStart), "a port from 1 to 65535")
		case value(p.PortEnd) < value(p.PortStart):
			c.bad("bgpaas_parameters.port_end", number(p.PortEnd), "a port not below port_start, which is %d", *p.PortStart)
		}
	}
	if p := o.PluginTuning; p != nil {
		const path = "plugin_tuning.plugin_property"
		once(c, path, p.PluginProperty, func(p *model.PluginProperty) string { return p.Property }, "each property once")
		for i, p := range p.PluginProperty {
			if _, known := compile.Tunings[p.Property]; known && p.Value != "true" && p.Value != "false" {
				c.bad(at("%s[%d].value", path, i), p.Value, "true or false for %s", p.Property)
			}
		}
	}
	if l := o.UserDefinedLogStatistics; l != nil {
		once(c, "user_defined_log_statistics.statlist", l.Statlist, func(s *model.UserDefinedLogStat) string { return s.Name }, "each name once")
		for i, s := range l.Statlist {
			if _, err := regexp.Compile(s.Pattern); err != nil || s.Pattern == "" {
				c.bad(at("user_defined_log_statistics.statlist[%d].pattern", i), s.Pattern, "a regular expression")
			}
		}
	}
}

func (c *checker) globalVrouterConfig(o *model.GlobalVrouterConfig) {
	if e := o.EncapsulationPriorities; e != nil {
		const path = "encapsulation_priorities.encapsulation"
		if len(e.Encapsulation) == 0 {
			c.bad(path, nil, "at least one of MPLSoUDP, MPLSoGRE and VXLAN")
		}
		once(c, path, e.Encapsulation, itself, "each encapsulation once")
	}
	if l := o.LinklocalServices; l != nil {
		c.linkLocal(l.LinklocalServiceEntry)
	}
	if l := o.FlowAgingTimeoutList; l != nil {
		c.flowAging(l.FlowAgingTimeout)
	}
	if p := o.PortTranslationPools; p != nil {
		c.translationPools(p.PortTranslationPool)
	}
	if e := o.EncryptionTunnelEndpoints; e != nil {
		once(c, "encryption_tunnel_endpoints.endpoint", e.Endpoint, func(e *model.EncryptionTunnelEndpoint) string { return e.TunnelRemoteIPAddress }, "each address once")
	}
}

// linkLocalNet is where link-local services may be (RFC 3927).
var linkLocalNet = netip.MustParsePrefix("169.254.0.0/16")

func (c *checker) linkLocal(list []model.LinklocalServiceEntryType) {
	const path = "linklocal_services.linklocal_service_entry"
	once(c, path, list, func(e *model.LinklocalServiceEntryType) string { return e.LinklocalServiceName }, "each linklocal_service_name once")
	once(c, path, list, func(e *model.LinklocalServiceEntryType) string {
		return e.LinklocalServiceIP + " " + strconv.FormatInt(value(e.LinklocalServicePort), 10)
	}, "each address and port once")
	for i, e := range list {
		here := at("%s[%d]", path, i)
		if e.LinklocalServiceName == "" {
			c.bad(here+".linklocal_service_name", nil, "a name, such as metadata")
		}
		if a, err := netip.ParseAddr(e.LinklocalServiceIP); err != nil || !linkLocalNet.Contains(a) {
			c.bad(here+".linklocal_service_ip", e.LinklocalServiceIP, "the address that workloads use, in %s, such as 169.254.169.254", linkLocalNet)
		}
		if to, err := netip.ParseAddr(e.IPFabricServiceIP); err == nil && (!to.Is4() || !to.IsGlobalUnicast()) {
			c.bad(here+".ip_fabric_service_ip", e.IPFabricServiceIP, "the IPv4 address of a machine that is no node; not one of its own, such as 127.0.0.1")
		}
		if value(e.LinklocalServicePort) == 0 {
			c.bad(here+".linklocal_service_port", number(e.LinklocalServicePort), "a port from 1 to 65535")
		}
		if value(e.IPFabricServicePort) == 0 {
			c.bad(here+".ip_fabric_service_port", number(e.IPFabricServicePort), "a port from 1 to 65535")
		}
		if addressed, named := len(e.IPFabricServiceIP) > 0, e.IPFabricDNSServiceName != ""; addressed == named {
			c.bad(here+".ip_fabric_service_ip", e.IPFabricServiceIP, "an address, or a name in ip_fabric_DNS_service_name")
		} else if named && !isHostname(e.IPFabricDNSServiceName) {
			c.bad(here+".ip_fabric_DNS_service_name", e.IPFabricDNSServiceName, "a DNS name")
		}
	}
}

func (c *checker) flowAging(list []model.FlowAgingTimeout) {
	const path = "flow_aging_timeout_list.flow_aging_timeout"
	once(c, path, list, func(t *model.FlowAgingTimeout) string {
		return strings.ToLower(t.Protocol) + " " + strconv.FormatInt(value(t.Port), 10)
	}, "each protocol and port once")
	for i, t := range list {
		here := at("%s[%d]", path, i)
		c.protocol(here+".protocol", t.Protocol)
		if value(t.Port) > 0 && !hasPorts(t.Protocol) {
			c.bad(here+".port", *t.Port, "0, as protocol %s has no ports", t.Protocol)
		}
		if t.TimeoutInSeconds == nil {
			c.bad(here+".timeout_in_seconds", nil, "a number of seconds; 0 means never")
		}
	}
}

func (c *checker) translationPools(list []model.PortTranslationPool) {
	for i, p := range list {
		here := at("port_translation_pools.port_translation_pool[%d]", i)
		if !hasPorts(p.Protocol) {
			c.bad(here+".protocol", p.Protocol, "tcp or udp")
		}
		switch {
		case (p.PortCount == "") == (p.PortRange == nil):
			c.bad(here, p, "one of port_count and port_range")
		case p.PortRange != nil:
			c.ports(here+".port_range", p.PortRange)
			c.poolOverlap(here, list[:i], p)
		default:
			if n, err := strconv.Atoi(p.PortCount); err != nil || n < 1 || n > 65535 {
				c.bad(here+".port_count", p.PortCount, "a number from 1 to 65535")
			}
		}
	}
}

func (c *checker) poolOverlap(path string, others []model.PortTranslationPool, p model.PortTranslationPool) {
	for _, o := range others {
		if o.PortRange != nil && strings.EqualFold(o.Protocol, p.Protocol) &&
			value(o.PortRange.StartPort) <= value(p.PortRange.EndPort) && value(p.PortRange.StartPort) <= value(o.PortRange.EndPort) {
			c.bad(path+".port_range", *p.PortRange, "ports that no other pool of the protocol has")
		}
	}
}

// qosConfig checks the marks of packets, each of which belongs to one class.
func (c *checker) qosConfig(o *model.QoSConfig) {
	for _, m := range []struct {
		path    string
		entries *model.QosIdForwardingClassPairs
		most    int64
	}{{"dscp_entries", o.DSCPEntries, 63}, {"mpls_exp_entries", o.MPLSExpEntries, 7}, {"vlan_priority_entries", o.VLANPriorityEntries, 7}} {
		if m.entries == nil {
			continue
		}
		path := m.path + ".qos_id_forwarding_class_pair"
		seen := map[int64]bool{}
		for i, p := range m.entries.QoSIDForwardingClassPair {
			key := value(p.Key)
			if key > m.most {
				c.bad(at("%s[%d].key", path, i), key, "a number from 0 to %d", m.most)
			}
			if seen[key] {
				c.bad(at("%s[%d].key", path, i), key, "each mark once")
			}
			seen[key] = true
		}
	}
	if t := o.QoSConfigType; o.ParentType == string(model.KindProject) && (t == "vhost" || t == "fabric") {
		c.bad("qos_config_type", t, "project; vhost and fabric are set under default-global-qos-config")
	}
}

func (c *checker) qosQueue(o *model.QoSQueue) {
	if o.MinBandwidth != nil && o.MaxBandwidth != nil && *o.MinBandwidth > *o.MaxBandwidth {
		c.bad("max_bandwidth", *o.MaxBandwidth, "a number not below min_bandwidth, which is %d", *o.MinBandwidth)
	}
	if o.QoSQueueIdentifier == nil {
		return
	}
	for _, sibling := range c.Neighbours.Children(o.ParentUUID, model.KindQoSQueue) {
		other := sibling.(*model.QoSQueue)
		if other.UUID != o.UUID && other.QoSQueueIdentifier != nil && *other.QoSQueueIdentifier == *o.QoSQueueIdentifier {
			c.bad("qos_queue_identifier", *o.QoSQueueIdentifier, "a number that no other queue has; %s has it", other.Name())
		}
	}
}

func (c *checker) forwardingClass(o *model.ForwardingClass) {
	if o.ForwardingClassID == nil {
		return
	}
	for _, sibling := range c.Neighbours.Children(o.ParentUUID, model.KindForwardingClass) {
		other := sibling.(*model.ForwardingClass)
		if other.UUID != o.UUID && other.ForwardingClassID != nil && *other.ForwardingClassID == *o.ForwardingClassID {
			c.bad("forwarding_class_id", *o.ForwardingClassID, "a number that no other class has; %s has it", other.Name())
		}
	}
}
