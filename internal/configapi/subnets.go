package configapi

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/contrail-mesos/contrail/internal/model"
)

// subnet is one prefix that addresses are given out of, ready for allocation.
type subnet struct {
	uuid string
	// scope is where the addresses are unique: the network, or the IPAM whose
	// flat subnets several networks share.
	scope  string
	prefix netip.Prefix
	// gateway and dns are invalid where there are none.
	gateway, dns netip.Addr
	// pools are the ranges that addresses are chosen from, the whole prefix
	// when there are none. Those of virtual routers are set apart.
	pools, routerPools []netipx.IPRange
	// unit is how many addresses go together; those given out are multiples.
	unit uint64
	// fromStart says that allocation goes upwards.
	fromStart bool
	// known are the spans, where somebody has found them out before.
	known []span
}

// readSubnet reads a subnet; what it leaves out is as completeSubnet fills in.
func readSubnet(t *model.IpamSubnetType, scope string) (subnet, error) {
	prefix, err := prefixOf(t.Subnet)
	if err != nil {
		return subnet{}, err
	}
	s := subnet{uuid: t.SubnetUUID, scope: scope, prefix: prefix, unit: 1, fromStart: model.ValueOr(t.AddrFromStart, false)}
	gateway, dns := defaultsOf(prefix, s.fromStart)
	if s.gateway, err = serviceAddress(prefix, "default_gateway", t.DefaultGateway, gateway); err != nil {
		return subnet{}, err
	}
	if s.dns, err = serviceAddress(prefix, "dns_server_address", t.DNSServerAddress, dns); err != nil {
		return subnet{}, err
	}
	if err := s.readUnit(t.AllocUnit); err != nil {
		return subnet{}, err
	}
	return s, s.readPools(t.AllocationPools)
}

// readUnit reads the allocation unit; it has to fit into the subnet.
func (s *subnet) readUnit(unit *int64) error {
	n := model.ValueOr(unit, 0)
	if n == 0 {
		return nil
	}
	if n < 0 || n&(n-1) != 0 {
		return fmt.Errorf("subnet %s: alloc_unit %d is no power of two; use 1, 2, 4 and so on", s.prefix, n)
	}
	if n > 1 && bits.Len64(uint64(n)) > s.prefix.Addr().BitLen()-s.prefix.Bits() {
		return fmt.Errorf("subnet %s: alloc_unit %d leaves no room for two units; use a smaller one", s.prefix, n)
	}
	s.unit = uint64(n)
	return nil
}

// maxRanges bounds the subnets and allocation pools of one network or IPAM
// together: whoever needs an address looks through them.
const maxRanges = 1024

func (s *subnet) readPools(pools []model.AllocationPoolType) error {
	if len(pools) > maxRanges {
		return fmt.Errorf("subnet %s: %d allocation pools; at most %d are possible", s.prefix, len(pools), maxRanges)
	}
	for _, p := range pools {
		r, err := poolIn(s.prefix, p)
		if err != nil {
			return err
		}
		if model.ValueOr(p.VrouterSpecificPool, false) {
			s.routerPools = append(s.routerPools, r)
		} else {
			s.pools = append(s.pools, r)
		}
	}
	sorted := slices.Concat(s.pools, s.routerPools)
	slices.SortFunc(sorted, func(a, b netipx.IPRange) int { return a.From().Compare(b.From()) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Overlaps(sorted[i]) {
			return fmt.Errorf("subnet %s: allocation pools %s and %s overlap", s.prefix, sorted[i-1], sorted[i])
		}
	}
	return nil
}

func poolIn(prefix netip.Prefix, p model.AllocationPoolType) (netipx.IPRange, error) {
	from, err := addressIn(prefix, "allocation_pools start", p.Start)
	if err != nil {
		return netipx.IPRange{}, err
	}
	to, err := addressIn(prefix, "allocation_pools end", p.End)
	if err != nil {
		return netipx.IPRange{}, err
	}
	r := netipx.IPRangeFrom(from, to)
	if !r.IsValid() {
		return r, fmt.Errorf("subnet %s: allocation pool %s-%s ends before it starts", prefix, from, to)
	}
	return r, nil
}

func prefixOf(t *model.SubnetType) (netip.Prefix, error) {
	if t == nil {
		return netip.Prefix{}, fmt.Errorf("subnet is missing, want ip_prefix and ip_prefix_len")
	}
	a, err := netip.ParseAddr(t.IPPrefix)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("subnet %s/%d: %q is no address", brief(t.IPPrefix), t.IPPrefixLen, brief(t.IPPrefix))
	}
	if t.IPPrefixLen < 0 || t.IPPrefixLen > int64(a.BitLen()) {
		return netip.Prefix{}, fmt.Errorf("subnet %s/%d: the length is from 0 to %d", t.IPPrefix, t.IPPrefixLen, a.BitLen())
	}
	return netip.PrefixFrom(a, int(t.IPPrefixLen)), nil
}

