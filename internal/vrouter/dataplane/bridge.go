package dataplane

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// errorScope is ERROR_SCOPE of the programs: the account of a port's ICMP errors
// among those of copies.
const errorScope = 1 << 30

// Bridge is what a network does with frames: those for MACs, and those that
// are replicated.
type Bridge struct {
	// Routes: IP of unicast is routed, whatever MAC of the network it is sent to,
	// and ARP is answered. Else both are bridged.
	Routes bool `json:"routes"`
	// FloodsUnknown: frames for MACs that nobody knows go where broadcasts go.
	FloodsUnknown bool `json:"floods_unknown"`
	// Remotes are the nodes and routers that get what is replicated.
	Remotes Remotes `json:"remotes"`
	// LeftOut is how many there are beyond MaxRemotes.
	LeftOut int `json:"left_out,omitempty"`
}

// Remote is a node or router that wants a network's broadcasts, by VXLAN.
type Remote struct {
	Address netip.Addr `json:"address"`
	VNI     uint32     `json:"vni"`
}

// MaxRemotes is to how many nodes and routers a frame is replicated;
// BRIDGE_REMOTES of the programs says the same.
const MaxRemotes = 512

// MaxBridgePorts is to how many ports of a network on one node a frame is
// replicated; BRIDGE_PORTS of the programs says the same.
const MaxBridgePorts = 1024

// Remotes are a list of them in the one order and form that equal lists have, so
// that bridges can be compared.
type Remotes string

const remoteSize = 4 + 4

// ListRemotes makes the list, each address once, and says how many were beyond
// MaxRemotes. Of several identifiers of an address the lowest counts.
func ListRemotes(remotes []Remote) (list Remotes, leftOut int) {
	all := slices.Clone(remotes)
	slices.SortFunc(all, func(a, b Remote) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.VNI, b.VNI))
	})
	all = slices.CompactFunc(all, func(a, b Remote) bool { return a.Address == b.Address })
	taken := min(len(all), MaxRemotes)
	var b []byte
	for _, r := range all[:taken] {
		address := r.Address.As4()
		b = binary.BigEndian.AppendUint32(append(b, address[:]...), r.VNI)
	}
	return Remotes(b), len(all) - taken
}

// List are the remotes.
func (r Remotes) List() []Remote {
	list := make([]Remote, 0, len(r)/remoteSize)
	for b := []byte(r); len(b) >= remoteSize; b = b[remoteSize:] {
		list = append(list, Remote{netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint32(b[4:])})
	}
	return list
}

// MarshalJSON writes the list.
func (r Remotes) MarshalJSON() ([]byte, error) { return json.Marshal(r.List()) }

func (r Remotes) validate() error {
	list := r.List()
	if again, left := ListRemotes(list); again != r || left != 0 {
		return fmt.Errorf("%d remotes are not as ListRemotes makes them", len(list))
	}
	for _, one := range list {
		if err := validateVNI(one.VNI); err != nil {
			return fmt.Errorf("remote %s: %w", one.Address, err)
		}
	}
	return nil
}

// MACKey names the way to a MAC in a network.
type MACKey struct {
	VRF uint32 `json:"vrf"`
	MAC MAC    `json:"mac"`
}

func (k MACKey) String() string { return fmt.Sprintf("%d:%s", k.VRF, k.MAC) }

// Compare orders keys as people want them listed.
func (k MACKey) Compare(o MACKey) int {
	return cmp.Or(cmp.Compare(k.VRF, o.VRF), bytes.Compare(k.MAC[:], o.MAC[:]))
}

func (k MACKey) validate() error {
	switch {
	case k.VRF == 0:
		return fmt.Errorf("vrf is 0; numbers start at 1")
	case k.MAC[0]&1 != 0 || k.MAC == (MAC{}):
		return fmt.Errorf("mac %s is not a unicast address", k.MAC)
	}
	return nil
}

// validateFrames says whether frames can go there.
func (n NextHop) validateFrames() error {
	if n.Kind != Local && (n.Kind != Tunnel || n.Encapsulation != VXLAN || n.MAC != (MAC{})) {
		return fmt.Errorf("frames go to a local port, or by VXLAN with the MAC that they are for, not to %s", n)
	}
	return n.validate()
}

