package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errTooMany is what the kernel says when a map is full.
const errTooMany = unix.E2BIG

// Guard attaches the program to a device that is to become a port, so that it
// drops all packets until PutPort, however the device is treated meanwhile.
// DeletePort undoes it.
func (d *Dataplane) Guard(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attachFilter(ifindex)
}

// PutPort makes the port as described: it writes the tables, attaches the
// program to the device and brings the device up, in this order, so that no
// packet passes unseen. It may be repeated, also with changes.
func (d *Dataplane) PutPort(p Port) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("put port %s: %w", p.Name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.putPort(p); err != nil {
		return fmt.Errorf("put port %s (interface %d): %w", p.Name, p.IfIndex, err)
	}
	return nil
}

func (d *Dataplane) putPort(p Port) error {
	device, err := d.links.LinkByIndex(p.IfIndex)
	if err != nil {
		return fmt.Errorf("find device: %w", err)
	}
	old, err := d.port(p.IfIndex)
	if err != nil {
		return err
	}
	if old == nil || !old.Equal(p) {
		if err := d.writePort(p, old); err != nil {
			return err
		}
	}
	if err := d.attachFilter(p.IfIndex); err != nil {
		return err
	}
	if device.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := d.links.LinkSetUp(device); err != nil {
			return fmt.Errorf("bring device up: %w", err)
		}
	}
	return nil
}

// writePort writes the tables. The label comes last and the old one goes first:
// it is by which others reach the port.
func (d *Dataplane) writePort(p Port, old *Port) error {
	if owner, err := d.labelOwner(p.Label); err != nil {
		return err
	} else if owner != 0 && owner != p.IfIndex {
		return fmt.Errorf("label %d belongs to the port of interface %d", p.Label, owner)
	}
	slot, err := d.takeSlot(p.IfIndex)
	if err != nil {
		return err
	}
	if err := d.putLimits(slot, p); err != nil {
		return err
	}
	if old != nil && old.Label != p.Label {
		if err := deleted(d.maps().LabelV1.Delete(old.Label)); err != nil {
			return fmt.Errorf("delete label %d: %w", old.Label, err)
		}
	}
	vif := bpfVif{
		Vrf: p.VRF, Label: p.Label, Slot: slot, Mac: p.MAC,
		Primary: toAddr(p.Addresses[0]), Name: cName(p.Name),
	}
	if p.Blocked {
		vif.Blocked = 1
	}
	if len(p.Foreign) > 0 {
		vif.Foreign = 1
		if err := d.putForeign(p); err != nil {
			return err
		}
	}
	if err := d.maps().VifV1.Put(uint32(p.IfIndex), vif); err != nil {
		return fmt.Errorf("write port: %w", err)
	}
	if err := errors.Join(d.putGateways(p), d.trimForeign(p)); err != nil {
		return err
	}
	if err := d.joinBridge(p.IfIndex, p.VRF); err != nil {
		return err
	}
	for _, a := range p.Addresses {
		key := bpfPortAddrKey{Ifindex: uint32(p.IfIndex), Addr: toAddr(a)}
		if err := d.maps().PortAddrV1.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("write address %s: %w", a, err)
		}
	}
	if old != nil {
		for _, a := range old.Addresses {
			if slices.Contains(p.Addresses, a) {
				continue
			}
			key := bpfPortAddrKey{Ifindex: uint32(p.IfIndex), Addr: toAddr(a)}
			if err := deleted(d.maps().PortAddrV1.Delete(key)); err != nil {
				return fmt.Errorf("delete address %s: %w", a, err)
			}
		}
	}
	if err := d.maps().LabelV1.Put(p.Label, uint32(p.IfIndex)); err != nil {
		return fmt.Errorf("write label %d: %w", p.Label, err)
	}
	return d.bump()
}

// putGateways writes the gateways that a port has.
func (d *Dataplane) putGateways(p Port) error {
	if len(p.Gateways) == 0 {
		if err := deleted(d.maps().GatewayV1.Delete(uint32(p.IfIndex))); err != nil {
			return fmt.Errorf("delete gateways: %w", err)
		}
		return nil
	}
	list := bpfGateways{Count: uint32(len(p.Gateways))}
	for i, a := range p.Gateways {
		list.Addr[i] = toAddr(a)
	}
	if err := d.maps().GatewayV1.Put(uint32(p.IfIndex), list); err != nil {
		return fmt.Errorf("write gateways: %w", err)
	}
	return nil
}

func fromGateways(c bpfGateways) []netip.Addr {
	var list []netip.Addr
	for _, a := range c.Addr[:min(c.Count, MaxGateways)] {
		list = append(list, fromAddr(a))
	}
	return list
}

// port reads one port back, nil when it is not there.
func (d *Dataplane) port(ifindex int) (*Port, error) {
	err := d.maps().VifV1.Lookup(uint32(ifindex), &bpfVif{})
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read port: %w", err)
	}
	ports, err := d.Ports()
	if err != nil {
		return nil, err
	}
	p, ok := ports[ifindex]
	if !ok {
		return nil, nil
	}
	return &p, nil
}

func (d *Dataplane) labelOwner(label uint32) (int, error) {
	var ifindex uint32
	err := d.maps().LabelV1.Lookup(label, &ifindex)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read label %d: %w", label, err)
	}
	return int(ifindex), nil
}

