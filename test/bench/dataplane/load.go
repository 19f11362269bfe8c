package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/nstest"
)

// The load is made with bare system calls on pinned threads. What streams has
// its clients on the first CPU and its servers on the second. What waits for
// answers has both on the first: to wake another CPU of a virtual machine takes
// several times as long as the path of the packet, and would be all that is
// measured. Blocking calls time out so that a thread sees that it is to stop.

const (
	port       = 7000
	clientCPU  = 0
	warmUp     = 60 * time.Millisecond
	stopCheck  = 50 * time.Millisecond
	patience   = 10 * time.Second // until the first packet
	batch      = 64
	udpPayload = 64
	chunk      = 128 << 10
)

func (l load) serverCPU() int {
	if l.oneCPU {
		return clientCPU
	}
	return min(1, runtime.NumCPU()-1)
}

// end is one side of a measurement.
type end struct {
	ns   *nstest.NS
	addr netip.Addr
}

// load is one kind of traffic: server and client loops that run until stop.
type load struct {
	unit    string
	streams int
	oneCPU  bool // for client and server
	// serve opens its socket, calls ready, and adds to count what it receives
	// (or nothing, if the client counts).
	serve func(l *loop, ready func()) error
	dial  func(l *loop, to unix.Sockaddr) error
}

// loop is what a running side knows.
type loop struct {
	number int // of the stream
	count  *atomic.Int64
	stop   *atomic.Bool
}

func loads() map[string]load {
	return map[string]load{
		"udp64": {"packets/s", 1, false, udpServe, udpDial(0)},
		"rr":    {"transactions/s", 1, true, rrServe, rrDial},
		"crr":   {"connections/s", 1, true, crrServe, crrDial},
		"tcp1":  {"bytes/s", 1, false, streamServe, streamDial},
		"tcp2":  {"bytes/s", 2, false, streamServe, streamDial},
	}
}

