package dataplane

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Containers' devices carry the program as a filter of their clsact qdisc. The
// kernel takes some 0.15 ms to put it there, while the first program on a tcx
// hook waits for an RCU grace period, 7 to 16 ms with the RTNL lock held: too
// long for what every container start does. A filter lives as long as its
// device and is replaced in one step, so it needs no pin.
const (
	filterName     = "contrail_vif"
	proberFilter   = "contrail_probe"
	filterPriority = 1
	filterHandle   = 1
)

// attachFilter puts vif_rx on the device, or replaces the one it has, without
// a packet passing unseen.
func (d *Dataplane) attachFilter(ifindex int) error {
	return d.attachProgram(ifindex, d.objects.VifRx, filterName)
}

func (d *Dataplane) attachProgram(ifindex int, prog *ebpf.Program, name string) error {
	return putFilter(d.links, ifindex, netlink.HANDLE_MIN_INGRESS, prog, name)
}

func putFilter(links *netlink.Handle, ifindex int, parent uint32, prog *ebpf.Program, name string) error {
	if err := links.QdiscAdd(clsact(ifindex)); err != nil && !errors.Is(err, unix.EEXIST) {
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("the kernel has no clsact qdisc: load its module, modprobe sch_ingress (CONFIG_NET_SCH_INGRESS): %w", err)
		}
		return fmt.Errorf("add clsact qdisc to interface %d: %w", ifindex, err)
	}
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: parent, Handle: filterHandle,
			Protocol: unix.ETH_P_ALL, Priority: filterPriority,
		},
		Fd: prog.FD(), Name: name, DirectAction: true,
	}
	if err := links.FilterReplace(filter); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("the kernel has no BPF filters: load their module, modprobe cls_bpf (CONFIG_NET_CLS_BPF): %w", err)
		}
		return fmt.Errorf("attach program to interface %d: %w", ifindex, err)
	}
	return nil
}

// detachFilter removes the program from the device; absent is success.
func (d *Dataplane) detachFilter(ifindex int) error {
	err := d.links.QdiscDel(clsact(ifindex))
	// EINVAL and ENOENT: the device has no such qdisc.
	if err != nil && !isGone(err) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("detach program from interface %d: %w", ifindex, err)
	}
	return nil
}

// filters returns what filters the device's ingress or egress, nothing where there
// is no device or no clsact qdisc.
func (d *Dataplane) filters(ifindex int, parent uint32) ([]netlink.Filter, error) {
	device := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	filters, err := Dump(func() ([]netlink.Filter, error) { return d.links.FilterList(device, parent) })
	if isGone(err) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filters of interface %d: %w", ifindex, err)
	}
	return filters, nil
}

// hasFilter says whether the device carries our program.
func (d *Dataplane) hasFilter(ifindex int) (bool, error) {
	filters, err := d.filters(ifindex, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return false, err
	}
	for _, f := range filters {
		if bpf, ok := f.(*netlink.BpfFilter); ok && bpf.Name == filterName {
			return true, nil
		}
	}
	return false, nil
}

// filtered returns the indexes of all devices of the namespace that carry our
// program.
func (d *Dataplane) filtered() ([]int, error) {
	qdiscs, err := Dump(func() ([]netlink.Qdisc, error) { return d.links.QdiscList(nil) })
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	var found []int
	for _, q := range qdiscs {
		if q.Type() != "clsact" {
			continue
		}
		ours, err := d.hasFilter(q.Attrs().LinkIndex)
		if err != nil {
			return nil, err
		}
		if ours {
			found = append(found, q.Attrs().LinkIndex)
		}
	}
	return found, nil
}

func clsact(ifindex int) netlink.Qdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		},
		QdiscType: "clsact",
	}
}
