package vrouter

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// layer2State is what a store has of one network: where MACs are, told alone and
// with an address, who wants broadcasts, and what the network does with frames.
type layer2State struct {
	macs   map[layer2Key]string
	floods map[string]uint32 // VNI by address
	bridge *controlv1.Bridge
}

func (s layer2State) clone() layer2State {
	s.macs, s.floods = maps.Clone(s.macs), maps.Clone(s.floods)
	return s
}

func layer2Path(nextHop string, vni uint32) []*controlv1.Path {
	if nextHop == "" {
		return nil
	}
	return []*controlv1.Path{{NextHop: nextHop, Label: 20, Vni: vni, Encapsulations: []controlv1.Encapsulation{vxlan}}}
}

func macMessage(k layer2Key, nextHop string) *controlv1.ControlMessage {
	m := &controlv1.MacRoute{Vrf: 1, Mac: k.mac[:], Paths: layer2Path(nextHop, 5001)}
	if k.address.IsValid() {
		m.Address = k.address.String()
	}
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_MacRoute{MacRoute: m}}
}

func floodMessage(originator string, vni uint32) *controlv1.ControlMessage {
	m := &controlv1.MulticastRoute{Vrf: 1, Originator: originator}
	if vni != 0 {
		m.Paths = layer2Path(originator, vni)
	}
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_MulticastRoute{MulticastRoute: m}}
}

// differences are the messages that lead from one state to another.
func (s layer2State) differences(from layer2State) (list []*controlv1.ControlMessage) {
	for k, hop := range s.macs {
		if from.macs[k] != hop {
			list = append(list, macMessage(k, hop))
		}
	}
	for k := range from.macs {
		if s.macs[k] == "" {
			list = append(list, macMessage(k, ""))
		}
	}
	for at, vni := range s.floods {
		if from.floods[at] != vni {
			list = append(list, floodMessage(at, vni))
		}
	}
	for at := range from.floods {
		if s.floods[at] == 0 {
			list = append(list, floodMessage(at, 0))
		}
	}
	p := &controlv1.Port{InterfaceId: "p", Vrf: 1, Bridge: s.bridge}
	return append(list, &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: p}})
}

// naiveMACs and naiveBridge are what a node makes of a state, in the plainest way.
func (s layer2State) naiveMACs() map[dataplane.MACKey]dataplane.NextHop {
	chosen := map[dataplane.MAC]layer2Key{}
	for k := range s.macs {
		if c, has := chosen[k.mac]; !has || k.address.Less(c.address) {
			chosen[k.mac] = k
		}
	}
	all := map[dataplane.MACKey]dataplane.NextHop{}
	for mac, k := range chosen {
		hop := dataplane.NextHop{Kind: dataplane.Local, Label: 20}
		if s.macs[k] != ownAddress {
			hop = dataplane.NextHop{Kind: dataplane.Tunnel, Remote: netip.MustParseAddr(s.macs[k]), Encapsulation: dataplane.VXLAN, VNI: 5001}
		}
		all[dataplane.MACKey{VRF: 1, MAC: mac}] = hop
	}
	return all
}

func (s layer2State) naiveBridge() map[uint32]dataplane.Bridge {
	if s.bridge == nil {
		return map[uint32]dataplane.Bridge{}
	}
	b := dataplane.Bridge{Routes: s.bridge.Routes, FloodsUnknown: s.bridge.FloodsUnknown}
	var list []dataplane.Remote
	for at, vni := range s.floods {
		if at != ownAddress {
			list = append(list, dataplane.Remote{Address: netip.MustParseAddr(at), VNI: vni})
		}
	}
	b.Remotes, _ = dataplane.ListRemotes(list)
	return map[uint32]dataplane.Bridge{1: b}
}

func drawLayer2(t *rapid.T, from layer2State) layer2State {
	s := from.clone()
	hop := rapid.SampledFrom([]string{"", ownAddress, "172.31.0.12", "172.31.0.13"})
	switch rapid.IntRange(0, 2).Draw(t, "what") {
	case 0:
		k := layer2Key{mac: dataplane.MAC{2, 0, 0, 0, 0, byte(rapid.IntRange(1, 3).Draw(t, "mac"))}}
		if n := rapid.IntRange(0, 2).Draw(t, "address"); n > 0 {
			k.address = netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
		}
		if s.macs[k] = hop.Draw(t, "hop"); s.macs[k] == "" {
			delete(s.macs, k)
		}
	case 1:
		at := cmp.Or(hop.Draw(t, "originator"), "172.31.0.14")
		if s.floods[at] = uint32(rapid.IntRange(0, 2).Draw(t, "vni")); s.floods[at] == 0 {
			delete(s.floods, at)
		}
	default:
		s.bridge = nil
		if n := rapid.IntRange(0, 3).Draw(t, "mode"); n > 0 {
			s.bridge = &controlv1.Bridge{Routes: n&1 != 0, FloodsUnknown: n&2 != 0}
		}
	}
	return s
}

