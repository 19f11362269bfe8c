package dataplane

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/nstest"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/process"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/internal/scope"
)

const (
	settleTime  = time.Minute
	policyVRF   = 7
	policyRules = 20
	// policyChanges are made in a round.
	policyChanges = 5
)

// policyNode is a node with its agent and many ports that have one policy. The case
// is the time from a change's arrival at the agent until the last of the ports
// judges by it.
type policyNode struct {
	ports   int
	control *controlNode
	tables  *dataplane.Tables
	// changes are the policies that there have been.
	changes int
	log     string // of the agent
}

func newPolicyNode(ctx context.Context, s *scope.Scope, ports int) *policyNode {
	p := &policyNode{ports: ports, control: newControlNode()}
	fabric, node, tasks := host(s, "policy-fabric"), host(s, "policy-node"), host(s, "policy-tasks")
	nstest.Veth(s, fabric, "eth0", node, "eth0")
	fabric.Up("eth0", netip.MustParsePrefix("172.31.0.1/24"))
	node.Up("eth0", prefix(nodeAddr(0)))
	node.Up("lo")
	dir, err := os.MkdirTemp("", "contrail-bench-")
	s.Must(err)
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary, err := process.Build(ctx, dir)
	s.Must(err)
	authority, err := ctls.OpenAuthority(filepath.Join(dir, "ca"))
	s.Must(err)
	s.Must(authority.Issue(filepath.Join(dir, "node"), ctls.RoleNode, uuid.NewString()))
	for role, address := range map[string]string{ctls.RoleController: controlAddress, ctls.RoleManager: managerAddress} {
		s.Must(authority.Issue(filepath.Join(dir, role), role, ""))
		credentials, err := ctls.LoadCredentials(filepath.Join(dir, role))
		s.Must(err)
		l, err := fabric.Listen(ctx, &net.ListenConfig{}, "tcp", address)
		s.Must(err)
		server := &http.Server{Handler: p.control.handler(), TLSConfig: credentials.Server(), ReadHeaderTimeout: settleTime}
		go func() { _ = server.ServeTLS(l, "", "") }()
		s.Cleanup(func() { _ = server.Close() })
	}

	pins := filepath.Join(nstest.BPFFS(s), node.Name())
	p.log = filepath.Join(dir, "agent.log")
	agent, err := process.Start("nsenter", p.log, nil, "--net="+node.Path(), binary, "vrouter-agent", "--name", "policy-node",
		"--run-dir", filepath.Join(dir, "run"), "--state-dir", filepath.Join(dir, "state"), "--pin-dir", pins, "--underlay", "eth0",
		"--manager", managerAddress, "--control", controlAddress, "--tls-dir", filepath.Join(dir, "node"), "--flow-entries", "65536")
	s.Must(err)
	s.Cleanup(func() {
		if err := agent.Stop(); err != nil {
			log, _ := os.ReadFile(p.log)
			s.Errorf("stop the agent: %v; it said:\n%s", err, log)
		}
	})
	p.makePorts(node, tasks)
	s.Must(p.plug(ctx, node, filepath.Join(dir, "run", "agent.token")))
	s.Must(p.await(ctx, func() error { p.tables, err = dataplane.OpenTables(pins); return err }))
	s.Cleanup(func() { _ = p.tables.Close() })
	return p
}

func (p *policyNode) makePorts(node, tasks *nstest.NS) {
	for i := range p.ports {
		tap := fmt.Sprintf("tap%d", i)
		node.Must(func() error { return vethPair(node, tap, tasks) })
		p.control.ports = append(p.control.ports, &controlv1.Port{
			InterfaceId: uuid.NewString(), VirtualMachineId: uuid.NewString(), NetworkId: uuid.NewString(), Vrf: policyVRF,
			Label: uint32(16 + i), Mac: nstest.RandomMAC().String(), Addresses: []string{fmt.Sprintf("10.7.%d.%d", i/250, i%250+1)}, Revision: 1,
		})
	}
}

