//go:build net

package prober

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/health"
)

// TestNetWithoutDevice: what cannot leave the node, as the device of probes has gone,
// is no answer of a port.
func TestNetWithoutDevice(t *testing.T) {
	ns := nstest.New(t, "node")
	var n *Net
	ns.Must(func() (err error) {
		n, err = Open()
		return err
	})
	defer n.Close()
	lost := func() (lost bool) {
		ns.Must(func() error { lost = n.Lost(); return nil })
		return lost
	}
	if lost() {
		t.Error("the device is there, and said to have gone")
	}
	link, err := ns.Links.LinkByName(Device)
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Links.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if !lost() {
		t.Error("the device has gone, and that is not known")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	alias := netip.MustParseAddr("169.254.0.2")
	if err := n.Ping(ctx, alias); !errors.Is(err, health.ErrNotSent) {
		t.Errorf("ping: %v", err)
	}
	if _, err := n.Dial(ctx, netip.AddrPortFrom(alias, 80)); !errors.Is(err, health.ErrNotSent) {
		t.Errorf("dial: %v", err)
	}
}
