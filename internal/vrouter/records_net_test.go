//go:build net

package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"connectrpc.com/connect"

	collectorv1 "github.com/contrail-mesos/contrail/api/contrail/collector/v1"
	"github.com/contrail-mesos/contrail/api/contrail/collector/v1/collectorv1connect"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

const collectorAddress = "172.31.0.1:8086"

// collectorClient reads records, acknowledges them, and keeps the last of each flow
// with its session, by the node that sent it.
type collectorClient struct {
	mu    sync.Mutex
	flows map[string]map[string]*collectorv1.Flow
	about map[string]*collectorv1.Session
}

func (c *collectorClient) Sessions(ctx context.Context, stream *connect.BidiStream[collectorv1.SessionBatch, collectorv1.SessionAcknowledgement]) error {
	node := ctx.Value(nodeKey{}).(string)
	for {
		batch, err := stream.Receive()
		if err != nil {
			return err
		}
		c.mu.Lock()
		for _, s := range batch.GetSessions() {
			for _, f := range []*collectorv1.Flow{s.GetForward(), s.GetReverse()} {
				if f == nil {
					continue
				}
				if c.flows[node] == nil {
					c.flows[node] = map[string]*collectorv1.Flow{}
				}
				c.flows[node][string(f.GetFlowId())], c.about[string(f.GetFlowId())] = f, s
			}
		}
		c.mu.Unlock()
		if err := stream.Send(&collectorv1.SessionAcknowledgement{Number: batch.GetNumber()}); err != nil {
			return err
		}
	}
}

// echoes are the packets of ICMP from the client and back that a node told of, and a
// session of them.
func (c *collectorClient) echoes(node string) (packets uint64, s *collectorv1.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, f := range c.flows[node] {
		if about := c.about[id]; about.GetProtocol() == 1 {
			packets, s = packets+f.GetPackets(), about
		}
	}
	return packets, s
}

// serve answers agents until stop.
func (c *collectorClient) serve(cl *cluster) (stop func()) {
	cl.t.Helper()
	dir := filepath.Join(cl.dir, ctls.RoleAnalytics)
	if err := cl.authority.Issue(dir, ctls.RoleAnalytics, ""); err != nil {
		cl.t.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(dir)
	if err != nil {
		cl.t.Fatal(err)
	}
	var l net.Listener
	cl.fabric.Must(func() (err error) {
		l, err = net.Listen("tcp", collectorAddress)
		return err
	})
	_, handler := collectorv1connect.NewCollectorHandler(c)
	server := &httptest.Server{
		Listener: l, EnableHTTP2: true, TLS: credentials.Server(),
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, err := ctls.PeerIdentity(r.TLS)
			if err != nil || id.Role != ctls.RoleNode {
				http.Error(w, "not a node", http.StatusForbidden)
				return
			}
			handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nodeKey{}, id.Node)))
		})},
	}
	server.StartTLS()
	stop = sync.OnceFunc(func() {
		server.CloseClientConnections()
		server.Close()
	})
	cl.t.Cleanup(stop)
	return stop
}

// TestNetSessionsReachTheCollector: both nodes tell of the same packets, once,
// whatever of agent and collector is killed meanwhile.
func TestNetSessionsReachTheCollector(t *testing.T) {
	collector := &collectorClient{flows: map[string]map[string]*collectorv1.Flow{}, about: map[string]*collectorv1.Session{}}
	c := newCluster(t, 2)
	stop := collector.serve(c)
	for _, n := range c.nodes {
		n.kill()
		n.collector = collectorAddress
		n.start()
		n.ready()
	}
	one, two := c.nodes[0], c.nodes[1]
	a, b := one.add("blue"), two.add("blue")
	eventually(t, "blue reaches blue", func() error { return a.ping(b) })
	// Those that got no answer yet are in the counts of the sender alone.
	base, _ := one.counted()
	wantEchoes := func(what string, more int) {
		t.Helper()
		eventually(t, what, func() error {
			for _, n := range c.nodes {
				want, err := n.counted()
				if err != nil {
					return err
				}
				if got, s := collector.echoes(n.uuid); got != want || want < base+uint64(more) && n == one {
					return fmt.Errorf("%s told of %d packets, counted are %d; %v", n.ns.Name(), got, want, s)
				}
			}
			return nil
		})
	}
	wantEchoes("both tell what they counted", 0)
	_, s := collector.echoes(one.uuid)
	if s.GetClient().GetAddress() != a.address || s.GetServer().GetAddress() != b.address || s.GetIcmpType() != 8 ||
		s.GetRemoteNode() != two.address || !s.GetClient().GetLocal() || s.GetClient().GetInterfaceId() == "" || s.GetServer().GetLocal() {
		t.Errorf("the client's node tells %v", s)
	}
	if _, s := collector.echoes(two.uuid); s.GetClient().GetAddress() != a.address || !s.GetServer().GetLocal() || s.GetRemoteNode() != one.address {
		t.Errorf("the server's node tells %v", s)
	}
	stop()
	one.kill()
	if err := errors.Join(a.ping(b), a.ping(b)); err != nil {
		t.Fatal(err)
	}
	one.start()
	one.ready()
	collector.serve(c)
	wantEchoes("what happened without collector and agent is told", 4)
}

// counted is how many packets of ICMP the flow table of the node has.
func (n *node) counted() (packets uint64, err error) {
	var table vrouterapi.Flows
	if err := n.get(vrouterapi.PathFlows, &table); err != nil {
		return 0, err
	}
	for _, f := range table.Flows {
		if f.Protocol != "icmp" {
			continue
		}
		if f.Forward != nil {
			packets += f.Forward.Packets
		}
		if f.Reverse != nil {
			packets += f.Reverse.Packets
		}
	}
	return packets, nil
}