// measure runs a load between two ends and returns its rate per second.
func measure(ctx context.Context, l load, client, server end, slice time.Duration) (float64, error) {
	// The threads sit in system calls that the runtime does not know of; a
	// collection would wait for them.
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var (
		count atomic.Int64
		stop  atomic.Bool
		sides sync.WaitGroup
		errs  = make(chan error, 2*l.streams)
	)
	side := func(e end, cpu int, run func() error) {
		sides.Go(func() {
			err := e.pinned(cpu, run)
			if stop.Load() {
				err = nil // at the end one side may miss the other
			}
			errs <- err
		})
	}
	for i := range l.streams {
		lp := &loop{number: i, count: &count, stop: &stop}
		ready := make(chan struct{})
		failed := make(chan struct{})
		side(server, l.serverCPU(), func() error {
			err := l.serve(lp, func() { close(ready) })
			if err != nil {
				close(failed)
			}
			return err
		})
		select {
		case <-ready:
		case <-failed:
			continue
		}
		to := &unix.SockaddrInet4{Port: port + i, Addr: server.addr.As4()}
		side(client, clientCPU, func() error { return l.dial(lp, to) })
	}
	wait(ctx, warmUp)
	before, began := count.Load(), time.Now()
	wait(ctx, slice)
	// On a busy machine a side may not have had its turn: the rate is the same
	// over a longer time.
	for count.Load() == before && time.Since(began) < patience && ctx.Err() == nil {
		wait(ctx, slice)
	}
	after, ended := count.Load(), time.Now()
	stop.Store(true)
	sides.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	if err := errors.Join(append(all, ctx.Err())...); err != nil {
		return 0, err
	}
	if after == before {
		return 0, fmt.Errorf("nothing arrived at %s", server.addr)
	}
	return float64(after-before) / ended.Sub(began).Seconds(), nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pinned runs f in the end's namespace on a thread that is bound to a CPU and
// ends with it.
func (e end) pinned(cpu int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread keeps CPU and namespace
		if err := unix.Setns(e.ns.Fd(), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", e.ns.Name(), err)
			return
		}
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- fmt.Errorf("pin to CPU %d: %w", cpu, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// call is a system call without the runtime's bookkeeping. The signal that the
// runtime sends when it wants the thread to pause interrupts the call; it has to
// be obeyed, or the runtime repeats it. It comes sooner than a call's own time
// limit, so the caller must look whether it is to stop before it calls again.
func call(trap, a1, a2, a3, a4, a5 uintptr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(trap, a1, a2, a3, a4, a5, 0)
	if errno == unix.EINTR {
		runtime.Gosched()
	}
	return int(n), errno
}

func send(fd int, b []byte) (int, unix.Errno) {
	return call(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0)
}

// sendByte sends what there is always room for.
func sendByte(fd int, b []byte) unix.Errno {
	for {
		if _, errno := send(fd, b); errno != unix.EINTR {
			return errno
		}
	}
}

func recv(fd int, b []byte) (int, unix.Errno) {
	return call(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0)
}

// expired says whether a call only ran into its time limit, or was interrupted.
func expired(errno unix.Errno) bool {
	return errno == unix.EAGAIN || errno == unix.EINPROGRESS || errno == unix.EINTR
}

// socket opens one whose calls last at most stopCheck.
func socket(kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	limit := unix.NsecToTimeval(stopCheck.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
	)
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up socket: %w", err)
	}
	return fd, nil
}

func bound(kind, port int) (int, error) {
	fd, err := socket(kind)
	if err != nil {
		return -1, err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind port %d: %w", port, err)
	}
	return fd, nil
}

// connect repeats a connection attempt that timed out, within reason.
func connect(kind int, to unix.Sockaddr) (int, error) {
	fd, err := socket(kind)
	if err != nil {
		return -1, err
	}
	for deadline := time.Now().Add(3 * time.Second); ; {
		err = unix.Connect(fd, to)
		if err == nil || errors.Is(err, unix.EISCONN) {
			return fd, nil
		}
		again := errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EALREADY) || errors.Is(err, unix.EINTR)
		if !again || time.Now().After(deadline) {
			unix.Close(fd)
			return -1, fmt.Errorf("connect: %w", err)
		}
	}
}

// accept waits for a connection or the stop, then it returns -1.
func (l *loop) accept(fd int) (int, error) {
	for !l.stop.Load() {
		conn, errno := call(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0)
		if errno == 0 {
			limit := unix.NsecToTimeval(stopCheck.Nanoseconds())
			if err := unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
				unix.Close(conn)
				return -1, err
			}
			return conn, nil
		}
		if !expired(errno) {
			return -1, fmt.Errorf("accept: %w", errno)
		}
	}
	return -1, nil
}

type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// messages returns the vector for batch datagrams of a size.
func messages(size int) []mmsghdr {
	all := make([]mmsghdr, batch)
	for i := range all {
		buf := make([]byte, size)
		vec := &unix.Iovec{Base: &buf[0]}
		vec.SetLen(size)
		all[i].header.Iov = vec
		all[i].header.SetIovlen(1)
	}
	return all
}

func udpServe(l *loop, ready func()) error {
	fd, err := bound(unix.SOCK_DGRAM, port+l.number)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	ready()
	vec := messages(udpPayload)
	for !l.stop.Load() {
		n, errno := call(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&vec[0])), batch, unix.MSG_WAITFORONE, 0)
		switch {
		case errno == 0:
			l.count.Add(int64(n))
		case !expired(errno):
			return fmt.Errorf("receive: %w", errno)
		}
	}
	return nil
}

// udpDial sends batches of packets, and after each waits for a time.
func udpDial(pause time.Duration) func(l *loop, to unix.Sockaddr) error {
	return func(l *loop, to unix.Sockaddr) error {
		fd, err := connect(unix.SOCK_DGRAM, to)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		vec := messages(udpPayload)
		for !l.stop.Load() {
			_, errno := call(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&vec[0])), batch, 0, 0)
			// The server may be gone already when the measurement ends.
			if errno != 0 && !expired(errno) && errno != unix.ENOBUFS && errno != unix.ECONNREFUSED {
				return fmt.Errorf("send: %w", errno)
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
		return nil
	}
}

