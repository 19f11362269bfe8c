//go:build net

package vrouter

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/contrail-mesos/contrail/internal/nstest"
	"github.com/contrail-mesos/contrail/internal/vrouter/prober"
)

// TestNetProberIsCollected: what the prober of a killed agent left goes with the
// start of the next one, although that has nothing to ask.
func TestNetProberIsCollected(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	n.kill()
	// Like a connection that is still ending, this keeps the namespace.
	kept := nstest.New(t, "kept")
	nstest.Veth(t, n.ns, prober.Device, kept, "probe")
	n.start()
	n.ready()
	eventually(t, "the device has gone", func() error {
		_, err := n.ns.Links.LinkByName(prober.Device)
		var gone netlink.LinkNotFoundError
		if errors.As(err, &gone) {
			return nil
		}
		return errors.Join(errors.New("it is there"), err)
	})
}
