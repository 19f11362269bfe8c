package control

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// What follows is the contract of `contrail control ... -o json`.

// ShownAgent is a node as the control node sees it.
type ShownAgent struct {
	Node      string     `json:"node"`
	Name      string     `json:"name"`
	Address   string     `json:"address"`
	Connected bool       `json:"connected"`
	BootID    string     `json:"boot_id,omitempty"`
	Since     *time.Time `json:"since,omitempty"`
	// Stale: its agent had a session and has none.
	Stale   bool     `json:"stale"`
	Ports   int      `json:"ports"`
	Down    []string `json:"down_ports,omitempty"`
	Waiting []string `json:"waiting_ports,omitempty"`
	// Unhealthy ports are up, and a health check has failed.
	Unhealthy []string `json:"unhealthy_ports,omitempty"`
	Held      []string `json:"held_ports,omitempty"`
	VRFs      []uint32 `json:"vrfs"`
	Sent      uint64   `json:"messages_sent"`
	Behind    uint64   `json:"changes_behind"`
}

func (t *tables) showAgents() []ShownAgent {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := make([]ShownAgent, 0, len(t.nodes))
	for _, n := range t.nodes {
		x := ShownAgent{
			Node: n.id, Address: n.address(), Stale: n.lost, Ports: len(n.ports),
			Held: slices.Sorted(maps.Keys(n.early)), VRFs: slices.Sorted(maps.Keys(n.vrfs)),
		}
		if n.record != nil {
			x.Name = n.record.Name
		}
		for iface, p := range n.ports {
			switch {
			case p.waiting:
				x.Waiting = append(x.Waiting, iface)
			case p.down:
				x.Down = append(x.Down, iface)
			case len(p.failing) > 0:
				x.Unhealthy = append(x.Unhealthy, iface)
			}
		}
		slices.Sort(x.Waiting)
		slices.Sort(x.Down)
		slices.Sort(x.Unhealthy)
		if s := n.session; s != nil {
			x.Connected, x.BootID, x.Since, x.Sent, x.Behind = true, s.bootID, &s.since, s.sent, s.ports.behind()
			for _, r := range s.vrfs {
				x.Behind += r.behind()
			}
		}
		shown = append(shown, x)
	}
	slices.SortFunc(shown, func(a, b ShownAgent) int { return strings.Compare(a.Node, b.Node) })
	return shown
}

// ShownInstance is the forwarding table of a network, or one of a service.
type ShownInstance struct {
	VRF uint32 `json:"vrf"`
	// Network is empty for that of a service.
	Network     string           `json:"network"`
	Name        string           `json:"name"`
	VNI         uint32           `json:"vni"`
	Layer2      bool             `json:"layer2"`
	Import      []compile.Target `json:"import"`
	Export      []compile.Target `json:"export"`
	Routes      int              `json:"routes"`
	Subscribers int              `json:"subscribers"`
}

func (t *tables) showInstances() []ShownInstance {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := []ShownInstance{}
	for _, w := range t.sortedNetworks() {
		i := w.instance
		x := ShownInstance{
			VRF: i.Number, Network: i.Network, Name: i.Name, VNI: i.VXLAN, Layer2: i.Layer2,
			Import: w.instance.importing, Export: i.Export, Routes: t.rib.Len(i.Number),
		}
		shown = append(shown, x)
	}
	shown = slices.Concat(shown, t.showRouters(), t.showPassages())
	for i := range shown {
		if unicast, _, ok := t.rib.Feeds(shown[i].VRF); ok {
			shown[i].Subscribers = unicast.Readers()
		}
	}
	return shown
}

// sortedNetworks are those that the graph has.
func (t *tables) sortedNetworks() []*network {
	list := make([]*network, 0, len(t.networks))
	for _, w := range t.networks {
		if w.instance != nil {
			list = append(list, w)
		}
	}
	slices.SortFunc(list, func(a, b *network) int { return int(a.number) - int(b.number) })
	return list
}