// TestLayer2OfSessions: however two sessions come, lag and end, a node does what
// the last state says that the one told which leads.
func TestLayer2OfSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newTestRouting()
		history := []layer2State{{macs: map[layer2Key]string{}, floods: map[string]uint32{}}}
		type node struct {
			view *view
			at   int
			told layer2State
		}
		nodes := []*node{{}, {}}
		believed := -1 // the newest state that a leader told whole
		pick := func(t *rapid.T) *node { return rapid.SampledFrom(nodes).Draw(t, "node") }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for _, n := range nodes {
					if n.view != nil && n.view == r.leader {
						believed = n.at
					}
				}
				if believed < 0 {
					return
				}
				macs := map[dataplane.MACKey]dataplane.NextHop{}
				for _, o := range r.macs.Objects() {
					macs[o.Key] = o.Value
				}
				if want := history[believed].naiveMACs(); !maps.Equal(macs, want) {
					t.Fatalf("MACs of state %d are %v, want %v", believed, macs, want)
				}
				if got, want := r.bridges(), history[believed].naiveBridge(); !maps.Equal(got, want) {
					t.Fatalf("bridges of state %d are %v, want %v", believed, got, want)
				}
				if want := history[believed].bridge == nil; r.mayDeleteBridge(1) != want {
					t.Fatalf("a bridge may go: %v, want %v", !want, want)
				}
			},
			"change": func(t *rapid.T) { history = append(history, drawLayer2(t, history[len(history)-1])) },
			"tell": func(t *rapid.T) {
				n := pick(t)
				n.at = rapid.IntRange(n.at, len(history)-1).Draw(t, "to")
				messages := history[n.at].differences(n.told)
				if n.view == nil {
					n.view = r.newView(nil)
					messages = append(history[n.at].differences(layer2State{}), endOfPorts(), endOfVRF(1))
				}
				n.told = history[n.at]
				r.say(n.view, uint64(n.at+1), messages...)
			},
			"disconnect": func(t *rapid.T) {
				if n := pick(t); n.view != nil {
					r.endView(n.view)
					n.view = nil
				}
			},
		})
	})
}

// TestLayer2ThatIsNone: what is no route is refused, and what cannot be sent to
// is left out.
func TestLayer2ThatIsNone(t *testing.T) {
	r := newTestRouting()
	v := r.newView(nil)
	mac := func(m []byte, address string, path *controlv1.Path) *controlv1.ControlMessage {
		return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_MacRoute{MacRoute: &controlv1.MacRoute{Vrf: 1, Mac: m, Address: address, Paths: []*controlv1.Path{path}}}}
	}
	good := layer2Path("172.31.0.12", 7)[0]
	one := []byte{2, 0, 0, 0, 0, 1}
	r.say(v, 1, mac([]byte{1, 2}, "", good), mac([]byte{3, 0, 0, 0, 0, 1}, "", good), mac(make([]byte, 6), "", good), mac(one, "x", good),
		mac(one, "", &controlv1.Path{NextHop: "172.31.0.12", Label: 20, Encapsulations: []controlv1.Encapsulation{udp}}),
		mac([]byte{2, 0, 0, 0, 0, 2}, "", &controlv1.Path{NextHop: "fd00::1", Vni: 7, Encapsulations: []controlv1.Encapsulation{vxlan}}),
		&controlv1.ControlMessage{Body: &controlv1.ControlMessage_MulticastRoute{MulticastRoute: &controlv1.MulticastRoute{Vrf: 1, Originator: "?", Paths: []*controlv1.Path{good}}}},
		portMessage("p", 1), endOfPorts(), endOfVRF(1))
	if macs := r.macs.Objects(); len(macs) != 0 {
		t.Errorf("MACs are %v", macs)
	}
	if b := r.bridges(); len(b) != 0 {
		t.Errorf("bridges are %v, of a port without one", b)
	}
}

// TestBridgesOfAnAgent: an agent writes what its networks do with frames once it
// knows all of it, and takes back what an earlier one left.
func TestBridgesOfAnAgent(t *testing.T) {
	plane := newFakePlane()
	plane.bridges[1], plane.bridges[9] = dataplane.Bridge{Routes: true}, dataplane.Bridge{Routes: true}
	a := testAgent(t, t.TempDir(), plane, &fakeLinks{links: map[int]string{}})
	runAgent(t, a)
	state := layer2State{
		macs: map[layer2Key]string{{mac: dataplane.MAC{2, 0, 0, 0, 0, 1}}: "172.31.0.12"}, floods: map[string]uint32{"172.31.0.12": 5001},
		bridge: &controlv1.Bridge{FloodsUnknown: true},
	}
	want := func(when string, bridges map[uint32]dataplane.Bridge, macs map[dataplane.MACKey]dataplane.NextHop) {
		t.Helper()
		eventually(t, when, func() error {
			b, _ := plane.Bridges()
			m, _ := plane.MACs()
			if !maps.Equal(b, bridges) || !maps.Equal(m, macs) {
				return fmt.Errorf("%v and %v, want %v and %v", b, m, bridges, macs)
			}
			return nil
		})
	}
	v := a.routing.newView(nil)
	a.routing.say(v, 1, append(state.differences(layer2State{}), endOfPorts())...)
	old := dataplane.Bridge{Routes: true}
	want("before all that want broadcasts are known", map[uint32]dataplane.Bridge{1: old}, state.naiveMACs())
	a.routing.say(v, 2, endOfVRF(1))
	want("when all is known", state.naiveBridge(), state.naiveMACs())
	less := state.clone()
	less.floods = map[string]uint32{}
	a.routing.say(v, 3, less.differences(state)...)
	want("after one wants no more", less.naiveBridge(), less.naiveMACs())
	less.bridge = nil
	a.routing.say(v, 4, less.differences(less)...)
	want("in a network that only routes", map[uint32]dataplane.Bridge{}, less.naiveMACs())
}
