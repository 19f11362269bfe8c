package reflect

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// Message types and sizes of RFC 4271.
const (
	headerSize = 19
	msgOpen    = 1
	msgUpdate  = 2
	msgAlive   = 4
	attrReach  = 14
	// routeSize is what each route of the benchmark takes: length, label, route
	// distinguisher, a whole IPv4 address.
	routeSize  = 1 + 3 + 8 + 4
	routesEach = 100
	// holdSeconds is the hold time of all sessions: clients send no keepalives, and
	// a speaker that has a million routes to read does not answer for minutes.
	holdSeconds = 3600
)

// client is one end of a session: as little as that needs.
type client struct {
	net.Conn
	in *bufio.Reader
}

func message(kind byte, body []byte) []byte {
	b := make([]byte, 16, headerSize+len(body))
	for i := range b {
		b[i] = 0xff
	}
	b = binary.BigEndian.AppendUint16(b, uint16(headerSize+len(body)))
	return append(append(b, kind), body...)
}

// connect opens a session from an address, until the server takes it.
func connect(ctx context.Context, ns *nstest.NS, from netip.Addr) (*client, error) {
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		c, err := dial(ctx, ns, from)
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, fmt.Errorf("session from %s: %w", from, last)
}

func dial(ctx context.Context, ns *nstest.NS, from netip.Addr) (*client, error) {
	d := &net.Dialer{Timeout: time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	conn, err := ns.Dial(ctx, d, "tcp4", netip.AddrPortFrom(serverAddr, port).String())
	if err != nil {
		return nil, err
	}
	c := &client{conn, bufio.NewReaderSize(conn, 256<<10)}
	if err := c.open(from); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) open(id netip.Addr) error {
	capabilities := []byte{2, 12, 1, 4, 0, 1, 0, 128, 65, 4, 0, 0, as >> 8, as & 0xff}
	body := []byte{4, as >> 8, as & 0xff, holdSeconds >> 8, holdSeconds & 0xff}
	body = append(append(body, id.AsSlice()...), byte(len(capabilities)))
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(message(msgOpen, append(body, capabilities...))); err != nil {
		return err
	}
	for _, want := range []byte{msgOpen, msgAlive} {
		kind, _, err := c.next(nil)
		if err != nil {
			return err
		}
		if kind != want {
			return fmt.Errorf("message %d instead of %d", kind, want)
		}
		if kind == msgOpen {
			if _, err := c.Write(message(msgAlive, nil)); err != nil {
				return err
			}
		}
	}
	return c.SetDeadline(time.Time{})
}

// next reads a message into buf.
func (c *client) next(buf []byte) (kind byte, body []byte, err error) {
	head, err := c.in.Peek(headerSize)
	if err != nil {
		return 0, nil, err
	}
	kind = head[18]
	size := int(binary.BigEndian.Uint16(head[16:]))
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	_, err = io.ReadFull(c.in, buf)
	return kind, buf[headerSize:], err
}

// receive counts routes until there are so many.
func (c *client) receive(want int) error {
	buf := make([]byte, 4096)
	for have := 0; have < want; {
		kind, body, err := c.next(buf)
		if err != nil {
			return fmt.Errorf("after %d of %d routes: %w", have, want, err)
		}
		if kind == msgUpdate {
			have += routes(body)
		}
	}
	return nil
}

// routes counts those in an UPDATE's MP_REACH_NLRI by its length.
func routes(body []byte) int {
	attrs := body[4:]
	for len(attrs) > 3 {
		head, size := 3, int(attrs[2])
		if attrs[0]&0x10 != 0 {
			head, size = 4, int(binary.BigEndian.Uint16(attrs[2:]))
		}
		if attrs[1] == attrReach {
			// AFI, SAFI, next hop with its length, a reserved byte
			return (size - 4 - int(attrs[head+3]) - 1) / routeSize
		}
		attrs = attrs[head+size:]
	}
	return 0
}

// discard reads and forgets.
func (c *client) discard() { _, _ = io.Copy(io.Discard, c.in) }

// updates makes the messages of n routes, a set of attributes for each hundred.
func updates(n int) []byte {
	var out []byte
	for first := 0; first < n; first += routesEach {
		set := first / routesEach
		reach := []byte{0, 1, 128, 12, 0, 0, 0, 0, 0, 0, 0, 0, 10, 77, byte(set >> 8), byte(set) | 1, 0}
		for i := first; i < first+routesEach; i++ {
			label := uint32(16+i%1_000_000)<<4 | 1
			reach = append(reach, 24+64+32, byte(label>>16), byte(label>>8), byte(label), 0, 0, as>>8, as&0xff)
			reach = binary.BigEndian.AppendUint32(reach, uint32(set))
			reach = binary.BigEndian.AppendUint32(reach, 10<<24|uint32(i))
		}
		attrs := append([]byte{0x90, attrReach, byte(len(reach) >> 8), byte(len(reach))}, reach...)
		attrs = append(attrs, 0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100)
		attrs = append(attrs, 0xc0, 16, 16, 0, 2, as>>8, as&0xff)
		attrs = binary.BigEndian.AppendUint32(attrs, uint32(set))
		attrs = append(attrs, 3, 0x0c, 0, 0, 0, 0, 0, 13)
		body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attrs)))
		out = append(out, message(msgUpdate, append(body, attrs...))...)
	}
	return out
}
