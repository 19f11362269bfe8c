package validate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// isHostname knows RFC 1035 section 2.3 and RFC 1123 section 2.1, with the
// underscores of RFC 2782.
func isHostname(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

func (c *checker) virtualDNS(o *model.VirtualDNS) {
	d := o.VirtualDNSData
	if d == nil {
		c.bad("virtual_DNS_data.domain_name", nil, "a DNS domain such as example.org")
		return
	}
	if !isHostname(d.DomainName) {
		c.bad("virtual_DNS_data.domain_name", d.DomainName, "a DNS domain such as example.org")
	}
	c.nextDNS(o, d.NextVirtualDNS)
}

// nextDNS checks whom a server asks for what it does not know: an address, or
// another virtual server, and never itself over whatever others.
func (c *checker) nextDNS(o *model.VirtualDNS, next string) {
	const path = "virtual_DNS_data.next_virtual_DNS"
	for name, hops := next, 0; name != ""; hops++ {
		if _, err := netip.ParseAddr(name); err == nil {
			return
		}
		if name == model.FQString(o.FQName) || hops > 32 {
			c.bad(path, next, "a server that does not come back to this one")
			return
		}
		found, ok := c.Neighbours.ByName(model.KindVirtualDNS, strings.Split(name, ":"))
		if !ok {
			if hops == 0 {
				c.bad(path, next, "an address, or a virtual DNS server that exists, as domain:name")
			}
			return
		}
		name = ""
		if d := found.(*model.VirtualDNS).VirtualDNSData; d != nil {
			name = d.NextVirtualDNS
		}
	}
}

const recordPath = "virtual_DNS_record_data"

func (c *checker) virtualDNSRecord(o *model.VirtualDNSRecord) {
	d := o.VirtualDNSRecordData
	switch {
	case d == nil || d.RecordType == "":
		c.bad(recordPath+".record_type", nil, "A, AAAA, CNAME, PTR, NS or MX")
		return
	case d.RecordName == "":
		c.bad(recordPath+".record_name", nil, "the name that the record is of")
		return
	case d.RecordData == "":
		c.bad(recordPath+".record_data", nil, "what the name stands for")
		return
	}
	c.recordName(d)
	c.recordData(d)
	c.recordSiblings(o, d)
}

func (c *checker) recordName(d *model.VirtualDnsRecordType) {
	name := d.RecordName
	switch d.RecordType {
	case "PTR":
		if _, err := netip.ParseAddr(name); err != nil && !isHostname(name) {
			c.bad(recordPath+".record_name", name, "an address, or a name such as 4.1.1.10.in-addr.arpa")
		}
	case "NS":
		// A delegated zone may be the zone itself.
		if name != "@" && !isHostname(name) {
			c.bad(recordPath+".record_name", name, "a DNS name")
		}
	default:
		if name != "@" && !isHostname(strings.TrimPrefix(name, "*.")) && name != "*" {
			c.bad(recordPath+".record_name", name, "a DNS name such as www")
		}
	}
}

func (c *checker) recordData(d *model.VirtualDnsRecordType) {
	const path = recordPath + ".record_data"
	addr, err := netip.ParseAddr(d.RecordData)
	switch d.RecordType {
	case "A":
		if err != nil || !addr.Is4() {
			c.bad(path, d.RecordData, "an IPv4 address, as the type is A")
		}
	case "AAAA":
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			c.bad(path, d.RecordData, "an IPv6 address, as the type is AAAA")
		}
	case "NS":
		// A server of the delegated zone, or a virtual one as domain:name.
		if err != nil && !isHostname(d.RecordData) && !isFQName(d.RecordData, 2) {
			c.bad(path, d.RecordData, "a DNS name, as the type is NS")
		}
	default:
		if err == nil || !isHostname(d.RecordData) {
			c.bad(path, d.RecordData, "a DNS name, as the type is %s", d.RecordType)
		}
	}
	if d.RecordType == "MX" && d.RecordMxPreference == nil {
		c.bad(recordPath+".record_mx_preference", nil, "a number from 0 to 65535, as the type is MX")
	}
}

// recordSiblings compares with the other records of the server. A name with a
// CNAME has no other record (RFC 1034 section 3.6.2).
func (c *checker) recordSiblings(o *model.VirtualDNSRecord, d *model.VirtualDnsRecordType) {
	for _, sibling := range c.Neighbours.Children(o.ParentUUID, model.KindVirtualDNSRecord) {
		other := sibling.(*model.VirtualDNSRecord)
		e := other.VirtualDNSRecordData
		if other.UUID == o.UUID || e == nil || !strings.EqualFold(e.RecordName, d.RecordName) {
			continue
		}
		types := []string{d.RecordType, e.RecordType}
		switch {
		case d.RecordType == e.RecordType && strings.EqualFold(d.RecordData, e.RecordData):
			c.bad(recordPath+".record_data", d.RecordData, "data that no other record of the name has; %s has it", other.Name())
		case slices.Contains(types, "CNAME"):
			c.bad(recordPath+".record_name", d.RecordName, "a name without other records, as a CNAME is alone; %s is of it", other.Name())
		}
	}
}
