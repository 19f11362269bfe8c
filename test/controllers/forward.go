package controllers

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
)

// Forward makes a unix socket that leads to a TCP port of the controller's
// network, which the test has no way into. It ends with the test.
func (c *Controller) Forward(port uint16) (socket string) {
	t := c.set.t
	t.Helper()
	socket = filepath.Join(c.set.dir, c.Name+"-"+strconv.Itoa(int(port)))
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatalf("%v", err)
	}
	f := &forward{c: c, to: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Address, port)), open: map[net.Conn]bool{}}
	f.wg.Go(func() { f.accept(l) })
	t.Cleanup(func() {
		l.Close()
		f.close()
		f.wg.Wait()
	})
	return socket
}

// forward passes connections on.
type forward struct {
	c  *Controller
	to *net.TCPAddr
	wg sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (f *forward) accept(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		var far net.Conn
		err = f.c.ns.Do(func() error {
			// Not Dial: it may dial on another thread, which is elsewhere.
			conn, err := net.DialTCP("tcp", nil, f.to)
			if err == nil {
				far = conn
			}
			return err
		})
		if err != nil || !f.keep(near, far) {
			near.Close()
			if far != nil {
				far.Close()
			}
			continue
		}
		f.wg.Go(func() { f.pass(near, far) })
		f.wg.Go(func() { f.pass(far, near) })
	}
}

// keep has connections closed at the end, unless that has come.
func (f *forward) keep(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		f.open[c] = true
	}
	return !f.closed
}

// pass passes on what comes, and closes both when one ends.
func (f *forward) pass(from, to net.Conn) {
	if _, err := io.Copy(to, from); err != nil && !errors.Is(err, net.ErrClosed) {
		f.c.set.t.Logf("forward to %s: %v", f.to, err)
	}
	from.Close()
	to.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, from)
	delete(f.open, to)
}

func (f *forward) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for c := range f.open {
		c.Close()
	}
}
