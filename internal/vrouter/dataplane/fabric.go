package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// MaxLinkLocalTargets is at how many addresses a link-local service may be.
const MaxLinkLocalTargets = 8

// Link-local services are where tasks look for them: in 169.254.0.0/16 (RFC 3927).
var linkLocalNet = netip.MustParsePrefix("169.254.0.0/16")

// LinkLocalTargets are the addresses of the fabric that a link-local service is at.
// It can be compared; those that are not used are zero.
type LinkLocalTargets [MaxLinkLocalTargets]netip.Addr

// LinkLocal is a service of the fabric that tasks find at a link-local address.
type LinkLocal struct {
	// Targets share the flows, each of which stays with its own.
	Targets LinkLocalTargets
	Port    uint16
}

// FabricServices is what leaves the node by the underlay without a tunnel, as the node's own:
// see fabric.h of the programs.
type FabricServices struct {
	// LinkLocal are the services that all ports of the node reach, by TCP and UDP,
	// by the address and port that they use.
	LinkLocal map[netip.AddrPort]LinkLocal
	// Refused are prefixes of IPv4 to which nothing goes: nodes and controllers.
	Refused map[netip.Prefix]bool
}

// Equal compares whole.
func (f FabricServices) Equal(o FabricServices) bool {
	return maps.Equal(f.LinkLocal, o.LinkLocal) && maps.Equal(f.Refused, o.Refused)
}

func (f FabricServices) validate() error {
	for at, s := range f.LinkLocal {
		switch {
		case !linkLocalNet.Contains(at.Addr()):
			return fmt.Errorf("link-local service %s is not in %s", at, linkLocalNet)
		case at.Port() == 0 || s.Port == 0:
			return fmt.Errorf("link-local service %s: port is 0", at)
		case s.Targets == LinkLocalTargets{}:
			return fmt.Errorf("link-local service %s is nowhere", at)
		}
		for _, a := range s.Targets {
			if a.IsValid() && !a.Is4() {
				return fmt.Errorf("link-local service %s: address %s is not IPv4", at, a)
			}
		}
	}
	for p := range f.Refused {
		if !p.Addr().Is4() || p != p.Masked() {
			return fmt.Errorf("refused prefix %s is none of IPv4", p)
		}
	}
	return nil
}

// FabricServices returns what the programs have.
func (t *Tables) FabricServices() (FabricServices, error) {
	f := FabricServices{LinkLocal: map[netip.AddrPort]LinkLocal{}, Refused: map[netip.Prefix]bool{}}
	services, err := entries[bpfLinkLocalKey, bpfLinkLocal](t.maps.LinkLocalV1, "link-local services")
	if err != nil {
		return f, err
	}
	for k, v := range services {
		f.LinkLocal[netip.AddrPortFrom(fromWord(k.Addr), swap16(k.Port))] = fromLinkLocal(v)
	}
	refused, err := entries[bpfRefusedKey, uint32](t.maps.FabricRefusedV1, "refused addresses")
	if err != nil {
		return f, err
	}
	for k := range refused {
		f.Refused[netip.PrefixFrom(fromWord(k.Addr), int(k.PrefixLen))] = true
	}
	return f, nil
}

func toLinkLocal(s LinkLocal) (v bpfLinkLocal) {
	for _, a := range s.Targets {
		if a.IsValid() {
			v.Addr[v.Count] = toWord(a)
			v.Count++
		}
	}
	v.Port = swap16(s.Port)
	return v
}

func fromLinkLocal(v bpfLinkLocal) (s LinkLocal) {
	for i := range min(int(v.Count), len(v.Addr)) {
		s.Targets[i] = fromWord(v.Addr[i])
	}
	s.Port = swap16(v.Port)
	return s
}

func toRefusedKey(p netip.Prefix) bpfRefusedKey {
	return bpfRefusedKey{PrefixLen: uint32(p.Bits()), Addr: toWord(p.Addr())}
}

