package control

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/model"
)

// frame is a ControlMessage as it goes to one session: a position, and a body
// that was encoded once for all sessions. Fields of a protobuf message may come
// in any order, so the message is the two strung together.
type frame struct {
	position, body []byte
}

func (f *frame) message() (*controlv1.ControlMessage, error) {
	m := new(controlv1.ControlMessage)
	data := append(append([]byte(nil), f.position...), f.body...)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("decode own message: %w", err)
	}
	return m, nil
}

// encode encodes a message that this package made. Such messages hold only
// what cannot fail to encode; strings from the graph are UTF-8.
func encode(m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return data
}

// stamp is a position as messages carry it; complete says that with the message
// all has been said up to it.
type stamp struct {
	at              model.Position
	plain, complete []byte
}

func stampOf(p model.Position) *stamp {
	at := &typesv1.Position{Epoch: p.Epoch, Revision: p.Revision}
	return &stamp{
		at: p, plain: encode(&controlv1.ControlMessage{Position: at}),
		complete: encode(&controlv1.ControlMessage{Position: at, Complete: true}),
	}
}

func portMessage(a *attachment) []byte {
	p := &controlv1.Port{
		InterfaceId:      a.Interface,
		VirtualMachineId: a.Machine,
		ContainerId:      a.ContainerID,
		Interface:        a.IfName,
		NetworkId:        a.network,
		NetworkName:      a.networkName,
		Vrf:              a.number,
		Label:            a.Label,
		Mac:              a.mac,
		DisplayName:      a.displayName,
		Revision:         a.Revision,
		Namespace:        a.Namespace,
		Passage:          a.lookup(),
		Vni:              a.vni,
		Policy:           portPolicyMessage(a.policy),
		HealthChecks:     checkMessages(a.checks),
		FabricNetwork:    a.fabricNetwork,
	}
	for _, address := range a.addresses {
		p.Addresses = append(p.Addresses, address.Addr.String())
	}
	for _, vni := range a.routers {
		p.Routers = append(p.Routers, &controlv1.RouterTable{Vrf: compile.RouterNumber(vni), Vni: vni})
	}
	if a.bridge.layer2 {
		p.Bridge = &controlv1.Bridge{Routes: a.bridge.layer3, FloodsUnknown: a.bridge.floodsUnknown}
	}
	for _, f := range a.foreign {
		p.Foreign = append(p.Foreign, &controlv1.ForeignAddress{
			Address: f.Addr.String(), Vrf: f.vrf, Fixed: f.fixed.String(), AnswersOnly: f.answersOnly,
		})
	}
	for i := range a.services {
		if s := &a.services[i]; s.Problem == "" && !s.Disabled {
			p.BgpServices = append(p.BgpServices, serviceMessage(s))
		}
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: p}})
}

func serviceMessage(s *compile.BGPService) *controlv1.BgpService {
	m := &controlv1.BgpService{Id: s.UUID, SourcePort: uint32(s.Port)}
	for _, p := range s.Peers {
		m.Peers = append(m.Peers, &controlv1.BgpPeer{Client: p.Client.String(), Server: p.Server.String(), ControlNode: uint32(p.ControlNode)})
	}
	return m
}

func portGoneMessage(iface string) []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_PortGone{PortGone: &controlv1.PortGone{InterfaceId: iface}}})
}

// encodeRoute encodes the paths of a key in a VRF, or that it has none.
func encodeRoute(vrf uint32, key rib.Key, paths []*rib.Path) []byte {
	m := &controlv1.ControlMessage{}
	encoded := make([]*controlv1.Path, 0, len(paths))
	for i, p := range paths {
		if i == 0 || !p.SameWay(paths[i-1]) { // several control nodes may have heard of it
			encoded = append(encoded, pathMessage(p))
		}
	}
	switch key.Kind() {
	case rib.MAC:
		mac := key.HardwareAddress()
		route := &controlv1.MacRoute{Vrf: vrf, Mac: mac[:], Paths: encoded}
		if a := key.Address(); a.IsValid() {
			route.Address = a.String()
		}
		m.Body = &controlv1.ControlMessage_MacRoute{MacRoute: route}
	case rib.Multicast:
		m.Body = &controlv1.ControlMessage_MulticastRoute{MulticastRoute: &controlv1.MulticastRoute{
			Vrf: vrf, Originator: key.Address().String(), Paths: encoded,
		}}
	default:
		prefix := key.Prefix().String()
		if len(paths) == 0 {
			m.Body = &controlv1.ControlMessage_RouteGone{RouteGone: &controlv1.RouteGone{Vrf: vrf, Prefix: prefix}}
		} else {
			m.Body = &controlv1.ControlMessage_Route{Route: &controlv1.Route{Vrf: vrf, Prefix: prefix, Paths: encoded}}
		}
	}
	return encode(m)
}

