package configapi

import (
	"errors"
	"net/netip"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Who has a thing is told by the objects, which conflicts name; the ledger
// knows only that it is in use.

// errBehind makes write decide again when the view shows what the ledger knows.
var errBehind = errors.New("the graph is behind the ledger")

// isBehind tells whether the ledger knows more than the view: it is told first.
func (c *change) isBehind() bool { return uint64(c.api.ledger.revision.Load()) > c.since }

// addressHolder is the object of a network that has an address, empty if the
// graph does not show it.
func (c *change) addressHolder(network string, a netip.Addr) string {
	for r := range c.v.BackReferenceSeq(network, model.KindInstanceIP) {
		ip, ok := model.Get[*model.InstanceIP](c.v, r.From.UUID)
		if !ok {
			continue
		}
		if have, err := netip.ParseAddr(ip.InstanceIPAddress); err == nil && have == a {
			return ip.UUID
		}
	}
	return ""
}

// labelHolder is the interface that has a label on a node.
func (c *change) labelHolder(node string, label uint32) string {
	for _, b := range c.v.BindingsOfNode(node) {
		if b.Label == label {
			return b.Interface
		}
	}
	return ""
}

// networkNumbered is the network that has a number.
func (c *change) networkNumbered(n uint32) string {
	for o := range c.v.All(model.KindVirtualNetwork) {
		if vn, ok := o.(*model.VirtualNetwork); ok && model.ValueOr(vn.VirtualNetworkNetworkID, 0) == int64(n) {
			return vn.UUID
		}
	}
	return ""
}