// rrServe answers each byte with a byte on one connection.
func rrServe(l *loop, ready func()) error {
	fd, err := bound(unix.SOCK_STREAM, port+l.number)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ready()
	conn, err := l.accept(fd)
	if conn < 0 || err != nil {
		return err
	}
	defer unix.Close(conn)
	if err := unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	b := make([]byte, 1)
	for {
		n, errno := recv(conn, b)
		switch {
		case errno == 0 && n == 0:
			return nil
		case errno == 0:
			sendByte(conn, b)
		case !expired(errno):
			return nil // the client ended it
		case l.stop.Load():
			return nil
		}
	}
}

func rrDial(l *loop, to unix.Sockaddr) error {
	fd, err := connect(unix.SOCK_STREAM, to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := make([]byte, 1)
	for !l.stop.Load() {
		if errno := sendByte(fd, b); errno != 0 {
			return fmt.Errorf("send: %w", errno)
		}
		if err := l.answer(fd, b); err != nil {
			return err
		}
		l.count.Add(1)
	}
	return nil
}

// answer waits for the server's byte or the stop.
func (l *loop) answer(fd int, b []byte) error {
	for {
		n, errno := recv(fd, b)
		switch {
		case errno == 0 && n > 0, l.stop.Load():
			return nil
		case errno == 0:
			return fmt.Errorf("receive: connection ended")
		case !expired(errno):
			return fmt.Errorf("receive: %w", errno)
		}
	}
}

// crrServe answers a byte with a byte and ends the connection after the client.
func crrServe(l *loop, ready func()) error {
	fd, err := bound(unix.SOCK_STREAM, port+l.number)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ready()
	b := make([]byte, 1)
	for {
		conn, err := l.accept(fd)
		if conn < 0 || err != nil {
			return err
		}
		for {
			n, errno := recv(conn, b)
			if errno == 0 && n > 0 {
				sendByte(conn, b)
				continue
			}
			if errno == 0 || !expired(errno) || l.stop.Load() {
				break
			}
		}
		unix.Close(conn)
	}
}

// crrDial counts whole connections. Its ports come round so soon, with no
// TIME_WAIT to guard them, that one may meet its predecessor's last packets: a
// reset is no error, and no connection.
func crrDial(l *loop, to unix.Sockaddr) error {
	b := make([]byte, 1)
	for !l.stop.Load() {
		err := l.once(b, to)
		if err == nil {
			l.count.Add(1)
		} else if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
			return err
		}
	}
	return nil
}

func (l *loop) once(b []byte, to unix.Sockaddr) error {
	fd, err := connect(unix.SOCK_STREAM, to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if errno := sendByte(fd, b); errno != 0 {
		return fmt.Errorf("send: %w", errno)
	}
	return l.answer(fd, b)
}

func streamServe(l *loop, ready func()) error {
	fd, err := bound(unix.SOCK_STREAM, port+l.number)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ready()
	conn, err := l.accept(fd)
	if conn < 0 || err != nil {
		return err
	}
	defer unix.Close(conn)
	b := make([]byte, 2*chunk)
	for {
		n, errno := recv(conn, b)
		switch {
		case errno == 0 && n == 0:
			return nil
		case errno == 0:
			l.count.Add(int64(n))
		case !expired(errno), l.stop.Load():
			return nil
		}
	}
}

func streamDial(l *loop, to unix.Sockaddr) error {
	fd, err := connect(unix.SOCK_STREAM, to)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := make([]byte, chunk)
	for !l.stop.Load() {
		_, errno := send(fd, b)
		if errno != 0 && !expired(errno) && !l.stop.Load() {
			return fmt.Errorf("send: %w", errno)
		}
	}
	return nil
}
