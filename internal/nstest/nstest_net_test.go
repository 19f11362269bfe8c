//go:build net

package nstest

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestNetHostsReachEachOther(t *testing.T) {
	fabric, a, b := New(t, "fabric"), New(t, "a"), New(t, "b")
	fabric.Bridge("br0")
	Veth(t, a, "eth0", fabric, "a")
	Veth(t, b, "eth0", fabric, "b")
	fabric.Enslave("a", "br0")
	fabric.Enslave("b", "br0")
	a.Up("eth0", netip.MustParsePrefix("10.0.0.1/24"))
	b.Up("eth0", netip.MustParsePrefix("10.0.0.2/24"))

	var listener net.Listener
	b.Must(func() (err error) {
		listener, err = net.Listen("tcp", "10.0.0.2:0")
		return err
	})
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			io.WriteString(conn, "hello")
			conn.Close()
		}
	}()
	a.Must(func() error {
		// A dialer without Happy Eyeballs dials on the calling thread.
		conn, err := net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr))
		if err != nil {
			return err
		}
		defer conn.Close()
		got, err := io.ReadAll(conn)
		if string(got) != "hello" {
			t.Errorf("read %q, want hello", got)
		}
		return err
	})
	if _, err := a.Run("ping", "-c1", "-W2", "10.0.0.2"); err != nil {
		t.Error(err)
	}
}

func TestNetDoComesBack(t *testing.T) {
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n := New(t, "n")
	var inside string
	n.Must(func() (err error) {
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	})
	if inside == home {
		t.Error("Do did not enter the namespace")
	}
	for range 100 {
		got, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		if got != home {
			t.Fatalf("the test runs in %s after Do, want %s", got, home)
		}
	}
	out, err := New(t, "m").Run("ls", n.Path())
	if err != nil || !strings.Contains(out, n.Path()) {
		t.Errorf("path %s is not to be seen by children: %q, %v", n.Path(), out, err)
	}
}