// serviceAddress is the gateway or DNS address of a subnet: the default when
// none is named, none at all when it is the unspecified address.
func serviceAddress(p netip.Prefix, field, text string, otherwise netip.Addr) (netip.Addr, error) {
	if text == "" {
		return otherwise, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return addressIn(p, field, text)
}

func addressIn(p netip.Prefix, field, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("subnet %s: %s %q is no address", p, field, brief(text))
	}
	if !p.Contains(a) {
		return a, fmt.Errorf("subnet %s: %s %s is outside of it", p, field, a)
	}
	return a, nil
}

// defaultsOf are the gateway and the DNS address of a subnet that names none:
// with addr_from_start the first two after the network's, else the last two
// before the broadcast address. Where there is no room for both they are one,
// and a single address is nobody's gateway.
func defaultsOf(prefix netip.Prefix, fromStart bool) (gateway, dns netip.Addr) {
	whole := netipx.RangeOfPrefix(prefix)
	switch hostBits(prefix) {
	case 0:
		return netip.Addr{}, netip.Addr{}
	case 1: // RFC 3021, RFC 6164
		if fromStart {
			return whole.From(), whole.From()
		}
		return whole.To(), whole.To()
	}
	if fromStart {
		gateway, dns = whole.From().Next(), whole.From().Next().Next()
	} else {
		gateway, dns = whole.To().Prev(), whole.To().Prev().Prev()
	}
	if hostBits(prefix) == 2 {
		dns = gateway
	}
	return gateway, dns
}

func hostBits(p netip.Prefix) int { return p.Addr().BitLen() - p.Bits() }

// completeSubnet checks a subnet that a client or an attachment asks for and
// fills in what is left out.
func completeSubnet(t *model.IpamSubnetType, scope string) (subnet, error) {
	prefix, err := prefixOf(t.Subnet)
	if err != nil {
		return subnet{}, err
	}
	if err := checkPrefix(prefix); err != nil {
		return subnet{}, err
	}
	s, err := readSubnet(t, scope)
	if err != nil {
		return s, err
	}
	if t.DefaultGateway == "" {
		t.DefaultGateway = textOr(s.gateway, prefix)
	}
	if t.DNSServerAddress == "" {
		t.DNSServerAddress = textOr(s.dns, prefix)
	}
	if t.SubnetUUID == "" {
		t.SubnetUUID = model.NewUUID()
	}
	if !model.IsUUID(t.SubnetUUID) {
		return s, fmt.Errorf("subnet %s: subnet_uuid %q is no UUID; leave it out to get one", prefix, brief(t.SubnetUUID))
	}
	s.uuid = t.SubnetUUID
	return s, nil
}

// textOr is an address as subnets show it; the unspecified one stands for none.
func textOr(a netip.Addr, p netip.Prefix) string {
	switch {
	case a.IsValid():
		return a.String()
	case p.Addr().Is4():
		return netip.IPv4Unspecified().String()
	default:
		return netip.IPv6Unspecified().String()
	}
}

// checkPrefix refuses what cannot be a subnet.
func checkPrefix(p netip.Prefix) error {
	if p != p.Masked() {
		return fmt.Errorf("subnet %s has host bits set; write %s", p, p.Masked())
	}
	for _, special := range []string{"127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "::/127", "fe80::/10", "ff00::/8"} {
		if q := netip.MustParsePrefix(special); p.Overlaps(q) {
			return fmt.Errorf("subnet %s overlaps %s, which hosts use for themselves; choose another", p, q)
		}
	}
	return nil
}