// Flags of a bridge; BRIDGE_ of the programs says the same.
const (
	bridgeRoutes        = 1
	bridgeFloodsUnknown = 2
)

// PutBridge has a network be a bridge as described. It may be repeated, also with
// changes. What it replicates to is complete before it is in force.
func (d *Dataplane) PutBridge(vrf uint32, b Bridge) error {
	if vrf == 0 || vrf >= flowScopeVRF {
		return fmt.Errorf("put bridge: vrf %d is outside 1..%d", vrf, flowScopeVRF-1)
	}
	if err := b.Remotes.validate(); err != nil {
		return fmt.Errorf("put bridge of vrf %d: %w", vrf, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	value := bpfBridge{LeftOut: uint32(b.LeftOut)}
	if b.Routes {
		value.Flags |= bridgeRoutes
	}
	if b.FloodsUnknown {
		value.Flags |= bridgeFloodsUnknown
	}
	wanted := map[bpfBridgeMember]bool{}
	for i, r := range b.Remotes.List() {
		value.Remote[i] = bpfBridgeRemote{Addr: toWord(r.Address), Vni: r.VNI}
		value.Count++
		wanted[bpfBridgeMember{Vrf: vrf, Addr: toWord(r.Address)}] = true
	}
	if err := d.setMembers(vrf, wanted); err != nil {
		return fmt.Errorf("put bridge of vrf %d: %w", vrf, err)
	}
	if err := put(d.maps().BridgeV1, "bridges", vrf, value); err != nil {
		return fmt.Errorf("put bridge of vrf %d: %w", vrf, err)
	}
	return d.bump()
}

// setMembers has those and no others be the nodes from which a network takes
// what is replicated.
func (d *Dataplane) setMembers(vrf uint32, wanted map[bpfBridgeMember]bool) error {
	members, err := entries[bpfBridgeMember, uint32](d.maps().BridgeMemberV1, "members of bridges")
	if err != nil {
		return err
	}
	for m := range wanted {
		if _, has := members[m]; has {
			continue
		}
		if err := put(d.maps().BridgeMemberV1, "members of bridges", m, uint32(1)); err != nil {
			return err
		}
	}
	for m := range members {
		if m.Vrf == vrf && !wanted[m] {
			if err := deleted(d.maps().BridgeMemberV1.Delete(m)); err != nil {
				return fmt.Errorf("delete member %s: %w", fromWord(m.Addr), err)
			}
		}
	}
	return nil
}

// DeleteBridge has a network drop frames; absent is success.
func (d *Dataplane) DeleteBridge(vrf uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	// What the programs note of copies goes when none can be made any more.
	if err := errors.Join(deleted(d.maps().BridgeV1.Delete(vrf)), d.setMembers(vrf, nil), d.bump(),
		deleted(d.maps().FloodPaidV1.Delete(flowScopeVRF|vrf))); err != nil {
		return fmt.Errorf("delete bridge of vrf %d: %w", vrf, err)
	}
	return nil
}

// Bridges returns all bridges by VRF.
func (t *Tables) Bridges() (map[uint32]Bridge, error) {
	raw, err := entries[uint32, bpfBridge](t.maps.BridgeV1, "bridges")
	if err != nil {
		return nil, err
	}
	bridges := make(map[uint32]Bridge, len(raw))
	for vrf, v := range raw {
		b := Bridge{Routes: v.Flags&bridgeRoutes != 0, FloodsUnknown: v.Flags&bridgeFloodsUnknown != 0, LeftOut: int(v.LeftOut)}
		var list []Remote
		for _, r := range v.Remote[:min(v.Count, MaxRemotes)] {
			list = append(list, Remote{fromWord(r.Addr), r.Vni})
		}
		b.Remotes, _ = ListRemotes(list)
		bridges[vrf] = b
	}
	return bridges, nil
}

// PutMACs adds ways to MACs or replaces where they lead: to a local port, or to
// a node by VXLAN. One that is refused makes the whole call fail before anything
// is written.
func (d *Dataplane) PutMACs(all map[MACKey]NextHop) error {
	var who []Identity
	for key, nh := range all {
		if err := errors.Join(key.validate(), nh.validateFrames()); err != nil {
			return fmt.Errorf("put mac %s: %w", key, err)
		}
		who = append(who, nh.Identity)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.know(who); err != nil {
		return fmt.Errorf("put macs: %w", err)
	}
	d.hops.left = true
	for _, key := range slices.SortedFunc(maps.Keys(all), MACKey.Compare) {
		route, err := d.toRoute(all[key])
		if err == nil {
			err = put(d.maps().MacV1, "macs", toMACKey(key), route)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("put mac %s: %w", key, err), d.bump())
		}
	}
	return d.bump()
}

// DeleteMAC removes the way to a MAC; absent is success.
func (d *Dataplane) DeleteMAC(key MACKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hops.left = true
	if err := errors.Join(deleted(d.maps().MacV1.Delete(toMACKey(key))), d.bump()); err != nil {
		return fmt.Errorf("delete mac %s: %w", key, err)
	}
	return nil
}

func toMACKey(k MACKey) bpfMacKey { return bpfMacKey{Vrf: k.VRF, Mac: k.MAC} }

// MACs returns the ways to all MACs.
func (t *Tables) MACs() (map[MACKey]NextHop, error) {
	hops, err := t.readHops()
	if err != nil {
		return nil, err
	}
	who, err := t.identities()
	if err != nil {
		return nil, err
	}
	macs := map[MACKey]NextHop{}
	for e, err := range batches[bpfMacKey, bpfRoute](t.maps.MacV1, "macs") {
		if err != nil {
			return nil, err
		}
		macs[MACKey{VRF: e.key.Vrf, MAC: e.key.Mac}] = fromRoute(e.value, hops, who)
	}
	return macs, nil
}

// joinBridge has what is replicated in a VRF get to a port, which leaves that of
// the one where it was before; with VRF 0 it only leaves.
func (d *Dataplane) joinBridge(ifindex int, vrf uint32) error {
	old := d.bridged[ifindex]
	if old == vrf {
		return nil
	}
	if vrf != 0 {
		d.bridged[ifindex] = vrf
		if err := d.writeBridgePorts(vrf); err != nil {
			d.bridged[ifindex] = old
			return err
		}
	} else {
		delete(d.bridged, ifindex)
		if err := errors.Join(
			deleted(d.maps().FloodPaidV1.Delete(uint32(ifindex))),
			deleted(d.maps().FloodPaidV1.Delete(errorScope|uint32(ifindex)))); err != nil {
			return fmt.Errorf("delete what copies cost: %w", err)
		}
	}
	if old == 0 {
		return nil
	}
	return d.writeBridgePorts(old)
}

// writeBridgePorts writes the list of a VRF's ports.
func (d *Dataplane) writeBridgePorts(vrf uint32) error {
	var value bpfBridgePorts
	for _, ifindex := range slices.Sorted(maps.Keys(d.bridged)) {
		if d.bridged[ifindex] != vrf {
			continue
		}
		if value.Count == MaxBridgePorts {
			return fmt.Errorf("vrf %d has %d ports on this node already, more than frames are replicated to", vrf, MaxBridgePorts)
		}
		value.Ifindex[value.Count] = uint32(ifindex)
		value.Count++
	}
	var err error
	if value.Count == 0 {
		err = deleted(d.maps().BridgePortsV1.Delete(vrf))
	} else {
		err = put(d.maps().BridgePortsV1, "lists of ports", vrf, value)
	}
	if err != nil {
		return fmt.Errorf("write ports of vrf %d: %w", vrf, err)
	}
	return nil
}

// adoptBridges gives the programs those for frames, and makes the lists of ports
// what the ports say.
func (d *Dataplane) adoptBridges(vifs map[int]bpfVif) error {
	for i, program := range []*ebpf.Program{d.objects.BridgePortRx, d.objects.BridgeTunnelRx} {
		if err := d.maps().BridgeProgramsV1.Put(uint32(i), program); err != nil {
			return fmt.Errorf("enter program for frames: %w", err)
		}
	}
	lists, err := entries[uint32, bpfBridgePorts](d.maps().BridgePortsV1, "lists of ports")
	if err != nil {
		return err
	}
	for ifindex, v := range vifs {
		d.bridged[ifindex] = v.Vrf
		lists[v.Vrf] = bpfBridgePorts{}
	}
	for vrf := range lists {
		if err := d.writeBridgePorts(vrf); err != nil {
			return err
		}
	}
	return nil
}
