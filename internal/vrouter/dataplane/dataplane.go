package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config says what to open. The zero value of a size means its default; sizes
// of maps that are already pinned stay as they are.
type Config struct {
	// PinDir is a directory on a bpffs, one per node; it is made if missing.
	PinDir string
	// Underlay is the name of the device towards the other nodes.
	Underlay string
	// LocalIP is the node's address on the underlay, the end of its tunnels.
	LocalIP netip.Addr
	// FlowEntries is the size of the flow table, about 200 bytes each,
	// allocated at once. Default 524288.
	FlowEntries uint32
	// PortFlows is how many flows one port may begin, and how many others may
	// begin towards it by tunnel. Default: a sixteenth of FlowEntries. Where
	// the table is half full of flows and their answers, each port has no more
	// than its share of the other half.
	PortFlows uint32
	// PortUnanswered is how many of either may be without an answer. Default: a
	// quarter of PortFlows.
	PortUnanswered uint32
	// MaxPorts is the number of ports. Default 4096.
	MaxPorts uint32
	// HostRoutes and PrefixRoutes are the numbers of routes to single addresses
	// and to shorter prefixes. Defaults 1048576 and 262144; memory is taken as
	// routes come.
	HostRoutes, PrefixRoutes uint32
	// FloodRate is how many copies of broadcasts and the like a port may have made
	// in a second, and how many all that comes by tunnel for a network. Default
	// 10000, at most 1000000.
	FloodRate uint32
	// NATPorts are the ports of LocalIP that NAT to the fabric uses. Default
	// DefaultNATPorts.
	NATPorts NATPorts
	// FlowEvents has the programs tell of flows that policy refuses or ends, for
	// FlowEvents to read.
	FlowEvents bool

	withoutTCX bool // tests: as on a kernel before 6.6
}

func (c Config) withDefaults() Config {
	set := func(v *uint32, value uint32) {
		if *v == 0 {
			*v = value
		}
	}
	set(&c.FlowEntries, 512<<10)
	set(&c.PortFlows, max(c.FlowEntries/16, 1))
	set(&c.PortUnanswered, max(c.PortFlows/4, 1))
	set(&c.MaxPorts, 4096)
	set(&c.HostRoutes, 1<<20)
	set(&c.PrefixRoutes, 256<<10)
	set(&c.FloodRate, 10000)
	if c.NATPorts == (NATPorts{}) {
		c.NATPorts = DefaultNATPorts
	}
	return c
}

func (c Config) validate() error {
	switch {
	case !filepath.IsAbs(c.PinDir):
		return fmt.Errorf("pin directory %q is not an absolute path", c.PinDir)
	case c.Underlay == "":
		return fmt.Errorf("underlay device is not named")
	case !c.LocalIP.Is4():
		return fmt.Errorf("local address %s is not IPv4", c.LocalIP)
	case c.FloodRate > 1e6:
		return fmt.Errorf("flood rate %d is above 1000000 copies in a second", c.FloodRate)
	}
	return c.NATPorts.validate()
}

// Dataplane is the data plane of one node. Its methods may be called by several
// goroutines. Those that name interfaces work in the network namespace that
// Open was called in and must be called there.
type Dataplane struct {
	*Tables
	log     *slog.Logger
	config  Config
	objects bpfObjects
	links   *netlink.Handle

	mu   sync.Mutex // orders changes of the maps
	node bpfNode
	hops hops
	policies
	slots map[int]uint32 // taken slot of each port, by ifindex
	room  uint32         // entries of the flow table
	// sources are sockets that keep source ports of services from others.
	sources map[uint16]int
	// natProblem is why there is no NAT to the fabric; nil where there is.
	natProblem error
	// flowEnded is told of the flows that are removed; nil for nobody.
	flowEnded func(Conversation)
	// bridged are the VRFs whose replicated frames ports get, by ifindex.
	bridged map[int]uint32
}

// Open loads the programs and attaches them in the caller's network namespace.
// Maps and links that are pinned below Config.PinDir are adopted: ports, routes
// and flows stay, the programs of the links are replaced in one step each.
// Pins left by a namespace that is gone are removed first.
//
// An error names what is missing: a bpffs, a device, a feature of the kernel, a
// privilege.
func Open(log *slog.Logger, config Config) (*Dataplane, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	if err := CheckKernel(); err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	if err := makePinDirs(config.PinDir); err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open data plane: %w", err)
	}
	d := &Dataplane{log: log, config: config, links: handle, slots: map[int]uint32{}, sources: map[uint16]int{}, bridged: map[int]uint32{}}
	if err := d.open(); err != nil {
		d.Close()
		return nil, fmt.Errorf("open data plane at %s: %w", config.PinDir, err)
	}
	return d, nil
}

