package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// negotiated is what both sides of a session can do.
type negotiated struct {
	as        uint32
	id        netip.Addr
	hold      time.Duration
	families  familySet
	as4       bool
	addPath   familySet // paths that come have identifiers
	refresh   bool
	enhanced  bool // RFC 7313
	llgr      bool
	graceful  bool
	notify    bool // RFC 8538: a NOTIFICATION does not end graceful restart
	restart   time.Duration
	preserved familySet // forwarding went on at the peer's restart
	restarts  bool      // the peer has just restarted
	keep      familySet // of which its routes are kept at a restart
	longLived [numFam]time.Duration
}

// openMessage writes what this speaker proposes to a peer.
func (p *peer) openMessage() ([]byte, error) {
	own, c := &p.speaker.config, &p.config
	var caps []packet.ParameterCapabilityInterface
	for _, f := range c.Families {
		caps = append(caps, packet.NewCapMultiProtocol(packet.Family(f)))
	}
	caps = append(caps, packet.NewCapRouteRefresh(), packet.NewCapEnhancedRouteRefresh(),
		packet.NewCapFourOctetASNumber(p.localAS()))
	if own.RestartTime > 0 {
		restarting := p.speaker.restarting()
		var tuples []*packet.CapGracefulRestartTuple
		var long []*packet.CapLongLivedGracefulRestartTuple
		for _, f := range c.Families {
			tuples = append(tuples, packet.NewCapGracefulRestartTuple(packet.Family(f), true))
			long = append(long, packet.NewCapLongLivedGracefulRestartTuple(packet.Family(f), true,
				uint32(own.LongLived/time.Second)))
		}
		caps = append(caps, packet.NewCapGracefulRestart(restarting, true, uint16(own.RestartTime/time.Second), tuples))
		if own.LongLived > 0 {
			caps = append(caps, packet.NewCapLongLivedGracefulRestart(long))
		}
	}
	if c.AddPaths > 0 {
		var tuples []*packet.CapAddPathTuple
		for _, f := range c.Families {
			if f != RTC { // of memberships one path says all
				tuples = append(tuples, packet.NewCapAddPathTuple(packet.Family(f), packet.BGP_ADD_PATH_RECEIVE))
			}
		}
		caps = append(caps, packet.NewCapAddPath(tuples))
	}
	as := p.localAS()
	if as > 0xffff {
		as = asTrans
	}
	m, err := packet.NewBGPOpenMessage(uint16(as), uint16(c.Hold/time.Second), own.RouterID,
		[]packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)})
	if err != nil {
		return nil, fmt.Errorf("make OPEN: %w", err)
	}
	return m.Serialize()
}

// negotiate reads a peer's OPEN, body without header.
func (p *peer) negotiate(body []byte) (*negotiated, error) {
	var m packet.BGPOpen
	if err := m.DecodeFromBytes(body); err != nil {
		var bad *packet.MessageError
		if errors.As(err, &bad) && bad.TypeCode == codeOpen {
			return nil, &Notification{Code: codeOpen, Subcode: bad.SubTypeCode}
		}
		return nil, &Notification{Code: codeOpen}
	}
	if m.Version != 4 {
		return nil, &Notification{Code: codeOpen, Subcode: openVersion, Data: []byte{0, 4}}
	}
	n := &negotiated{as: uint32(m.MyAS), id: m.ID, hold: time.Duration(m.HoldTime) * time.Second}
	if n.hold != 0 && n.hold < 3*time.Second {
		return nil, &Notification{Code: codeOpen, Subcode: openHoldTime}
	}
	n.hold = min(n.hold, p.config.Hold)
	var offered familySet
	multi := false
	for _, o := range m.OptParams {
		option, ok := o.(*packet.OptionParameterCapability)
		if !ok {
			return nil, &Notification{Code: codeOpen, Subcode: openParameter}
		}
		for _, c := range option.Capability {
			if mp, ok := c.(*packet.CapMultiProtocol); ok {
				multi = true
				offered.add(Family(mp.CapValue))
			} else {
				n.capability(c)
			}
		}
	}
	if !multi {
		offered.add(Inet) // RFC 4760 §8: an old speaker
	}
	for _, f := range p.config.Families {
		if offered.has(f) {
			n.families.add(f)
		}
	}
	return n, p.checkOpen(n)
}

func (p *peer) checkOpen(n *negotiated) error {
	switch {
	case n.as != p.config.AS:
		return &Notification{Code: codeOpen, Subcode: openPeerAS}
	case n.id.IsUnspecified(), n.id == p.speaker.config.RouterID && !p.ebgp(): // RFC 6286
		return &Notification{Code: codeOpen, Subcode: openIdentifier}
	case n.families == 0:
		return &Notification{Code: codeOpen, Subcode: openCapability}
	}
	if p.speaker.config.RestartTime == 0 {
		n.graceful, n.keep, n.longLived = false, 0, [numFam]time.Duration{}
	}
	n.llgr = n.llgr && p.speaker.config.LongLived > 0
	if n.addPath.remove(RTC); p.config.AddPaths == 0 { // the peer was not asked, RFC 7911 §4
		n.addPath = 0
	}
	n.keep &= n.families
	return nil
}

// capability takes one capability of the peer's.
func (n *negotiated) capability(c packet.ParameterCapabilityInterface) {
	switch c := c.(type) {
	case *packet.CapFourOctetASNumber:
		n.as4, n.as = true, c.CapValue
	case *packet.CapRouteRefresh:
		n.refresh = true
	case *packet.CapEnhancedRouteRefresh:
		n.enhanced = true
	case *packet.CapGracefulRestart:
		n.graceful = true
		n.restarts, n.notify = c.Flags&8 != 0, c.Flags&4 != 0
		n.restart = time.Duration(c.Time) * time.Second
		for _, t := range c.Tuples {
			f := Family(uint32(t.AFI)<<16 | uint32(t.SAFI))
			n.keep.add(f)
			if t.Flags&0x80 != 0 {
				n.preserved.add(f)
			}
		}
	case *packet.CapLongLivedGracefulRestart:
		n.llgr = true
		for _, t := range c.Tuples {
			if i := Family(uint32(t.AFI)<<16 | uint32(t.SAFI)).index(); i >= 0 {
				n.longLived[i] = time.Duration(t.RestartTime) * time.Second
			}
		}
	case *packet.CapAddPath:
		for _, t := range c.Tuples {
			if t.Mode&packet.BGP_ADD_PATH_SEND != 0 {
				n.addPath.add(Family(t.Family))
			}
		}
	}
}
