package dataplane

import (
	"context"
	"net/http"
	"time"

	rpc "connectrpc.com/connect"
	"github.com/vishvananda/netlink"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/contrail/control/v1/controlv1connect"
	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	"github.com/contrail-mesos/contrail/api/contrail/manager/v1/managerv1connect"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
	"github.com/contrail-mesos/contrail/internal/nstest"
)

// Where the agent finds what controlNode plays.
const (
	controlAddress = "172.31.0.1:5269"
	managerAddress = "172.31.0.1:6991"
)

// controlNode tells one agent what it is given to say, so that the moment at which
// the agent hears of a change is known. It is the manager, too, as far as an agent
// needs one to join.
type controlNode struct {
	controlv1connect.UnimplementedControlHandler
	managerv1connect.UnimplementedManagerHandler

	ports []*controlv1.Port
	// say takes what is true from now on.
	say chan []*controlv1.ControlMessage
}

func newControlNode() *controlNode {
	return &controlNode{say: make(chan []*controlv1.ControlMessage)}
}

func (c *controlNode) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewControlHandler(c))
	mux.Handle(managerv1connect.NewManagerHandler(c))
	return mux
}

// Report lets the agent join.
func (c *controlNode) Report(context.Context, *rpc.Request[managerv1.ReportRequest]) (*rpc.Response[managerv1.ReportResponse], error) {
	return rpc.NewResponse(&managerv1.ReportResponse{Mtu: fabricMTU - mplsHeader, Position: &typesv1.Position{Epoch: 1, Revision: 1}}), nil
}

// Session says each batch at a position of its own, and a keep-alive while there is
// none.
func (c *controlNode) Session(ctx context.Context, stream *rpc.BidiStream[controlv1.AgentMessage, controlv1.ControlMessage]) error {
	if _, err := stream.Receive(); err != nil {
		return err
	}
	go func() {
		for {
			if _, err := stream.Receive(); err != nil {
				return // the ports' states are of no interest
			}
		}
	}()
	keepAlive := time.NewTicker(time.Second)
	defer keepAlive.Stop()
	var told bool
	for revision := uint64(1); ; revision++ {
		var batch []*controlv1.ControlMessage
		select {
		case <-ctx.Done():
			return nil
		case batch = <-c.say:
		case <-keepAlive.C:
		}
		if batch != nil && !told {
			told = true
			batch = append(batch, endOf(&controlv1.EndOfTable{Table: &controlv1.EndOfTable_Ports{Ports: true}}),
				endOf(&controlv1.EndOfTable{Table: &controlv1.EndOfTable_Vrf{Vrf: policyVRF}}))
		}
		batch = append(batch, &controlv1.ControlMessage{Complete: told, Body: &controlv1.ControlMessage_KeepAlive{KeepAlive: &controlv1.KeepAlive{}}})
		for _, m := range batch {
			m.Position = &typesv1.Position{Epoch: 1, Revision: revision}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

func endOf(t *controlv1.EndOfTable) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_EndOfTable{EndOfTable: t}}
}

// vethPair makes a port of a node, with its other end in a namespace of all tasks.
// It is to be called in the node's.
func vethPair(node *nstest.NS, tap string, tasks *nstest.NS) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = tap
	return node.Links.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: tap, PeerNamespace: netlink.NsFd(tasks.Fd())})
}