func (d *Dataplane) open() error {
	underlay, err := d.links.LinkByName(d.config.Underlay)
	if err != nil {
		return fmt.Errorf("underlay device %s: %w", d.config.Underlay, err)
	}
	netns, err := netnsCookie()
	if err != nil {
		return err
	}
	if err := d.discardForeign(netns); err != nil {
		return err
	}
	if d.natProblem = d.reserveNATPorts(); d.natProblem != nil {
		d.log.Error("there is no NAT to the fabric: link-local services and SNAT refuse new flows", "error", d.natProblem)
	}
	if err := d.load(underlay.Attrs().Index); err != nil {
		return err
	}
	d.Tables = &Tables{maps: &d.objects.bpfMaps}
	if err := d.adopt(netns); err != nil {
		return err
	}
	if err := d.attachUnderlay(underlay.Attrs().Index); err != nil {
		return fmt.Errorf("attach to underlay %s: %w", d.config.Underlay, err)
	}
	return nil
}

// load makes or reopens the maps and loads the programs.
func (d *Dataplane) load(underlay int) error {
	spec, err := loadBpf()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	if err := d.sizeMaps(spec); err != nil {
		return err
	}
	d.room = spec.Maps[bpfMapFlowV3].MaxEntries
	var vars bpfVariableSpecs
	if err := spec.Assign(&vars); err != nil {
		return fmt.Errorf("find constants of the programs: %w", err)
	}
	local, events := toAddr(d.config.LocalIP).W[3], uint32(0)
	if d.config.FlowEvents {
		events = 1
	}
	if err := errors.Join(
		vars.LocalIp.Set(local),
		vars.UnderlayIfindex.Set(uint32(underlay)),
		vars.PortFlows.Set(int32(d.config.PortFlows)),
		vars.PortUnanswered.Set(int32(d.config.PortUnanswered)),
		vars.CrowdedFlows.Set(int32(d.room/(2*flowPair))),
		vars.FlowEvents.Set(events),
		vars.FloodInterval.Set(uint64(time.Second)/uint64(d.config.FloodRate)),
		vars.NatFirst.Set(uint32(d.config.NATPorts.First)),
		vars.NatPorts.Set(uint32(d.natPorts())),
	); err != nil {
		return fmt.Errorf("set constants of the programs: %w", err)
	}
	options := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.mapDir()}}
	if err := spec.LoadAndAssign(&d.objects, options); err != nil {
		return fmt.Errorf("load programs and maps: %w", explainLoad(err))
	}
	return nil
}

