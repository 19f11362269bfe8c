package main

import (
	"strings"
	"unicode"
)

// initialisms are the parts of names that Go writes in capitals.
var initialisms = map[string]string{
	"ip": "IP", "ips": "IPs", "id": "ID", "ids": "IDs", "uuid": "UUID", "fq": "FQ",
	"dns": "DNS", "mac": "MAC", "bgp": "BGP", "bgpvpn": "BGPVPN", "vlan": "VLAN",
	"mtu": "MTU", "asn": "ASN", "ipam": "IPAM", "url": "URL", "uri": "URI", "ttl": "TTL",
	"vm": "VM", "api": "API", "acl": "ACL", "udp": "UDP", "vrf": "VRF", "cpu": "CPU",
	"cidr": "CIDR", "dhcp": "DHCP", "mpls": "MPLS", "vxlan": "VXLAN", "vni": "VNI",
	"nh": "NH", "snmp": "SNMP", "sla": "SLA", "md5": "MD5", "sha1": "SHA1", "os": "OS",
	"ecmp": "ECMP", "json": "JSON", "ui": "UI", "soa": "SOA", "igmp": "IGMP", "rpf": "RPF",
	"qos": "QoS", "dscp": "DSCP", "med": "MED", "http": "HTTP", "ha": "HA", "lldp": "LLDP",
	"lacp": "LACP", "ospf": "OSPF", "esxi": "ESXi", "bms": "BMS", "snat": "SNAT",
}

// goName turns a name of the model into an exported Go name.
func goName(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		if s, ok := initialisms[part]; ok {
			b.WriteString(s)
			continue
		}
		b.WriteString(capital(part))
	}
	return b.String()
}

func capital(s string) string {
	if s == "" {
		return s
	}
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// dashed is the name of an object type in URLs and envelopes.
func dashed(name string) string { return strings.ReplaceAll(name, "_", "-") }
