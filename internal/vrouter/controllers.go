package vrouter

import (
	"net"
	"net/netip"
	"slices"

	"connectrpc.com/connect"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// maxTold bounds how many control nodes are taken on from others.
const maxTold = 32

// dialer makes the client of a control node; nothing is sent yet.
type dialer func(address string) (controlv1connect.ControlClient, error)

func dialWith(credentials *ctls.Credentials) dialer {
	return func(address string) (controlv1connect.ControlClient, error) {
		client, base, err := serve.Client(address, credentials, true, ctls.RoleController)
		if err != nil {
			return nil, err
		}
		return controlv1connect.NewControlClient(client, base, connect.WithGRPC()), nil
	}
}

// learn takes in which control nodes there are, as one of them says: one that is
// started later is known to the agents so, and the configured ones are only
// those to begin with.
func (s *sessions) learn(from *controlPeer, c *controlv1.Cluster) {
	s.mu.Lock()
	changed := s.learnBGP(from, c.GetBgp())
	from.own, from.told = c.GetAddress(), c.GetControllers()
	s.regroup()
	s.mu.Unlock()
	if changed {
		s.bgpChanged()
	}
}

// regroup makes the peers those that are configured and those that control nodes
// with a session tell of. While there is no session they stay as they are; and
// none is let go that has one.
func (s *sessions) regroup() {
	var told []string
	for _, p := range s.peers {
		if p.end != nil {
			told = append(told, p.told...)
		}
		if p.own == "" && slices.Contains(s.configured, p.address) && !isAddress(p.address) {
			return // it may be any of those that are told of, under another name
		}
	}
	if len(told) == 0 {
		return
	}
	wanted := slices.Clone(s.configured)
	for _, address := range told {
		named := slices.ContainsFunc(s.peers, func(p *controlPeer) bool { return p.own == address && p.address != address })
		if !named && !slices.Contains(wanted, address) && len(wanted) < len(s.configured)+maxTold {
			wanted = append(wanted, address)
		}
	}
	peers := make([]*controlPeer, 0, len(wanted))
	for _, p := range s.peers {
		if p.end != nil && !slices.Contains(wanted, p.address) {
			wanted = append(wanted, p.address)
		}
	}
	for _, address := range rank(s.node, wanted) {
		if p := s.peer(address); p != nil {
			peers = append(peers, p)
		}
	}
	s.peers = peers
	s.poke()
}

// isAddress tells whether a host:port has no name to look up.
func isAddress(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

// peer is the one with an address, made if need be; nil if none can be.
func (s *sessions) peer(address string) *controlPeer {
	for _, p := range s.peers {
		if p.address == address {
			return p
		}
	}
	client, err := s.dial(address)
	if err != nil {
		s.log.Warn("control node that another one tells of is not used", "peer", address, "error", err)
		return nil
	}
	s.log.Info("control node is known now", "peer", address)
	return &controlPeer{address: address, client: client, state: sessionState{Peer: address}}
}
