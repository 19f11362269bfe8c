package control

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// attachment is what the graph says of one interface that is bound to a node.
// It is never changed.
type attachment struct {
	model.Binding
	network     string // UUID
	networkName string
	vrf         uint32
	mac         string
	displayName string
	addresses   []netip.Addr // sorted
}

// attachmentOf collects the facts of an interface; nil when it is not bound,
// or not complete.
func attachmentOf(v *model.View, iface string) *attachment {
	binding, ok := v.Binding(iface)
	if !ok {
		return nil
	}
	vmi, ok := model.Get[*model.VirtualMachineInterface](v, iface)
	if !ok {
		return nil
	}
	a := &attachment{Binding: binding, mac: macOf(vmi), displayName: vmi.DisplayName}
	for r := range v.ReferenceSeq(iface, model.KindVirtualNetwork) {
		vrf, ok := compile.VRFOf(v, r.To.UUID)
		// An interface has one network; the lowest number, should there be more.
		if ok && (a.vrf == 0 || vrf.Number < a.vrf) {
			a.network, a.networkName, a.vrf = vrf.Network, vrf.Name, vrf.Number
		}
	}
	if a.vrf == 0 {
		return nil
	}
	if vm, ok := model.Get[*model.VirtualMachine](v, binding.Machine); ok && vm.DisplayName != "" {
		a.displayName = vm.DisplayName
	}
	for r := range v.BackReferenceSeq(iface, model.KindInstanceIP) {
		ip, ok := model.Get[*model.InstanceIP](v, r.From.UUID)
		if !ok {
			continue
		}
		if address, err := netip.ParseAddr(ip.InstanceIPAddress); err == nil {
			a.addresses = append(a.addresses, address)
		}
	}
	slices.SortFunc(a.addresses, netip.Addr.Compare)
	a.addresses = slices.Compact(a.addresses)
	return a
}

func macOf(vmi *model.VirtualMachineInterface) string {
	if macs := vmi.VirtualMachineInterfaceMACAddresses; macs != nil && len(macs.MACAddress) > 0 {
		return macs.MACAddress[0]
	}
	mac, err := model.MACOf(vmi.UUID)
	if err != nil {
		return ""
	}
	return mac.String()
}

func (a *attachment) equal(b *attachment) bool { return reflect.DeepEqual(a, b) }

// update is what may differ, read from one view: of everything, or of what is
// named. A nil value says that the thing does not exist.
type update struct {
	everything  bool
	position    model.Position
	attachments map[string]*attachment
	vrfs        map[string]*compile.VRF // by network
	nodes       map[string]*model.Node
}

// read collects the facts that changes touch.
func read(g *model.Graph, changes model.Changes) *update {
	u := &update{
		everything:  changes.Everything,
		position:    changes.Position,
		attachments: map[string]*attachment{},
		vrfs:        map[string]*compile.VRF{},
		nodes:       map[string]*model.Node{},
	}
	g.View(func(v *model.View) {
		if changes.Everything {
			u.readAll(v)
		} else {
			u.readChanges(v, changes)
		}
	})
	return u
}

func (u *update) readAll(v *model.View) {
	for vrf := range compile.VRFs(v) {
		u.vrfs[vrf.Network] = &vrf
	}
	for _, n := range v.Nodes() {
		u.nodes[n.UUID] = &n
	}
	for b := range v.Bindings() {
		u.attachments[b.Interface] = attachmentOf(v, b.Interface)
	}
}

func (u *update) readChanges(v *model.View, changes model.Changes) {
	for id := range changes.Nodes {
		u.nodes[id] = nil
		if n, ok := v.Node(id); ok {
			u.nodes[id] = &n
		}
	}
	for iface := range changes.Bindings {
		u.readAttachment(v, iface)
	}
	for e := range changes.Objects {
		u.readObject(v, e)
	}
	for e := range changes.References {
		switch {
		case e.From.Kind == model.KindVirtualMachineInterface:
			u.readAttachment(v, e.From.UUID)
		case e.From.Kind == model.KindInstanceIP && e.To.Kind == model.KindVirtualMachineInterface:
			u.readAttachment(v, e.To.UUID)
		}
	}
}

// readObject reads what depends on an object. What depended on it through a
// reference that is gone is found by the reference's own change.
func (u *update) readObject(v *model.View, e model.Entity) {
	switch e.Kind {
	case model.KindVirtualMachineInterface:
		u.readAttachment(v, e.UUID)
	case model.KindInstanceIP:
		for r := range v.ReferenceSeq(e.UUID, model.KindVirtualMachineInterface) {
			u.readAttachment(v, r.To.UUID)
		}
	case model.KindVirtualMachine:
		for r := range v.BackReferenceSeq(e.UUID, model.KindVirtualMachineInterface) {
			u.readAttachment(v, r.From.UUID)
		}
	case model.KindVirtualNetwork:
		u.readNetwork(v, e.UUID)
	case model.KindGlobalSystemConfig: // may have changed the autonomous system
		for o := range v.All(model.KindVirtualNetwork) {
			u.readNetwork(v, o.GetMeta().UUID)
		}
	}
}

func (u *update) readNetwork(v *model.View, id string) {
	u.vrfs[id] = nil
	if vrf, ok := compile.VRFOf(v, id); ok {
		u.vrfs[id] = &vrf
	}
	for r := range v.BackReferenceSeq(id, model.KindVirtualMachineInterface) {
		u.readAttachment(v, r.From.UUID)
	}
}

func (u *update) readAttachment(v *model.View, iface string) {
	if _, done := u.attachments[iface]; !done {
		u.attachments[iface] = attachmentOf(v, iface)
	}
}
