package nstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// RunningStream is a TCP connection with a steady stream in it.
type RunningStream struct {
	conn   *net.TCPConn
	stop   chan struct{}
	sent   chan sent
	came   chan sent
	server *net.TCPListener
	// begun is what was sent again to connect.
	begun int
	// end lets the receiver close its end, which ended tells it.
	end   func()
	ended chan struct{}
}

type sent struct {
	bytes int
	err   error
}

// StreamTally is what became of a stream.
type StreamTally struct {
	// Bytes that were sent, and came.
	Bytes int
	// Again are the packets of the stream that were sent again because they were
	// lost: those that the receiver said it had already are not among them.
	Again int
}

// streamDoubt is how long the receiver may take to say what it had already.
const streamDoubt = time.Second

const streamPiece = 1000 // bytes in a millisecond

// StartStream connects from a namespace to an address of another and begins to
// send a megabyte in a second.
func StartStream(t TB, what Traffic) *RunningStream {
	t.Helper()
	s := &RunningStream{stop: make(chan struct{}), sent: make(chan sent, 1), came: make(chan sent, 1), ended: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	t.Cleanup(s.end)
	what.To.Must(func() (err error) {
		s.server, err = net.ListenTCP("tcp4", &net.TCPAddr{Port: int(what.Port)})
		return err
	})
	t.Cleanup(func() { s.server.Close() })
	go s.receive()
	what.From.Must(func() error {
		dialer := net.Dialer{Timeout: trafficPatience}
		conn, err := dialer.Dial("tcp4", netip.AddrPortFrom(what.Address, what.Port).String())
		if err == nil {
			s.conn = conn.(*net.TCPConn)
		}
		return err
	})
	t.Cleanup(func() { s.conn.Close() })
	var err error
	if s.begun, err = s.again(); err != nil {
		t.Fatalf("ask the stream's socket: %v", err)
	}
	go s.send()
	return s
}

// pattern is the byte at a place of the stream.
func pattern(place int) byte { return byte(place % 251) }

func (s *RunningStream) send() {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	piece := make([]byte, streamPiece)
	total := 0
	for {
		select {
		case <-s.stop:
			s.sent <- sent{total, s.conn.CloseWrite()}
			return
		case <-pace.C:
			for i := range piece {
				piece[i] = pattern(total + i)
			}
			s.conn.SetWriteDeadline(time.Now().Add(trafficPatience))
			n, err := s.conn.Write(piece)
			total += n
			if err != nil {
				s.sent <- sent{total, err}
				return
			}
		}
	}
}

func (s *RunningStream) receive() {
	conn, err := s.server.Accept()
	if err != nil {
		s.came <- sent{0, err}
		return
	}
	defer conn.Close()
	buf := make([]byte, 64<<10)
	for total := 0; ; {
		n, err := conn.Read(buf)
		for i, b := range buf[:n] {
			if b != pattern(total+i) {
				s.came <- sent{total, fmt.Errorf("byte %d of the stream is %d, want %d", total+i, b, pattern(total+i))}
				return
			}
		}
		total += n
		if errors.Is(err, io.EOF) {
			s.came <- sent{total, nil}
			<-s.ended // the sender would not count what comes after the other end's end
			return
		}
		if err != nil {
			s.came <- sent{total, err}
			return
		}
	}
}

// Stop ends the stream and returns what became of it.
func (s *RunningStream) Stop(t TB) (tally StreamTally) {
	t.Helper()
	close(s.stop)
	out := <-s.sent
	if out.err != nil {
		t.Errorf("the stream ended after %d bytes: %v", out.bytes, out.err)
	}
	select {
	case in := <-s.came:
		if in.err != nil || in.bytes != out.bytes {
			t.Errorf("of %d bytes of the stream %d came: %v", out.bytes, in.bytes, in.err)
		}
	case <-time.After(trafficPatience):
		t.Errorf("the stream of %d bytes does not end", out.bytes)
	}
	for deadline := time.Now().Add(streamDoubt); ; time.Sleep(5 * time.Millisecond) {
		again, err := s.again()
		if err != nil {
			t.Errorf("ask the stream's socket: %v", err)
		}
		tally.Again = max(again-s.begun, 0)
		if tally.Again == 0 || time.Now().After(deadline) {
			break
		}
	}
	tally.Bytes = out.bytes
	s.end()
	s.conn.Close()
	s.server.Close()
	return tally
}

// again is how many packets were sent again and are not known to have come before.
func (s *RunningStream) again() (packets int, err error) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); failed == nil {
			packets = int(info.Total_retrans) - int(info.Dsack_dups)
		}
	})
	return packets, errors.Join(err, failed)
}