// fewestBits is how many bits of an address have to be left by a prefix that has
// network, gateway, service and broadcast addresses and one for a container.
const fewestBits = 3

// checkContainers refuses what is no subnet for containers.
func checkContainers(p netip.Prefix) error {
	if err := checkPrefix(p); err != nil {
		return err
	}
	if longest := p.Addr().BitLen() - fewestBits; p.Bits() > longest {
		return fmt.Errorf("subnet %s is too small for gateway, dns server and one address; use /%d or larger", p, longest)
	}
	for _, special := range []string{"0.0.0.0/8", "240.0.0.0/4", "::ffff:0:0/96"} {
		if q := netip.MustParsePrefix(special); p.Overlaps(q) {
			return fmt.Errorf("subnet %s overlaps %s, which hosts use for themselves; choose another", p, q)
		}
	}
	return nil
}

// checkTogether refuses subnets of one network that overlap, and more than
// there may be.
func checkTogether(list []subnet) error {
	ranges := len(list)
	for i := range list {
		ranges += len(list[i].pools) + len(list[i].routerPools)
	}
	if ranges > maxRanges {
		return fmt.Errorf("%d subnets and allocation pools; at most %d of both together are possible", ranges, maxRanges)
	}
	return checkOverlap(prefixList(list))
}

// checkOverlap refuses subnets of one network that overlap.
func checkOverlap(prefixes []netip.Prefix) error {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Overlaps(sorted[i]) {
			return fmt.Errorf("subnet %s overlaps subnet %s of the same network; choose another", sorted[i-1], sorted[i])
		}
	}
	return nil
}

// edges are the network's and the broadcast address; two or one addresses have
// none.
func (s *subnet) edges() []netip.Addr {
	if hostBits(s.prefix) < 2 {
		return nil
	}
	return []netip.Addr{s.prefix.Addr(), netipx.PrefixLastIP(s.prefix)}
}

// reserved are the addresses that are never given out.
func (s *subnet) reserved() []netip.Addr {
	list := s.edges()
	for _, a := range []netip.Addr{s.gateway, s.dns} {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

// ranges are the parts of the subnet that addresses are chosen from.
func (s *subnet) ranges() []netipx.IPRange {
	switch {
	case len(s.pools) > 0:
		return s.pools
	case len(s.routerPools) == 0:
		return []netipx.IPRange{netipx.RangeOfPrefix(s.prefix)}
	}
	var b netipx.IPSetBuilder
	b.AddPrefix(s.prefix)
	for _, r := range s.routerPools {
		b.RemoveRange(r)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // only invalid ranges make an error, and readPools refused them
	}
	return set.Ranges()
}

// spans are the ranges for the ledger, without reserved addresses; a unit that
// holds one of them is left out as a whole.
func (s *subnet) spans() []span {
	if s.known != nil {
		return s.known
	}
	var b netipx.IPSetBuilder
	for _, r := range s.ranges() {
		b.AddRange(r)
	}
	for _, a := range s.reserved() {
		b.Remove(a)
	}
	set, err := b.IPSet()
	if err != nil {
		return nil // only invalid ranges make an error, and readSubnet refused them
	}
	var list []span
	for _, r := range set.Ranges() {
		first, last := indexOf(r.From()), indexOf(r.To())
		if s.unit > 1 {
			first = alignDown(first.plus(s.unit-1), s.unit)
			if first.compare(last) > 0 || first.distance(last) < s.unit-1 {
				continue
			}
			last = alignDown(last.minus(s.unit-1), s.unit)
		}
		part := span{first: first, last: last, unit: s.unit}
		if !s.fromStart {
			part = span{first: last, last: first, unit: s.unit, down: true}
		}
		list = append(list, part)
	}
	if !s.fromStart {
		slices.Reverse(list)
	}
	return list
}

func alignDown(i index, unit uint64) index { return index{i.hi, i.lo &^ (unit - 1)} }

// size is how many addresses (or units of them) can be given out.
func (s *subnet) size() uint64 {
	var n uint64
	for _, part := range s.spans() {
		n = min(n+part.size(), 1<<62)
	}
	return n
}