// ShownImport tells from where a VRF imports by a target.
type ShownImport struct {
	VRF    uint32         `json:"vrf"`
	Name   string         `json:"name"`
	Target compile.Target `json:"target"`
	From   []ShownName    `json:"from"`
}

// ShownName names a VRF.
type ShownName struct {
	VRF  uint32 `json:"vrf"`
	Name string `json:"name"`
}

func (t *tables) showImports(network string) ([]ShownImport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	only, err := t.find(network)
	if err != nil {
		return nil, err
	}
	exporters := map[compile.Target][]ShownName{}
	networks := t.sortedNetworks()
	for _, w := range networks {
		for _, target := range w.instance.Export {
			exporters[target] = append(exporters[target], ShownName{w.number, w.instance.Name})
		}
	}
	shown := []ShownImport{}
	for _, w := range networks {
		if only != 0 && w.number != only {
			continue
		}
		for _, target := range w.instance.importing {
			from := slices.DeleteFunc(slices.Clone(exporters[target]), func(n ShownName) bool { return n.VRF == w.number })
			if from == nil {
				from = []ShownName{}
			}
			shown = append(shown, ShownImport{w.number, w.instance.Name, target, from})
		}
	}
	return shown, nil
}

// nameOf is the name of a VRF; empty where there is none.
func (t *tables) nameOf(number uint32) string {
	if w := t.networks[number]; w != nil && w.instance != nil {
		return w.instance.Name
	}
	if router := t.routerOf(number); router != nil {
		return router.Router.Name
	}
	return t.passageName(number)
}

// find is the number of the VRF that somebody names by number, by the
// network's UUID or by its fq_name; 0 when he names none.
func (t *tables) find(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		if t.nameOf(uint32(n)) != "" {
			return uint32(n), nil
		}
	}
	if number, ok := t.numbers[name]; ok {
		return number, nil
	}
	var found []string
	number := uint32(0)
	for _, w := range t.sortedNetworks() {
		if w.instance.Name == name || strings.HasSuffix(w.instance.Name, ":"+name) {
			found, number = append(found, w.instance.Name), w.number
			if w.instance.Name == name {
				return number, nil
			}
		}
	}
	switch len(found) {
	case 0:
		return 0, fmt.Errorf("network: there is no %q; `contrail control instances` lists them", name)
	case 1:
		return number, nil
	}
	return 0, fmt.Errorf("network: %q is one of %s; give the whole name", name, strings.Join(found, ", "))
}

// ShownTable is the routes of a VRF.
type ShownTable struct {
	VRF    uint32           `json:"vrf"`
	Name   string           `json:"name"`
	Routes []rib.ShownRoute `json:"routes"`
}

// showRoutes shows the routes of a network. Large tables are read piece by
// piece, so that nobody waits for the lock.
func (t *tables) showRoutes(network string) (*ShownTable, error) {
	if network == "" {
		return nil, fmt.Errorf("network: none is named; `contrail control instances` lists them")
	}
	t.mu.Lock()
	number, err := t.find(network)
	if err != nil {
		t.mu.Unlock()
		return nil, err
	}
	shown := &ShownTable{VRF: number, Name: t.nameOf(number), Routes: []rib.ShownRoute{}}
	keys, _ := t.rib.Keys(number)
	t.mu.Unlock()
	slices.SortFunc(keys, rib.Key.Compare)
	for piece := range slices.Chunk(keys, batch) {
		t.mu.Lock()
		for _, key := range piece {
			if route, ok := t.rib.Route(number, key); ok {
				shown.Routes = append(shown.Routes, route)
			}
		}
		t.mu.Unlock()
	}
	return shown, nil
}

// ShownExplanation tells how a prefix is reached from a network, or why not.
type ShownExplanation struct {
	Name string `json:"name"`
	rib.Explanation
}