func pathMessage(p *rib.Path) *controlv1.Path {
	m := &controlv1.Path{
		NextHop: p.NextHop.String(), Label: p.Label, InterfaceId: p.InterfaceID(), Vni: p.VNI, OriginNetwork: p.OriginNetwork,
		SecurityGroups: p.SecurityGroups, Tags: p.Tags, LocalPreference: p.LocalPreference, Weight: p.Weight,
		Sequence: p.Sequence, Stale: p.Flags&rib.Stale != 0, Foreign: p.Flags&rib.Foreign != 0, Behind: p.Behind(),
	}
	if p.MAC != [6]byte{} {
		m.Mac = p.MAC[:]
	}
	m.Encapsulations = encapsulationNumbers(p.Encapsulations)
	return m
}

func encapsulationNumbers(set rib.Encapsulations) (list []controlv1.Encapsulation) {
	for _, e := range encapsulations {
		if set&e.bit != 0 {
			list = append(list, e.wire)
		}
	}
	return list
}

// encapsulationsOf reads numbers, and leaves out those that a newer version may know.
func encapsulationsOf(list []controlv1.Encapsulation) (set rib.Encapsulations) {
	for _, e := range encapsulations {
		if slices.Contains(list, e.wire) {
			set |= e.bit
		}
	}
	return set
}

// encapsulations are the same ones as the configuration, the tables and agents
// know them.
var encapsulations = []struct {
	name compile.Encapsulation
	bit  rib.Encapsulations
	wire controlv1.Encapsulation
}{
	{compile.MPLSoUDP, rib.MPLSoUDP, controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_UDP},
	{compile.MPLSoGRE, rib.MPLSoGRE, controlv1.Encapsulation_ENCAPSULATION_MPLS_OVER_GRE},
	{compile.VXLAN, rib.VXLAN, controlv1.Encapsulation_ENCAPSULATION_VXLAN},
}

// encapsulationSet is a list of encapsulations as paths have it.
func encapsulationSet(list []compile.Encapsulation) (set rib.Encapsulations) {
	for _, e := range encapsulations {
		if slices.Contains(list, e.name) {
			set |= e.bit
		}
	}
	return set
}

func vrfGoneMessage(vrf uint32) []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_VrfGone{VrfGone: &controlv1.VrfGone{Vrf: vrf}}})
}

func endOfPortsMessage() []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{
		EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Ports{Ports: true}},
	}})
}

func endOfVRFMessage(vrf uint32) []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{
		EndOfTable: &controlv1.EndOfTable{Table: &controlv1.EndOfTable_Vrf{Vrf: vrf}},
	}})
}

func resumedMessage(vrf uint32) []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Resumed{Resumed: &controlv1.Resumed{Vrf: vrf}}})
}

func clusterMessage(mtu uint32, settling bool, of colleagues, preferred []compile.Encapsulation, bgp string) []byte {
	c := &controlv1.Cluster{Mtu: mtu, Settling: settling, Controllers: of.all, Address: of.own, Bgp: bgp}
	for _, name := range preferred {
		for _, e := range encapsulations {
			if e.name == name {
				c.Encapsulations = append(c.Encapsulations, e.wire)
			}
		}
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Cluster{Cluster: c}})
}

func keepAliveMessage(cutOff bool, tables []*controlv1.TableCursor) []byte {
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_KeepAlive{
		KeepAlive: &controlv1.KeepAlive{CutOff: cutOff, Tables: tables},
	}})
}

// binaryCodec is connect's protobuf codec, which also knows frames.
type binaryCodec struct{}

func (binaryCodec) Name() string { return "proto" }

func (c binaryCodec) Marshal(m any) ([]byte, error) { return c.MarshalAppend(nil, m) }

func (binaryCodec) MarshalAppend(dst []byte, m any) ([]byte, error) {
	switch m := m.(type) {
	case *frame:
		return append(append(dst, m.position...), m.body...), nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(dst, m)
	default:
		return nil, fmt.Errorf("encode %T: not a message", m)
	}
}

func (binaryCodec) Unmarshal(data []byte, m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("decode %T: not a message", m)
	}
	return proto.Unmarshal(data, message)
}

// jsonCodec is connect's JSON codec, which also knows frames.
type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(m any) ([]byte, error) {
	switch m := m.(type) {
	case *frame:
		message, err := m.message()
		if err != nil {
			return nil, err
		}
		return protojson.Marshal(message)
	case proto.Message:
		return protojson.Marshal(m)
	default:
		return nil, fmt.Errorf("encode %T: not a message", m)
	}
}

func (jsonCodec) Unmarshal(data []byte, m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return fmt.Errorf("decode %T: not a message", m)
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, message)
}
