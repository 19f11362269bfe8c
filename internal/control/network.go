package control

import (
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// network is what the control node knows of a VRF beside its routes.
type network struct {
	number uint32
	// instance is nil while the graph has no such network.
	instance *instance
	// ports that are bound in it, by node and interface.
	ports map[string]map[string]*port
	// up is the number of those that are up, by node.
	up map[string]int
	// floods are the keys under which nodes want the broadcasts.
	floods map[string]rib.Key
}

func (t *tables) network(number uint32) *network {
	w, ok := t.networks[number]
	if !ok {
		w = &network{number: number, ports: map[string]map[string]*port{}, up: map[string]int{}, floods: map[string]rib.Key{}}
		t.networks[number] = w
	}
	return w
}

// tidyNetwork forgets a network that nothing needs any more.
func (t *tables) tidyNetwork(w *network) {
	if w.instance == nil && len(w.ports) == 0 {
		delete(t.networks, w.number)
	}
}

// exports tells whether routers outside may be told routes of the network.
func (w *network) exports() bool {
	return w.instance != nil && (w.instance.exported || w.instance.someExported)
}

func (w *network) enter(p *port) {
	if w.ports[p.Node] == nil {
		w.ports[p.Node] = map[string]*port{}
	}
	w.ports[p.Node][p.Interface] = p
}

func (w *network) leave(p *port) {
	delete(w.ports[p.Node], p.Interface)
	if len(w.ports[p.Node]) == 0 {
		delete(w.ports, p.Node)
	}
}

func (t *tables) putInstance(id string, now *instance) {
	if old, ok := t.numbers[id]; ok && old != now.Number {
		t.removeInstance(id)
	}
	w := t.network(now.Number)
	if w.instance != nil && w.instance.Owner() != id { // a restored store gave the number to another network
		t.removeInstance(w.instance.Owner())
		w = t.network(now.Number)
	}
	old := w.instance
	if old != nil && reflect.DeepEqual(old, now) {
		return
	}
	w.instance = now
	t.numbers[id] = now.Number
	t.rib.SetVRF(now.vrf())
	if old == nil || old.exported != now.exported || old.Layer3 != now.Layer3 || old.someExported != now.someExported || old.Prefixes != now.Prefixes || old.routerVNI() != now.routerVNI() || !slices.Equal(old.exports, now.exports) {
		t.border.noteAll(now.Number)
	}
	if old != nil && old.VXLAN == now.VXLAN && old.Layer2 == now.Layer2 {
		return
	}
	t.announceNetwork(w)
}

// announceNetwork announces all ports of a network anew, and has the sessions
// of their nodes look for its routes.
func (t *tables) announceNetwork(w *network) {
	for id, ports := range w.ports {
		for _, p := range ports {
			t.announce(p)
		}
		t.touch(t.nodes[id].session)
	}
}

func (t *tables) removeInstance(id string) {
	number, ok := t.numbers[id]
	if !ok {
		return
	}
	w := t.network(number)
	t.border.noteAll(number)
	delete(t.numbers, id)
	w.instance = nil
	t.rib.RemoveVRF(number)
	t.announceNetwork(w)
	t.tidyNetwork(w)
}