func (t *tables) explain(text, network string) ([]ShownExplanation, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		address, notAddress := netip.ParseAddr(text)
		if notAddress != nil {
			return nil, fmt.Errorf("prefix: %q is neither an address nor a prefix; want for example 10.32.0.4 or 10.32.0.0/20", text)
		}
		prefix = netip.PrefixFrom(address, address.BitLen())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	number, err := t.find(network)
	if err != nil {
		return nil, err
	}
	shown := []ShownExplanation{}
	for _, e := range t.rib.Explain(prefix, number) {
		shown = append(shown, ShownExplanation{Explanation: e, Name: t.nameOf(e.VRF)})
	}
	return shown, nil
}

// ShownPeer is a BGP peer, or a bgp-router that cannot be one.
type ShownPeer struct {
	Name     string `json:"name"`
	Address  string `json:"address,omitempty"`
	AS       uint32 `json:"as,omitempty"`
	RouterID string `json:"router_id,omitempty"`
	State    string `json:"state"`
	// Since is when it came to be up, or not up.
	Since *time.Time `json:"since,omitempty"`
	Flaps int        `json:"flaps"`
	Error string     `json:"error,omitempty"`
	// Graceful: should the session be lost, either side keeps the other's routes
	// for a while.
	Graceful bool          `json:"graceful"`
	Families []ShownFamily `json:"families"`
	Counters *bgp.Counters `json:"counters,omitempty"`
	// Task is set where the peer is one, by a bgp-as-a-service.
	Task *ShownTask `json:"task,omitempty"`
}

// ShownFamily is an address family that is exchanged with a peer.
type ShownFamily struct {
	Family string `json:"family"`
	// Received routes count, whether or not a network wants them; stale ones
	// are of before the peer's restart.
	Received int `json:"received"`
	Stale    int `json:"stale"`
}

// ShownBGP is all of BGP.
type ShownBGP struct {
	// Router is the name of the bgp-router that this control node is.
	Router  string `json:"router"`
	Running bool   `json:"running"`
	Error   string `json:"error,omitempty"`
	// Imported routes are wanted by a network, Exported ones told to peers.
	Imported int         `json:"imported"`
	Exported int         `json:"exported"`
	Peers    []ShownPeer `json:"peers"`
}

func (t *tables) showPeers() ShownBGP {
	t.mu.Lock()
	b := t.border
	shown := ShownBGP{
		Router: t.facts.router, Running: b.state.speaker != nil, Error: b.state.failure,
		Imported: t.rib.Stats().External, Exported: b.out, Peers: []ShownPeer{},
	}
	speaker, refused := b.state.speaker, map[string]string{}
	for name, err := range b.state.refused {
		refused[name] = err.Error()
	}
	if b.peering != nil {
		maps.Copy(refused, b.peering.refused)
	}
	tasks, sessions := t.showTasks()
	t.mu.Unlock()
	if why, ok := refused[shown.Router]; ok {
		shown.Error = why
		delete(refused, shown.Router)
	}
	for name, why := range refused {
		shown.Peers = append(shown.Peers, ShownPeer{Name: name, State: "refused", Error: why, Families: []ShownFamily{}})
	}
	if speaker != nil {
		for _, p := range speaker.Peers() {
			shown.Peers = append(shown.Peers, shownPeer(&p))
		}
	}
	for i, p := range tasks {
		shown.Peers = append(shown.Peers, withSession(p, sessions[i]))
	}
	slices.SortStableFunc(shown.Peers, func(a, b ShownPeer) int { return strings.Compare(a.Name, b.Name) })
	return shown
}

func shownPeer(p *bgp.PeerState) ShownPeer {
	x := ShownPeer{
		Name: p.Name, Address: p.Addr.String(), AS: p.AS, State: p.State.String(), Since: &p.Since, Flaps: p.Flaps,
		Error: p.LastErr, Graceful: p.Graceful, Families: []ShownFamily{}, Counters: &p.Counters,
	}
	if p.State == bgp.Established {
		x.RouterID, x.Error = p.RouterID.String(), ""
	}
	for _, f := range p.Families {
		x.Families = append(x.Families, ShownFamily{f.Family.String(), f.Routes, f.Stale})
	}
	return x
}
