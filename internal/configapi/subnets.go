package configapi

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
)

// subnet is one range of addresses of a network, ready for allocation.
type subnet struct {
	uuid    string
	prefix  netip.Prefix
	gateway netip.Addr
	dns     netip.Addr
	pools   []netipx.IPRange
	// fromStart says that allocation goes upwards.
	fromStart bool
}

// subnetsOf returns the subnets of a network in the order of its references.
func subnetsOf(v *model.View, network string) ([]subnet, error) {
	var list []subnet
	for _, r := range v.References(network, model.KindNetworkIPAM) {
		attr, err := model.RefAttr[model.VnSubnetsType](r)
		if err != nil {
			return nil, err
		}
		for i := range attr.IPAMSubnets {
			s, err := readSubnet(&attr.IPAMSubnets[i])
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	}
	return list, nil
}

// readSubnet reads a subnet that completeSubnet has filled in.
func readSubnet(t *model.IpamSubnetType) (subnet, error) {
	prefix, err := prefixOf(t.Subnet)
	if err != nil {
		return subnet{}, err
	}
	s := subnet{uuid: t.SubnetUUID, prefix: prefix, fromStart: model.ValueOr(t.AddrFromStart, false)}
	if s.gateway, err = addressIn(prefix, "default_gateway", t.DefaultGateway); err != nil {
		return subnet{}, err
	}
	if s.dns, err = addressIn(prefix, "dns_server_address", t.DNSServerAddress); err != nil {
		return subnet{}, err
	}
	for _, p := range t.AllocationPools {
		from, err := addressIn(prefix, "allocation_pools start", p.Start)
		if err != nil {
			return subnet{}, err
		}
		to, err := addressIn(prefix, "allocation_pools end", p.End)
		if err != nil {
			return subnet{}, err
		}
		r := netipx.IPRangeFrom(from, to)
		if !r.IsValid() {
			return subnet{}, fmt.Errorf("allocation pool %s-%s ends before it starts", from, to)
		}
		s.pools = append(s.pools, r)
	}
	return s, nil
}

func prefixOf(t *model.SubnetType) (netip.Prefix, error) {
	if t == nil {
		return netip.Prefix{}, fmt.Errorf("subnet is missing, want ip_prefix and ip_prefix_len")
	}
	a, err := netip.ParseAddr(t.IPPrefix)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("subnet %s/%d: %q is no address", t.IPPrefix, t.IPPrefixLen, t.IPPrefix)
	}
	if t.IPPrefixLen < 0 || t.IPPrefixLen > int64(a.BitLen()) {
		return netip.Prefix{}, fmt.Errorf("subnet %s/%d: the length is from 0 to %d", t.IPPrefix, t.IPPrefixLen, a.BitLen())
	}
	return netip.PrefixFrom(a, int(t.IPPrefixLen)), nil
}

func addressIn(p netip.Prefix, field, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("subnet %s: %s %q is no address", p, field, text)
	}
	if !p.Contains(a) {
		return a, fmt.Errorf("subnet %s: %s %s is outside of it", p, field, a)
	}
	return a, nil
}

// completeSubnet checks a subnet that a client or an attachment asks for and
// fills in what is left out: with addr_from_start the gateway is the first
// address after the network's and the service address the second, else they
// are the last but one and the last but two.
func completeSubnet(t *model.IpamSubnetType) error {
	prefix, err := prefixOf(t.Subnet)
	if err != nil {
		return err
	}
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	whole := netipx.RangeOfPrefix(prefix)
	gateway := whole.To().Prev()
	dns := gateway.Prev()
	if prefix.Addr().Is6() {
		gateway, dns = whole.To(), whole.To().Prev()
	}
	if model.ValueOr(t.AddrFromStart, false) {
		gateway = whole.From().Next()
		dns = gateway.Next()
	}
	if t.DefaultGateway == "" {
		t.DefaultGateway = gateway.String()
	}
	if t.DNSServerAddress == "" {
		t.DNSServerAddress = dns.String()
	}
	if t.SubnetUUID == "" {
		t.SubnetUUID = model.NewUUID()
	}
	_, err = readSubnet(t)
	return err
}

// smallest prefixes that hold network, gateway, service address, one
// container and, for IPv4, broadcast.
const (
	longestIPv4 = 29
	longestIPv6 = 126
)

// checkPrefix refuses what is no subnet for containers.
func checkPrefix(p netip.Prefix) error {
	if p != p.Masked() {
		return fmt.Errorf("subnet %s has host bits set; write %s", p, p.Masked())
	}
	longest := longestIPv4
	if p.Addr().Is6() {
		longest = longestIPv6
	}
	if p.Bits() > longest {
		return fmt.Errorf("subnet %s is too small for gateway, dns server and one address; use /%d or larger", p, longest)
	}
	for _, special := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"} {
		if q := netip.MustParsePrefix(special); p.Overlaps(q) {
			return fmt.Errorf("subnet %s overlaps %s, which hosts use for themselves; choose another", p, q)
		}
	}
	return nil
}

// checkOverlap refuses subnets of one network that overlap.
func checkOverlap(prefixes []netip.Prefix) error {
	for i, p := range prefixes {
		for _, q := range prefixes[:i] {
			if p.Overlaps(q) {
				return fmt.Errorf("subnet %s overlaps subnet %s of the same network; choose another", p, q)
			}
		}
	}
	return nil
}

// reserved tells whether an address of the subnet is never given out.
func (s *subnet) reserved(a netip.Addr) bool {
	return a == s.gateway || a == s.dns || a == s.prefix.Addr() ||
		a.Is4() && a == netipx.PrefixLastIP(s.prefix)
}

// ranges are the parts of the subnet that addresses are given out from.
func (s *subnet) ranges() []netipx.IPRange {
	if len(s.pools) > 0 {
		return s.pools
	}
	return []netipx.IPRange{netipx.RangeOfPrefix(s.prefix)}
}

// spans are the ranges for the ledger, without reserved addresses.
func (s *subnet) spans() []span[netip.Addr] {
	var b netipx.IPSetBuilder
	for _, r := range s.ranges() {
		b.AddRange(r)
	}
	for _, a := range []netip.Addr{s.gateway, s.dns, s.prefix.Addr()} {
		b.Remove(a)
	}
	if s.prefix.Addr().Is4() {
		b.Remove(netipx.PrefixLastIP(s.prefix))
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // only invalid ranges make an error, and readSubnet refused them
	}
	var list []span[netip.Addr]
	for _, r := range set.Ranges() {
		part := span[netip.Addr]{first: r.From(), count: rangeSize(r), next: netip.Addr.Next, contains: r.Contains}
		if !s.fromStart {
			part.first, part.next = r.To(), netip.Addr.Prev
		}
		list = append(list, part)
	}
	if !s.fromStart {
		for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
			list[i], list[j] = list[j], list[i]
		}
	}
	return list
}

// rangeSize is the number of addresses, at most 2^62.
func rangeSize(r netipx.IPRange) uint64 {
	from, to := r.From().As16(), r.To().As16()
	var n uint64
	for i := range from {
		if n >= 1<<54 {
			return 1 << 62
		}
		n = n<<8 + uint64(to[i]) - uint64(from[i])
	}
	return n + 1
}
