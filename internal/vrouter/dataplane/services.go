package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ServiceKey is where a port finds a BGP service: at Server, an address of its
// network, from Client, one of its own, by TCP to port 179. Only that port does.
type ServiceKey struct {
	// IfIndex is that of the port's device.
	IfIndex int        `json:"ifindex"`
	Client  netip.Addr `json:"client"`
	Server  netip.Addr `json:"server"`
}

// Compare orders keys by interface.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(cmp.Compare(k.IfIndex, o.IfIndex), k.Client.Compare(o.Client), k.Server.Compare(o.Server))
}

func (k ServiceKey) String() string {
	return fmt.Sprintf("%s from %s of interface %d", k.Server, k.Client, k.IfIndex)
}

// Service is what is there: BGP of a control node, on the underlay.
type Service struct {
	Control netip.Addr `json:"control"`
	// Source is the port of the node's own address that the control node knows
	// the client by; no other port has it.
	Source uint16 `json:"source"`
}

func (s Service) String() string { return fmt.Sprintf("BGP of %s from port %d", s.Control, s.Source) }

func (d *Dataplane) validateService(k ServiceKey, s Service) error {
	switch {
	case k.IfIndex <= 0:
		return fmt.Errorf("ifindex %d is not positive", k.IfIndex)
	case !k.Client.Is4() || !k.Server.Is4():
		return fmt.Errorf("client %s and server %s are not both IPv4", k.Client, k.Server)
	case !s.Control.Is4():
		return fmt.Errorf("address %s of the control node is not IPv4", s.Control)
	case s.Control == d.config.LocalIP:
		return fmt.Errorf("control node %s is on the node of the client itself: a client has to be on another one", s.Control)
	case s.Source < 1024:
		return fmt.Errorf("source port %d is not one of clients", s.Source)
	}
	return nil
}

// Services returns all services of all ports.
func (t *Tables) Services() (map[ServiceKey]Service, error) {
	raw, err := entries[bpfBgpServiceKey, bpfBgpService](t.maps.BgpServiceV1, "services")
	if err != nil {
		return nil, err
	}
	all := make(map[ServiceKey]Service, len(raw))
	for key, s := range raw {
		all[ServiceKey{int(key.Ifindex), fromWord(key.Client), fromWord(key.Server)}] = Service{fromWord(s.Control), swap16(s.Sport)}
	}
	return all, nil
}

func toServiceKey(k ServiceKey) bpfBgpServiceKey {
	return bpfBgpServiceKey{Ifindex: uint32(k.IfIndex), Client: toWord(k.Client), Server: toWord(k.Server)}
}

// PutService lets a port reach a service, in place of any other there. What is
// connected stays with the control node that it is connected with.
//
// It takes the source port from the node's own programs for as long as there is
// a client with it: a program that used it for its own BGP would be taken for
// the client, or break its connection. Where one has the port at the moment, the
// service is there and the error says what is missing; it may be repeated.
func (d *Dataplane) PutService(k ServiceKey, s Service) error {
	if err := d.validateService(k, s); err != nil {
		return fmt.Errorf("put service at %s: %w", k, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all, err := d.Services()
	if err != nil {
		return fmt.Errorf("put service at %s: %w", k, err)
	}
	for other, o := range all {
		if o.Source == s.Source && other.IfIndex != k.IfIndex {
			return fmt.Errorf("put service at %s: source port %d is that of the service at %s", k, s.Source, other)
		}
	}
	if all[k] != s {
		value := bpfBgpService{Control: toWord(s.Control), Sport: swap16(s.Source)}
		if err := d.maps().BgpServiceV1.Put(toServiceKey(k), value); err != nil {
			return fmt.Errorf("put service at %s: %w", k, err)
		}
		if err := d.bump(); err != nil {
			return fmt.Errorf("put service at %s: %w", k, err)
		}
	}
	if err := d.reserveSources(); err != nil {
		return fmt.Errorf("put service at %s: %w", k, err)
	}
	return nil
}

// DeleteService takes a service away from a port, with its connection. Absent is
// success.
func (d *Dataplane) DeleteService(k ServiceKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deleteServices(func(o ServiceKey) bool { return o == k }); err != nil {
		return fmt.Errorf("delete service at %s: %w", k, err)
	}
	return nil
}

// deleteServices deletes those that match, and then, as for all that there is no
// service for, their flows.
func (d *Dataplane) deleteServices(match func(ServiceKey) bool) error {
	all, err := d.Services()
	if err != nil {
		return err
	}
	found := false
	for k := range all {
		if !match(k) {
			continue
		}
		found = true
		if err := deleted(d.maps().BgpServiceV1.Delete(toServiceKey(k))); err != nil {
			return err
		}
		delete(all, k)
	}
	if !found {
		return nil
	}
	if err := d.bump(); err != nil {
		return err
	}
	_, _, err = d.sweep(func(f rawFlow) bool {
		there, _ := hasService(f, all)
		return ofService(f) && !there
	})
	if err != nil {
		return err
	}
	return d.reserveSources()
}

// flowScopeFabric is FLOW_SCOPE_FABRIC of the programs.
const flowScopeFabric = 1 << 30

// ofService says whether a flow is one of a client with a control node. Those
// with the control node of their service have no age: there is one at a time, and
// by the flow alone does a packet of the control node find the client.
func ofService(f rawFlow) bool {
	return f.value.Fabric != fabricNAT && (f.value.Nh.Kind == uint8(Fabric) || f.key.Dir == flowFromTunnel && f.key.Scope == flowScopeFabric)
}

// hasService says whether there still is what such a flow was decided by, and
// whether a new one would go to the same control node.
func hasService(f rawFlow, all map[ServiceKey]Service) (there, same bool) {
	k := ServiceKey{int(f.value.Ifindex), fromWord(f.value.NatDst), fromWord(f.value.NatSrc)}
	s := Service{fromAddr(f.key.Src), swap16(f.key.Dport)}
	if f.key.Dir == flowFromPort {
		k.Client, k.Server = fromAddr(f.key.Src), fromAddr(f.key.Dst)
		s = Service{fromWord(f.value.NatDst), swap16(f.value.NatSport)}
	}
	have, ok := all[k]
	return ok && have.Source == s.Source, have == s
}

// reserveSources holds the source ports of all services by sockets that are
// bound and do nothing: so no program of the node has one, and what comes for it
// without a flow is answered by a reset.
func (d *Dataplane) reserveSources() error {
	all, err := d.Services()
	if err != nil {
		return err
	}
	used := map[uint16]bool{}
	var errs []error
	for _, s := range all {
		if used[s.Source] {
			continue
		}
		used[s.Source] = true
		if _, held := d.sources[s.Source]; held {
			continue
		}
		fd, err := bindPort(d.config.LocalIP, s.Source)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.sources[s.Source] = fd
	}
	for port, fd := range d.sources {
		if !used[port] {
			unix.Close(fd)
			delete(d.sources, port)
		}
	}
	return errors.Join(errs...)
}

func (d *Dataplane) releaseSources() {
	for port, fd := range d.sources {
		unix.Close(fd)
		delete(d.sources, port)
	}
}

// bindPort takes a TCP port of an address from all others.
func bindPort(address netip.Addr, port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: address.As4()}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("source port %d is not reserved: a program of the node has it at %s: %w", port, address, err)
	}
	return fd, nil
}
