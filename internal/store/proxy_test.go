package store

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// proxy is a unix socket in front of another that can be cut.
type proxy struct {
	t      *testing.T
	path   string
	target string
	mu     sync.Mutex
	down   bool
	conns  map[net.Conn]bool
	wg     sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, path: filepath.Join(dir, "p.sock"), target: target, conns: map[net.Conn]bool{}}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.wg.Wait()
		os.RemoveAll(dir)
	})
	return p
}

func (p *proxy) serve(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	up, err := net.Dial("unix", p.target)
	if err != nil || p.down {
		c.Close()
		if up != nil {
			up.Close()
		}
		return
	}
	p.conns[c], p.conns[up] = true, true
	for _, pair := range [][2]net.Conn{{c, up}, {up, c}} {
		p.wg.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := pair[0].Read(buf)
				if err == nil {
					_, err = pair[1].Write(buf[:n])
				}
				if err != nil {
					pair[0].Close()
					pair[1].Close()
					return
				}
			}
		})
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}
