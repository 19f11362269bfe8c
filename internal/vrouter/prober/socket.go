package prober

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/vrouter/health"
)

// Dial connects to a TCP port of a port's alias. The error of a refusal is
// unix.ECONNREFUSED, that of no answer the context's, and health.ErrNotSent where
// nothing left the node.
func (n *Net) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	file, err := n.socket(unix.SOCK_STREAM, unix.IPPROTO_TCP, to)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	defer file.Close()
	defer interrupt(ctx, file)()
	if err := connected(file); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, prefer(ctx, err))
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return conn, nil
}

// socket opens one in the namespace and begins to connect it.
func (n *Net) socket(kind, protocol int, to netip.AddrPort) (file *os.File, err error) {
	err = n.do(func() error {
		// What fails at once fails here, not at the port.
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		if err != nil && !errors.Is(err, unix.EINPROGRESS) {
			unix.Close(fd)
			return os.NewSyscallError("connect", err)
		}
		file = os.NewFile(uintptr(fd), to.String())
		return nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", health.ErrNotSent, err)
	}
	return file, err
}

// connected waits for the end of a connect.
func connected(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		number, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
			return true
		case number != 0:
			failed = syscall.Errno(number)
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil // else it is still on its way
	})
	return errors.Join(err, failed)
}

// interrupt has the context end what waits for the file; the function that it
// returns ends that.
func interrupt(ctx context.Context, file *os.File) (stop func()) {
	ended := context.AfterFunc(ctx, func() { _ = file.SetDeadline(time.Unix(1, 0)) }) // fails where it is closed
	return func() { ended() }
}

// prefer says that the context has ended where that is why.
func prefer(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return err
}

const (
	echoRequest = 8
	echoReply   = 0
	echoSize    = 24
)

// Ping sends an ICMP echo request (RFC 792) to an alias and waits for its reply.
func (n *Net) Ping(ctx context.Context, to netip.Addr) error {
	file, err := n.socket(unix.SOCK_RAW, unix.IPPROTO_ICMP, netip.AddrPortFrom(to, 0))
	if err != nil {
		return fmt.Errorf("ping %s: %w", to, err)
	}
	defer file.Close()
	defer interrupt(ctx, file)()
	request := make([]byte, echoSize)
	request[0] = echoRequest
	binary.BigEndian.PutUint16(request[4:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint16(request[6:], 1)
	binary.BigEndian.PutUint64(request[8:], rand.Uint64())
	binary.BigEndian.PutUint64(request[16:], rand.Uint64())
	binary.BigEndian.PutUint16(request[2:], checksum(request))
	if _, err := file.Write(request); err != nil {
		if isLocal(err) {
			err = fmt.Errorf("%w: %w", health.ErrNotSent, err)
		}
		return fmt.Errorf("ping %s: %w", to, prefer(ctx, err))
	}
	packet := make([]byte, 256)
	for {
		size, err := file.Read(packet)
		if err != nil {
			return fmt.Errorf("ping %s: %w", to, prefer(ctx, err))
		}
		if answers(packet[:size], request) {
			return nil
		}
	}
}

// isLocal tells whether a packet did not leave, as an error of a write says: one may
// also be of what came before.
func isLocal(err error) bool {
	for _, local := range []error{unix.ENOBUFS, unix.ENETDOWN, unix.ENETUNREACH, unix.ENODEV, unix.EPERM} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}

// answers tells whether an IPv4 packet is the reply to a request.
func answers(packet, request []byte) bool {
	if len(packet) < 20 {
		return false
	}
	header := int(packet[0]&15) * 4
	if header < 20 || len(packet) < header+len(request) {
		return false
	}
	reply := packet[header:]
	return reply[0] == echoReply && string(reply[4:len(request)]) == string(request[4:])
}

// checksum of RFC 1071, for an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