// takeSlot returns the port's slot in the per-port arrays, a free one with
// counters at zero if it has none.
func (d *Dataplane) takeSlot(ifindex int) (uint32, error) {
	if slot, ok := d.slots[ifindex]; ok {
		return slot, nil
	}
	taken := make(map[uint32]bool, len(d.slots))
	for _, slot := range d.slots {
		taken[slot] = true
	}
	slot := uint32(0)
	for taken[slot] {
		slot++
	}
	if slot >= d.maps().CounterV1.MaxEntries() {
		return 0, fmt.Errorf("all %d ports are taken", d.maps().CounterV1.MaxEntries())
	}
	err := d.maps().CounterV1.Put(slot, make([]bpfCounters, ebpf.MustPossibleCPU()))
	for dir := range uint32(flowDirs) {
		err = errors.Join(err,
			d.maps().FlowMadeV2.Put(account(slot, dir), bpfFlowCount{}),
			d.maps().FlowGoneV2.Put(account(slot, dir), bpfFlowCount{}))
	}
	if err != nil {
		return 0, fmt.Errorf("reset counters of slot %d: %w", slot, err)
	}
	d.slots[ifindex] = slot
	if err := d.outdate(ifindex); err != nil {
		delete(d.slots, ifindex)
		return 0, err
	}
	return slot, nil
}

// DeletePort takes the device down, detaches the program and removes all that
// the tables hold of the port, flows to and from it included. Absent is
// success, and so is a device that is gone. When it fails it may be repeated:
// the port is blocked meanwhile, and its record goes last.
//
// Routes to the port are the caller's, who removes them.
func (d *Dataplane) DeletePort(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deletePort(ifindex); err != nil {
		return fmt.Errorf("delete port of interface %d: %w", ifindex, err)
	}
	return nil
}

func (d *Dataplane) deletePort(ifindex int) error {
	var vif bpfVif
	err := d.maps().VifV1.Lookup(uint32(ifindex), &vif)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return d.unguard(ifindex)
	}
	if err != nil {
		return fmt.Errorf("read port: %w", err)
	}
	vif.Blocked = 1
	if err := d.maps().VifV1.Put(uint32(ifindex), vif); err != nil {
		return fmt.Errorf("block port: %w", err)
	}
	owner, err := d.labelOwner(vif.Label)
	if err != nil {
		return err
	}
	if owner == ifindex {
		if err := deleted(d.maps().LabelV1.Delete(vif.Label)); err != nil {
			return fmt.Errorf("delete label %d: %w", vif.Label, err)
		}
	}
	if err := d.bump(); err != nil {
		return err
	}
	if err := d.closeDevice(ifindex); err != nil {
		return err
	}
	addrs, err := entries[bpfPortAddrKey, uint32](d.maps().PortAddrV1, "addresses of ports")
	if err != nil {
		return err
	}
	for key := range addrs {
		if int(key.Ifindex) != ifindex {
			continue
		}
		if err := deleted(d.maps().PortAddrV1.Delete(key)); err != nil {
			return fmt.Errorf("delete address: %w", err)
		}
	}
	if err := d.deletePolicy(ifindex); err != nil {
		return fmt.Errorf("delete policy: %w", err)
	}
	bare := Port{IfIndex: ifindex}
	if err := errors.Join(d.putGateways(bare), d.trimForeign(bare), d.joinBridge(ifindex, 0)); err != nil {
		return err
	}
	if err := d.deleteServices(func(k ServiceKey) bool { return k.IfIndex == ifindex }); err != nil {
		return fmt.Errorf("delete services: %w", err)
	}
	if err := deleted(d.maps().SnatV1.Delete(uint32(ifindex))); err != nil {
		return fmt.Errorf("delete SNAT: %w", err)
	}
	if err := errors.Join(d.purgeFlows(ifindex), d.purgeFragments(ifindex, vif.Label)); err != nil {
		return err
	}
	if err := d.foldDrops(ifindex); err != nil {
		return err
	}
	if err := d.putLimits(vif.Slot, bare); err != nil {
		return err
	}
	if err := deleted(d.maps().VifV1.Delete(uint32(ifindex))); err != nil {
		return fmt.Errorf("delete record: %w", err)
	}
	delete(d.slots, ifindex)
	return nil
}

// unguard closes a device that has the program and no port.
func (d *Dataplane) unguard(ifindex int) error {
	guarded, err := d.hasFilter(ifindex)
	if err != nil || !guarded {
		return err
	}
	return d.closeDevice(ifindex)
}

// closeDevice takes the device down and then detaches the program. A device
// without it would hand the container's packets to the host.
func (d *Dataplane) closeDevice(ifindex int) error {
	device, err := d.links.LinkByIndex(ifindex)
	switch {
	case err == nil:
		if err := d.links.LinkSetDown(device); err != nil && !isGone(err) {
			return fmt.Errorf("take device %s down: %w", device.Attrs().Name, err)
		}
	case !isGone(err):
		return fmt.Errorf("find device: %w", err)
	}
	return d.detachFilter(ifindex)
}

// foldDrops adds the port's drop counts to those of interface 0.
func (d *Dataplane) foldDrops(ifindex int) error {
	for _, reason := range DropReasons() {
		key := bpfDropKey{Reason: uint32(reason), Ifindex: uint32(ifindex)}
		var counts, total []bpfDropCount
		err := d.maps().DropV1.Lookup(key, &counts)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		sum := bpfDropKey{Reason: uint32(reason)}
		if err == nil {
			err = d.maps().DropV1.Lookup(sum, &total)
		}
		if err != nil {
			return fmt.Errorf("read drops: %w", err)
		}
		for i := range total {
			total[i].Packets += counts[i].Packets
			total[i].Bytes += counts[i].Bytes
		}
		if err := d.maps().DropV1.Put(sum, total); err != nil {
			return fmt.Errorf("keep drops: %w", err)
		}
		if err := deleted(d.maps().DropV1.Delete(key)); err != nil {
			return fmt.Errorf("delete drops: %w", err)
		}
	}
	return nil
}

// deleted makes the absence of a map entry a success.
func deleted(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// isGone says whether a device does not exist any more.
func isGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}
