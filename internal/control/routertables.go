package control

import (
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// putRouter brings the forwarding table of a logical router to what is compiled;
// nil where it has none. Nodes look up there which network a packet is for that came
// by the router's VXLAN network identifier, and nothing else.
func (t *tables) putRouter(id string, now *compile.RouterTable) {
	if before := t.routers[id]; before != nil && (now == nil || before.Number != now.Number) {
		delete(t.routers, id)
		if t.routerOf(before.Number) == nil { // else another router has the identifier now
			t.rib.RemoveVRF(before.Number)
		}
	}
	if now != nil {
		t.routers[id] = now
		t.rib.SetVRF(rib.VRF{Number: now.Number, Import: targetsOf(now.Import)})
	}
}

// routerOf is the logical router that has a forwarding table; nil where none has.
func (t *tables) routerOf(number uint32) *compile.RouterTable {
	for _, r := range t.routers {
		if r.Number == number {
			return r
		}
	}
	return nil
}

func (t *tables) showRouters() []ShownInstance {
	var shown []ShownInstance
	for _, r := range t.routers {
		shown = append(shown, ShownInstance{
			VRF: r.Number, Name: r.Router.Name, VNI: r.VNI, Import: append([]compile.Target{}, r.Import...), Export: []compile.Target{}, Routes: t.rib.Len(r.Number),
		})
	}
	slices.SortFunc(shown, func(a, b ShownInstance) int { return strings.Compare(a.Name, b.Name) })
	return shown
}