// sizeMaps sets the configured sizes; a pinned map keeps the one it has.
func (d *Dataplane) sizeMaps(spec *ebpf.CollectionSpec) error {
	sizes := map[string]uint32{
		bpfMapVifV1:              d.config.MaxPorts,
		bpfMapLabelV1:            d.config.MaxPorts,
		bpfMapVniV1:              d.config.MaxPorts,
		bpfMapPortAddrV1:         d.config.MaxPorts * 4,
		bpfMapForeignV1:          d.config.MaxPorts,
		bpfMapGatewayV1:          d.config.MaxPorts,
		bpfMapForeignAddrV1:      d.config.MaxPorts * 4,
		bpfMapBgpServiceV1:       d.config.MaxPorts,
		bpfMapSnatV1:             d.config.MaxPorts,
		bpfMapCounterV1:          d.config.MaxPorts,
		bpfMapLimitV1:            d.config.MaxPorts * limitDirs,
		bpfMapFlowMadeV2:         account(d.config.MaxPorts, 0),
		bpfMapFlowGoneV2:         account(d.config.MaxPorts, 0),
		bpfMapFlowV3:             d.config.FlowEntries,
		bpfMapHostRouteV2:        d.config.HostRoutes,
		bpfMapRouteV2:            d.config.PrefixRoutes,
		bpfMapPortPolicyV1:       d.config.MaxPorts,
		bpfMapPolicyGenerationV1: d.config.MaxPorts,
		bpfMapBridgeV1:           d.config.MaxPorts,
		bpfMapBridgePortsV1:      d.config.MaxPorts,
		bpfMapDropV1:             uint32(len(dropReasons)) * (d.config.MaxPorts/4 + 16),
	}
	if d.config.FlowEvents {
		spec.Maps[bpfMapFlowEventRing].MaxEntries = flowEventRing
	}
	for name, m := range spec.Maps {
		if isScratch(name) {
			continue
		}
		m.Pinning = ebpf.PinByName
		if size := sizes[name]; size != 0 {
			m.MaxEntries = size
		}
		pinned, err := ebpf.LoadPinnedMap(filepath.Join(d.mapDir(), name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
		if pinned.MaxEntries() != m.MaxEntries {
			d.log.Info("pinned map keeps its size",
				"map", name, "entries", pinned.MaxEntries(), "configured", m.MaxEntries)
			m.MaxEntries = pinned.MaxEntries()
		}
		pinned.Close()
	}
	return nil
}

// isScratch says whether a map is of constants or scratch memory: each load of the
// programs has its own.
func isScratch(name string) bool {
	return strings.HasPrefix(name, ".") || slices.Contains([]string{bpfMapPolicyQuery, bpfMapScratchFlow, bpfMapFrameWork, bpfMapFabricWork, bpfMapScratchMessage, bpfMapFlowEventRing, bpfMapFlowEventLost}, name)
}

// adopt takes over what the maps and links hold.
func (d *Dataplane) adopt(netns uint64) error {
	if err := d.maps().NodeV1.Lookup(uint32(0), &d.node); err != nil {
		return fmt.Errorf("read node record: %w", err)
	}
	vifs, err := d.vifs()
	if err != nil {
		return err
	}
	for ifindex, vif := range vifs {
		d.slots[ifindex] = vif.Slot
	}
	d.node.Netns = netns
	if err := d.bump(); err != nil {
		return err
	}
	// The programs count here what finds no place of its own.
	for _, reason := range DropReasons() {
		zero := make([]bpfDropCount, ebpf.MustPossibleCPU())
		err := d.maps().DropV1.Update(bpfDropKey{Reason: uint32(reason)}, zero, ebpf.UpdateNoExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
			return fmt.Errorf("prepare drop counters: %w", err)
		}
	}
	if err := d.adoptPolicies(); err != nil {
		return err
	}
	if err := d.adoptHops(); err != nil {
		return err
	}
	if err := errors.Join(d.migrateRoutes(vifs), d.migrateFlows()); err != nil {
		return err
	}
	if err := d.reserveSources(); err != nil {
		d.log.Warn("services go on, but their source ports are not all reserved", "error", err)
	}
	if err := d.adoptBridges(vifs); err != nil {
		return err
	}
	for i, program := range []*ebpf.Program{d.objects.FabricPortRx, d.objects.FabricUnderlayRx} {
		if err := d.maps().FabricProgramsV1.Put(uint32(i), program); err != nil {
			return fmt.Errorf("enter program for NAT: %w", err)
		}
	}
	return d.adoptDevices(vifs)
}

// adoptDevices gives the devices of known ports the new program. A device that
// carries one without being a port is a change that was cut off: it is closed.
func (d *Dataplane) adoptDevices(vifs map[int]bpfVif) error {
	for ifindex := range vifs {
		if _, err := d.links.LinkByIndex(ifindex); err != nil {
			if isGone(err) {
				continue // DeletePort clears the rest away
			}
			return fmt.Errorf("find interface %d: %w", ifindex, err)
		}
		if err := d.attachFilter(ifindex); err != nil {
			return err
		}
	}
	if err := d.dropLostPolicies(vifs); err != nil {
		return err
	}
	filtered, err := d.filtered()
	if err != nil {
		return err
	}
	for _, ifindex := range filtered {
		if _, known := vifs[ifindex]; !known {
			if err := d.closeDevice(ifindex); err != nil {
				return err
			}
		}
	}
	return nil
}

// bump outdates all flows. The caller holds mu or is Open, and has written what
// it changed.
func (d *Dataplane) bump() error {
	d.node.Generation++
	d.node.FlowShare = d.flowShare()
	if err := d.maps().NodeV1.Put(uint32(0), d.node); err != nil {
		return fmt.Errorf("bump generation: %w", err)
	}
	return nil
}

func (d *Dataplane) maps() *bpfMaps { return &d.objects.bpfMaps }

// Close lets go of the maps and programs. What is pinned stays and goes on
// forwarding.
func (d *Dataplane) Close() error {
	err := d.objects.Close()
	d.links.Close()
	d.releaseSources()
	if err != nil {
		return fmt.Errorf("close data plane: %w", err)
	}
	return nil
}

// Remove takes the ports' devices down, detaches the programs and removes all
// pins. Only Close may follow.
func (d *Dataplane) Remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	filtered, err := d.filtered()
	errs = append(errs, err)
	for _, ifindex := range filtered {
		errs = append(errs, d.closeDevice(ifindex))
	}
	errs = append(errs, d.detachUnderlay())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove data plane at %s: %w", d.config.PinDir, err)
	}
	if err := RemovePins(d.config.PinDir); err != nil {
		return fmt.Errorf("remove data plane: %w", err)
	}
	return nil
}

// RemovePins removes all pins below a node's directory and the directory, for
// cleaning up after a node that is gone, with its devices. An absent directory
// is success.
func RemovePins(pinDir string) error {
	if err := os.RemoveAll(pinDir); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}
