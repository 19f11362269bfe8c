package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The names of the underlay's filters, on a kernel without tcx.
const (
	underlayFilter = "contrail_underlay"
	guardFilter    = "contrail_guard"
)

// attachUnderlay puts underlay_rx on the ingress of the device, and underlay_tx on its
// egress: by pinned tcx links, or by filters where the kernel has no such hook
// (before Linux 6.6). What another agent left there is adopted and gets the new
// program in one step. By then all programs that send into tunnels have to be of
// this process: underlay_tx knows what they send by a mark.
func (d *Dataplane) attachUnderlay(ifindex int) error {
	err := ebpf.ErrNotSupported
	if !d.config.withoutTCX {
		err = attachLink(ifindex, d.objects.UnderlayRx, ebpf.AttachTCXIngress, d.underlayPin())
		if err == nil {
			err = attachLink(ifindex, d.objects.UnderlayTx, ebpf.AttachTCXEgress, d.guardPin())
		}
	}
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	d.log.Info("the kernel has no tcx hook: the underlay gets a clsact filter", "kernel", release())
	return d.attachUnderlayFilter(ifindex)
}

// underlayRecord stands for the pin that a filter cannot have: the device that
// has the filter, and the id of its program. Nothing pins that, so it lives as
// long as the filter does, or an agent that has loaded it.
type underlayRecord struct {
	IfIndex uint32
	Program uint32
}

func (d *Dataplane) underlayRecordPin() string {
	return filepath.Join(d.linkDir(), "underlay_filter")
}

func (d *Dataplane) attachUnderlayFilter(ifindex int) error {
	m, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: "underlay_filter", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Pinning: ebpf.PinByName,
	}, ebpf.MapOptions{PinPath: d.linkDir()})
	if err != nil {
		return fmt.Errorf("open record of the filter: %w", err)
	}
	defer m.Close()
	var record underlayRecord
	if err := m.Lookup(uint32(0), &record); err != nil {
		return fmt.Errorf("read record of the filter: %w", err)
	}
	if at := int(record.IfIndex); at != 0 && at != ifindex {
		if err := d.removeUnderlayFilters(at); err != nil {
			return err
		}
	}
	if err := d.putUnderlayFilters(ifindex); err != nil {
		return err
	}
	info, err := d.objects.UnderlayRx.Info()
	if err != nil {
		return fmt.Errorf("read id of the program: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return errors.New("read id of the program: the kernel does not tell it")
	}
	if err := m.Put(uint32(0), underlayRecord{uint32(ifindex), uint32(id)}); err != nil {
		return fmt.Errorf("write record of the filter: %w", err)
	}
	return nil
}

// underlayFilters are what filters ingress and egress of the underlay. The ingress is
// first: until it has this process's program, copies that come in by it once more
// leave without the mark that the egress looks for.
func (d *Dataplane) underlayFilters() []filter {
	return []filter{
		{netlink.HANDLE_MIN_INGRESS, underlayFilter, "ingress", d.objects.UnderlayRx},
		{netlink.HANDLE_MIN_EGRESS, guardFilter, "egress", d.objects.UnderlayTx},
	}
}

type filter struct {
	parent      uint32
	name, where string
	program     *ebpf.Program
}

func (d *Dataplane) putUnderlayFilters(ifindex int) error {
	for _, f := range d.underlayFilters() {
		if err := d.refuseForeignFilter(ifindex, f); err != nil {
			return err
		}
	}
	for _, f := range d.underlayFilters() {
		if err := putFilter(d.links, ifindex, f.parent, f.program, f.name); err != nil {
			return err
		}
	}
	return nil
}

// refuseForeignFilter fails where our place is another program's: the underlay
// is the host's device, which others may filter, too.
func (d *Dataplane) refuseForeignFilter(ifindex int, ours filter) error {
	filters, err := d.filters(ifindex, ours.parent)
	if err != nil {
		return err
	}
	for _, f := range filters {
		attrs := f.Attrs()
		if attrs.Priority != filterPriority {
			continue
		}
		bpf, ok := f.(*netlink.BpfFilter)
		if ok && attrs.Protocol == unix.ETH_P_ALL && (bpf.Name == ours.name || attrs.Handle != filterHandle) {
			continue
		}
		return fmt.Errorf("another program's %s filter has priority %d there; give it a higher number, or remove it: "+
			"tc filter del dev DEVICE %[3]s pref %[2]d", f.Type(), filterPriority, ours.where)
	}
	return nil
}

// detachUnderlay removes the programs from the underlay; absent is success.
func (d *Dataplane) detachUnderlay() error {
	if err := errors.Join(detachLink(d.guardPin()), detachLink(d.underlayPin())); err != nil {
		return err
	}
	record, err := readUnderlayRecord(d.underlayRecordPin())
	if err != nil || record == nil {
		return err
	}
	if err := d.removeUnderlayFilters(int(record.IfIndex)); err != nil {
		return err
	}
	if err := os.Remove(d.underlayRecordPin()); err != nil {
		return fmt.Errorf("unpin record of the filter: %w", err)
	}
	return nil
}

// underlayLives says whether the pins' underlay still has its program.
func (d *Dataplane) underlayLives() (bool, error) {
	if live, err := linkLives(d.underlayPin()); live || err != nil {
		return live, err
	}
	record, err := readUnderlayRecord(d.underlayRecordPin())
	if err != nil || record == nil {
		return false, err
	}
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(record.Program))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open program %d: %w", record.Program, err)
	}
	return true, program.Close()
}

// readUnderlayRecord returns nil where there is none.
func readUnderlayRecord(pin string) (*underlayRecord, error) {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open record of the filter: %w", err)
	}
	defer m.Close()
	record := &underlayRecord{}
	if err := m.Lookup(uint32(0), record); err != nil {
		return nil, fmt.Errorf("read record of the filter: %w", err)
	}
	return record, nil
}

// removeUnderlayFilters removes our filters from a device that others may filter,
// too, and the qdisc with them where nobody does; absent is success.
func (d *Dataplane) removeUnderlayFilters(ifindex int) error {
	others := false
	for _, ours := range d.underlayFilters() {
		filters, err := d.filters(ifindex, ours.parent)
		if err != nil {
			return err
		}
		for _, f := range filters {
			if bpf, ok := f.(*netlink.BpfFilter); !ok || bpf.Name != ours.name {
				others = true
				continue
			}
			if err := d.links.FilterDel(f); err != nil && !isGone(err) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("detach program from interface %d: %w", ifindex, err)
			}
		}
	}
	if others {
		return nil
	}
	return d.detachFilter(ifindex)
}