// plug has the agent know the devices, as a classic client does.
func (p *policyNode) plug(ctx context.Context, node *nstest.NS, tokenFile string) error {
	var list []map[string]any
	for i, port := range p.control.ports {
		list = append(list, map[string]any{
			"id": port.GetInterfaceId(), "instance-id": port.GetVirtualMachineId(), "vn-id": port.GetNetworkId(), "mac-address": port.GetMac(),
			"ip-address": port.GetAddresses()[0], "system-name": fmt.Sprintf("tap%d", i), "type": 1, "display-name": "bench",
		})
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return node.Dial(ctx, &net.Dialer{}, network, addr)
		},
	}}
	defer client.CloseIdleConnections()
	return p.await(ctx, func() error {
		token, err := os.ReadFile(tokenFile)
		if err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:9091/port", strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
			return fmt.Errorf("plug ports: %s: %s", response.Status, text)
		}
		return nil
	})
}

func (p *policyNode) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Millisecond):
		}
	}
}

// settle waits until the ports are plugged and have their first policy.
func (p *policyNode) settle(ctx context.Context) error {
	_, err := p.change(ctx)
	return err
}

// round changes a rule of the policy several times.
func (p *policyNode) round(ctx context.Context, samples report.Samples) error {
	var took []float64
	for range policyChanges {
		d, err := p.change(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", policyCase(p.ports), err)
		}
		took = append(took, float64(d.Microseconds())/1000)
	}
	samples.Add(policyCase(p.ports), ours, report.Median(took))
	return nil
}

// change changes a rule of the policy and waits until all ports have it.
func (p *policyNode) change(ctx context.Context) (time.Duration, error) {
	p.changes++
	id, change := p.control.policy(uint16(p.changes))
	began := time.Now()
	select {
	case p.control.say <- change:
	case <-time.After(settleTime):
		log, _ := os.ReadFile(p.log)
		return 0, fmt.Errorf("the agent has no session; it says:\n%s", log)
	}
	err := p.await(ctx, func() error {
		policies, err := p.tables.Policies()
		if err != nil {
			return err
		}
		n := 0
		for _, of := range policies {
			if of.Sets[dataplane.NetworkPolicy] == id {
				n++
			}
		}
		if n < p.ports {
			return fmt.Errorf("%d of %d ports judge by the new policy", n, p.ports)
		}
		return nil
	})
	return time.Since(began), err
}

func policyCase(ports int) string { return fmt.Sprintf("policy%d", ports) }

// policy is a policy with a rule that differs from all others', for all ports.
func (c *controlNode) policy(port uint16) (dataplane.SetID, []*controlv1.ControlMessage) {
	var rules []*controlv1.PolicyRule
	for i := range uint32(policyRules) {
		tcp := uint32(6)
		rules = append(rules, &controlv1.PolicyRule{
			Uuid: uuid.NewString(), Src: &controlv1.PolicySelector{Any: true}, Dst: &controlv1.PolicySelector{Networks: []uint32{policyVRF}},
			Protocol: &tcp, SrcPorts: []*controlv1.PortRange{{Last: 65535}}, DstPorts: []*controlv1.PortRange{{First: uint32(port), Last: uint32(port) + i}},
		})
	}
	block, set := sha256.Sum256(fmt.Append(nil, "block", port)), sha256.Sum256(fmt.Append(nil, "set", port))
	id := dataplane.SetID(set[:len(dataplane.SetID{})])
	change := []*controlv1.ControlMessage{
		{Body: &controlv1.ControlMessage_PolicyBlock{PolicyBlock: &controlv1.PolicyBlock{Id: block[:len(id)], Rules: rules}}},
		{Body: &controlv1.ControlMessage_PolicySet{PolicySet: &controlv1.PolicySet{Id: id[:], Blocks: [][]byte{block[:len(id)]}}}},
	}
	for i, said := range c.ports {
		p := proto.Clone(said).(*controlv1.Port) // what was said is being sent, perhaps
		p.Policy = &controlv1.PortPolicy{Network: policyVRF, NetworkSet: id[:]}
		c.ports[i] = p
		change = append(change, &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: p}})
	}
	return id, change
}