// SetFabricServices makes NAT to the fabric what is wanted, whole. Flows are decided anew:
// those of what is gone end. What is refused is written before what may go out, and
// let go after.
func (d *Dataplane) SetFabricServices(want FabricServices) error {
	if err := want.validate(); err != nil {
		return fmt.Errorf("set NAT to the fabric: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	have, err := d.FabricServices()
	if err != nil {
		return fmt.Errorf("set NAT to the fabric: %w", err)
	}
	if err := d.setFabric(have, want); err != nil {
		return fmt.Errorf("set NAT to the fabric: %w", err)
	}
	if have.Equal(want) {
		return nil
	}
	if err := d.bump(); err != nil {
		return fmt.Errorf("set NAT to the fabric: %w", err)
	}
	return nil
}

func (d *Dataplane) setFabric(have, want FabricServices) error {
	for p := range want.Refused {
		if !have.Refused[p] {
			if err := put(d.maps().FabricRefusedV1, "refused addresses", toRefusedKey(p), uint32(1)); err != nil {
				return fmt.Errorf("refuse %s: %w", p, err)
			}
		}
	}
	for at, s := range want.LinkLocal {
		if have.LinkLocal[at] != s {
			key := bpfLinkLocalKey{Addr: toWord(at.Addr()), Port: swap16(at.Port())}
			if err := put(d.maps().LinkLocalV1, "link-local services", key, toLinkLocal(s)); err != nil {
				return fmt.Errorf("put link-local service %s: %w", at, err)
			}
		}
	}
	var errs []error
	for at := range have.LinkLocal {
		if _, stays := want.LinkLocal[at]; !stays {
			errs = append(errs, deleted(d.maps().LinkLocalV1.Delete(bpfLinkLocalKey{Addr: toWord(at.Addr()), Port: swap16(at.Port())})))
		}
	}
	for p := range have.Refused {
		if !want.Refused[p] {
			errs = append(errs, deleted(d.maps().FabricRefusedV1.Delete(toRefusedKey(p))))
		}
	}
	return errors.Join(errs...)
}

// SNATs returns the ports that reach what is outside of the overlay, by interface
// index, and the number of the network that all outside is in for policy.
func (t *Tables) SNATs() (map[int]uint32, error) {
	outside, err := entries[uint32, uint32](t.maps.SnatV1, "ports with SNAT")
	if err != nil {
		return nil, err
	}
	who, err := t.identities()
	if err != nil {
		return nil, err
	}
	all := make(map[int]uint32, len(outside))
	for ifindex, n := range outside {
		all[int(ifindex)] = who[n].Network()
	}
	return all, nil
}

// PutSNAT lets a port reach what its network has no route to, as the node's own, if
// policy lets it reach the network with this number. The port has to be plugged, and
// what is refused has to be known, see SetFabricServices.
func (d *Dataplane) PutSNAT(ifindex int, network uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.putSNAT(ifindex, network); err != nil {
		return fmt.Errorf("put SNAT of port %d: %w", ifindex, err)
	}
	return nil
}

func (d *Dataplane) putSNAT(ifindex int, network uint32) error {
	if network == 0 {
		return errors.New("the network that all outside is in has no number")
	}
	if err := d.maps().VifV1.Lookup(uint32(ifindex), &bpfVif{}); errors.Is(err, ebpf.ErrKeyNotExist) {
		return ErrNoPort
	} else if err != nil {
		return fmt.Errorf("read port: %w", err)
	}
	var first bpfRefusedKey
	if err := d.maps().FabricRefusedV1.NextKey(nil, &first); errors.Is(err, ebpf.ErrKeyNotExist) {
		return errors.New("the addresses of nodes and controllers are not known yet, which it must not reach")
	} else if err != nil {
		return fmt.Errorf("read refused addresses: %w", err)
	}
	outside := NewIdentity(network, nil, nil)
	if err := d.know([]Identity{outside}); err != nil {
		return err
	}
	var had uint32
	if err := d.maps().SnatV1.Lookup(uint32(ifindex), &had); err == nil && had == d.who.numbers[outside] {
		return nil
	}
	if err := put(d.maps().SnatV1, "ports with SNAT", uint32(ifindex), d.who.numbers[outside]); err != nil {
		return err
	}
	return d.bump()
}

// DeleteSNAT takes it from a port, and its flows with it. Absent is success.
func (d *Dataplane) DeleteSNAT(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.maps().SnatV1.Delete(uint32(ifindex))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err == nil {
		err = d.bump()
	}
	if err != nil {
		return fmt.Errorf("delete SNAT of port %d: %w", ifindex, err)
	}
	return nil
}

// fabricNAT is FABRIC_NAT of the programs.
const fabricNAT = 1

// natSettles is for how long the answers of a flow may be there without it: the
// programs enter them first.
const natSettles = time.Second

// natEnds says whether a flow by NAT is to be forgotten: as one with its answers, for
// these keep the port of the node that both have.
func (d *Dataplane) natEnds(f rawFlow, now time.Duration, ages Ages) bool {
	other := entry[bpfFlowKey, bpfFlow]{key: reverseKeys(f, nil)[0]}
	if err := d.maps().FlowV3.Lookup(other.key, &other.value); err != nil || other.value.Fabric != fabricNAT {
		return f.value.Role != flowAnswers || now-time.Duration(f.value.LastSeen) > natSettles
	}
	begun, answers := f, other
	if f.value.Role == flowAnswers {
		begun, answers = other, f
		if begun.value.NatSport != swapped(f) {
			return now-time.Duration(f.value.LastSeen) > natSettles
		}
	} else if a := answers.value; a.Ifindex != f.value.Ifindex || a.NatDst != f.key.Src.W[3] || a.NatDport != f.key.Sport {
		return true // the port of the node is another flow's by now
	}
	idle := now - time.Duration(max(f.value.LastSeen, other.value.LastSeen))
	return idle > ages.of(f.key.Proto) || idle > ages.Unanswered && (halfOpen(begun) || answers.value.Packets == 0)
}

// swapped is the port of the node in the key of an answer, as keys have it.
func swapped(f rawFlow) uint16 {
	if f.key.Proto == protocolICMP {
		return f.key.Sport
	}
	return f.key.Dport
}

// NATPorts are the ports of the node that NAT to the fabric uses, both included.
type NATPorts struct{ First, Last uint16 }

// DefaultNATPorts are above those that Linux gives to sockets by default.
var DefaultNATPorts = NATPorts{61000, 65535}

// minNATPorts: of fewer a port would have too few with one far end.
const minNATPorts = 64

// ParseNATPorts reads "FIRST-LAST".
func ParseNATPorts(text string) (NATPorts, error) {
	first, last, _ := strings.Cut(text, "-")
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	p := NATPorts{uint16(a), uint16(b)}
	if err1 != nil || err2 != nil {
		return p, fmt.Errorf("ports %q: want FIRST-LAST, such as %s", text, DefaultNATPorts)
	}
	return p, p.validate()
}

func (p NATPorts) validate() error {
	if p.First < 1024 || p.count() < minNATPorts {
		return fmt.Errorf("ports %s: want at least %d, from 1024 on", p, minNATPorts)
	}
	return nil
}

func (p NATPorts) count() int { return int(p.Last) - int(p.First) + 1 }

func (p NATPorts) String() string { return fmt.Sprintf("%d-%d", p.First, p.Last) }

// NATProblem is why the node has no ports for NAT to the fabric, so that it refuses
// new flows; nil where it has.
func (d *Dataplane) NATProblem() error { return d.natProblem }

// NATPorts are the ports of the node that it uses.
func (d *Dataplane) NATPorts() NATPorts { return d.config.NATPorts }

// natPorts is how many ports there are.
func (d *Dataplane) natPorts() int {
	if d.natProblem != nil {
		return 0
	}
	return d.config.NATPorts.count()
}

// Sockets of the node that name no port get one of the first range, but for those in
// the second.
const (
	localPorts    = "/proc/sys/net/ipv4/ip_local_port_range"
	reservedPorts = "/proc/sys/net/ipv4/ip_local_reserved_ports"
)

// reserveNATPorts has the kernel give none of the ports to sockets of the network
// namespace: they are outside of its range, or reserved, or come to be that here.
func (d *Dataplane) reserveNATPorts() error {
	p := d.config.NATPorts
	local, err := os.ReadFile(localPorts)
	if err != nil {
		return fmt.Errorf("read the range of ports of sockets: %w", err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(local), &first, &last); err != nil {
		return fmt.Errorf("read %s: %w", localPorts, err)
	}
	if int(p.Last) < first || int(p.First) > last {
		return nil
	}
	raw, err := os.ReadFile(reservedPorts)
	if err != nil {
		return fmt.Errorf("read the ports that are reserved: %w", err)
	}
	reserved := strings.TrimSpace(string(raw))
	if coversPorts(reserved, max(int(p.First), first), min(int(p.Last), last)) {
		return nil
	}
	list := strings.TrimPrefix(reserved+","+p.String(), ",")
	if err := os.WriteFile(reservedPorts, []byte(list), 0o644); err != nil {
		return fmt.Errorf("reserve ports %s: sockets of the node may get one of %d-%d: set net.ipv4.ip_local_reserved_ports to %s, or choose others: %w", p, first, last, list, err)
	}
	d.log.Info("ports for NAT are reserved", "ports", p, "net.ipv4.ip_local_reserved_ports", list)
	return nil
}

// coversPorts says whether a list such as 1,5-9 has all ports from first to last.
func coversPorts(list string, first, last int) bool {
	type span struct{ first, last int }
	var spans []span
	for _, text := range strings.Split(list, ",") {
		a, b, isRange := strings.Cut(text, "-")
		if !isRange {
			b = a
		}
		from, err1 := strconv.Atoi(a)
		to, err2 := strconv.Atoi(b)
		if err1 == nil && err2 == nil {
			spans = append(spans, span{from, to})
		}
	}
	slices.SortFunc(spans, func(x, y span) int { return cmp.Compare(x.first, y.first) })
	for _, s := range spans {
		if s.first > first {
			break
		}
		first = max(first, s.last+1)
	}
	return first > last
}
