package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// State of a peer, RFC 4271 §8.2.2.
type State uint8

const (
	Idle State = iota // disabled, or down until a limit's time is over
	Connect
	Active // waiting for the next attempt, or for the peer's
	OpenSent
	OpenConfirm
	Established
)

func (s State) String() string {
	return [...]string{"Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"}[s]
}

// conn is one TCP connection with a peer. For a moment there may be two, one
// from each side; which one lives RFC 4271 §6.8 says.
type conn struct {
	peer     *peer
	c        net.Conn
	outgoing bool
	// state and id, the peer's identifier, are protected by peer.mu.
	state State
	id    netip.Addr
	as    uint32

	ending sync.Once
	reason error
	// final says that graceful restart is not wanted: routes go at once.
	final bool
	ended chan struct{} // closed when nothing is left of the connection
}

// openWait bounds how long a peer may take for its OPEN.
const openWait = 60 * time.Second

// end closes the connection, with a NOTIFICATION if the reason is one of ours.
// The first reason counts. It must not be called with locks held.
func (k *conn) end(reason error, final bool) {
	k.ending.Do(func() {
		k.reason, k.final = reason, final
		var n *Notification
		var theirs peerError
		if errors.As(reason, &n) && !errors.As(reason, &theirs) {
			// A writer that is stuck is freed by the deadline.
			_ = k.c.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = k.c.Write(n.wire())
		}
		k.c.Close()
	})
}

// message reads one message before the session is established.
func (k *conn) message() (kind uint8, body []byte, err error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(k.c, head); err != nil {
		return 0, nil, fmt.Errorf("read message: %w", err)
	}
	size, kind, bad := checkHeader(head)
	if bad != nil {
		return 0, nil, bad
	}
	body = make([]byte, size-headerSize)
	if _, err := io.ReadFull(k.c, body); err != nil {
		return 0, nil, fmt.Errorf("read message: %w", err)
	}
	if kind == msgNotify {
		return 0, nil, peerError{&Notification{body[0], body[1], body[2:]}}
	}
	return kind, body, nil
}

// handshake exchanges OPEN and KEEPALIVE.
func (k *conn) handshake() (*negotiated, error) {
	open, err := k.peer.openMessage()
	if err != nil {
		return nil, err
	}
	if err := k.c.SetDeadline(time.Now().Add(openWait)); err != nil {
		return nil, err
	}
	if _, err := k.c.Write(open); err != nil {
		return nil, fmt.Errorf("send OPEN: %w", err)
	}
	k.peer.setState(k, OpenSent)
	kind, body, err := k.message()
	if err != nil {
		return nil, err
	}
	if kind != msgOpen {
		return nil, &Notification{Code: codeFSM, Subcode: 1}
	}
	n, err := k.peer.negotiate(body)
	if err != nil {
		return nil, err
	}
	if err := k.peer.resolve(k, n); err != nil {
		return nil, err
	}
	if _, err := k.c.Write(keepalive); err != nil {
		return nil, fmt.Errorf("send KEEPALIVE: %w", err)
	}
	if n.hold > 0 {
		if err := k.c.SetDeadline(time.Now().Add(n.hold)); err != nil {
			return nil, err
		}
	}
	if kind, _, err = k.message(); err != nil {
		return nil, err
	}
	if kind != msgAlive {
		return nil, &Notification{Code: codeFSM, Subcode: 2}
	}
	return n, k.c.SetDeadline(time.Time{})
}

// resolve decides between two connections once the peer's identifier is known
// on this one (RFC 4271 §6.8, RFC 6286 §2.3). The one that the side with the
// higher identifier began lives.
func (p *peer) resolve(k *conn, n *negotiated) error {
	p.mu.Lock()
	k.id, k.as = n.id, n.as
	k.state = OpenConfirm
	var loser *conn
	var dead *session
	collision := cease(ceaseCollision, "")
	for _, o := range p.conns {
		if o == k {
			continue
		}
		switch o.state {
		case Established:
			// A peer that restarted without a word comes again; its old
			// connection is dead (RFC 4724 §5). One that was established just
			// now is the other side of a collision.
			if s := p.session; s != nil && n.graceful && time.Since(s.since) > openWait/10 {
				dead = s
			} else {
				loser = k
			}
		case OpenConfirm:
			loser = k
			if k.outgoing == p.higher(n) {
				loser = o
			}
		}
	}
	p.mu.Unlock()
	if dead != nil {
		dead.end(errors.New("the peer connected again"), false)
		<-dead.ended
	}
	if loser == k {
		return collision
	}
	if loser != nil {
		loser.end(collision, false)
	}
	return nil
}

// higher says whether this side's identifier is the higher one.
func (p *peer) higher(n *negotiated) bool {
	own, theirs := p.speaker.config.RouterID.As4(), n.id.As4()
	a, b := binary.BigEndian.Uint32(own[:]), binary.BigEndian.Uint32(theirs[:])
	if a == b {
		return p.localAS() > n.as
	}
	return a > b
}
