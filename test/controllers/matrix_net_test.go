//go:build net

package controllers_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/contrail-mesos/contrail/test/controllers"
)

var matrixSeed = flag.Uint64("matrix-seed", 0, "draw the same matrix of connectivity again; 0 is another each time")

// matrix is an intent that a cluster was told, and its tasks.
type matrix struct {
	t      *testing.T
	client *client
	nodes  []*controllers.Node
	want   *intent
	tasks  []*controllers.Container
	ports  []string // UUIDs of their interfaces
	ids    map[string]string
}

const matrixProject = "mesos-default"

// call makes a request that has to succeed.
func (m *matrix) call(method, path string, body any, into any) {
	m.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	status, text, err := m.client.do(method, path, string(data))
	if err != nil || status != http.StatusOK {
		m.t.Fatalf("%s %s %s: %d %s (%v)", method, path, data, status, text, err)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			m.t.Fatalf("%s: %v in %s", path, err, text)
		}
	}
}

// object makes an object of the project.
func (m *matrix) object(kind, name string, properties map[string]any) {
	m.t.Helper()
	properties["fq_name"], properties["parent_type"] = []string{"default-domain", matrixProject, name}, "project"
	var made map[string]struct{ UUID string }
	m.call(http.MethodPost, "/"+kind+"s", map[string]any{kind: properties}, &made)
	m.ids[kind+" "+name] = made[kind].UUID
}

func (m *matrix) find(kind string, name ...string) string {
	m.t.Helper()
	var found struct{ UUID string }
	m.call(http.MethodPost, "/fqname-to-id", map[string]any{"type": kind, "fq_name": name}, &found)
	return found.UUID
}

func (m *matrix) refer(operation, kind, from, toKind, to string, attr any) {
	m.t.Helper()
	m.call(http.MethodPost, "/ref-update", map[string]any{
		"operation": operation, "type": kind, "uuid": from, "ref-type": toKind, "ref-uuid": to, "attr": attr,
	}, nil)
}

func networkName(n int) string { return fmt.Sprintf("matrix-%d", n) }
func groupName(n int) string   { return fmt.Sprintf("matrix-group-%d", n) }

// rule is one of a network policy or a security group.
func rule(a about, src, dst map[string]any, both bool) map[string]any {
	all := map[string]any{"start_port": -1, "end_port": -1}
	to, direction := all, ">"
	if a.port >= 0 {
		to = map[string]any{"start_port": a.port, "end_port": a.port}
	}
	if both {
		direction = "<>"
	}
	return map[string]any{
		"direction": direction, "protocol": a.protocol, "src_addresses": []any{src}, "src_ports": []any{all},
		"dst_addresses": []any{dst}, "dst_ports": []any{to}, "ethertype": "IPv4",
	}
}

func action(deny bool) map[string]any {
	return map[string]any{"simple_action": map[bool]string{true: "deny", false: "pass"}[deny]}
}

// tell starts the tasks and has the cluster know the intent.
func (m *matrix) tell() {
	m.t.Helper()
	for _, w := range m.want.tasks {
		var c *controllers.Container
		var err error
		eventually(m.t, "a task starts", func() bool {
			c, err = m.nodes[w.node].Add(networkName(w.network))
			return err == nil
		})
		m.tasks = append(m.tasks, c)
		answer(m.t, c)
	}
	m.findPorts()
	for i := range m.want.groups {
		m.object("security-group", groupName(i), map[string]any{"security_group_entries": map[string]any{"policy_rule": []any{}}})
	}
	for i, g := range m.want.groups {
		m.call(http.MethodPut, "/security-group/"+m.ids["security-group "+groupName(i)], map[string]any{"security-group": groupEntries(g)}, nil)
	}
	for tier := 1; tier <= 2; tier++ {
		m.object("tag", fmt.Sprintf("tier=%d", tier), map[string]any{"tag_type_name": "tier", "tag_value": fmt.Sprint(tier)})
	}
	for i, w := range m.want.tasks {
		for _, g := range w.groups {
			m.refer("ADD", "virtual-machine-interface", m.ports[i], "security-group", m.ids["security-group "+groupName(g)], nil)
		}
		if w.tier > 0 {
			m.refer("ADD", "virtual-machine-interface", m.ports[i], "tag", m.ids[fmt.Sprintf("tag tier=%d", w.tier)], nil)
		}
	}
	m.tellPolicies()
	m.tellFirewall()
}

func groupEntries(g group) map[string]any {
	end := func(members int) map[string]any {
		if members < 0 {
			return map[string]any{"subnet": map[string]any{"ip_prefix": "0.0.0.0", "ip_prefix_len": 0}}
		}
		return map[string]any{"security_group": "default-domain:" + matrixProject + ":" + groupName(members)}
	}
	local := map[string]any{"security_group": "local"}
	rules := []any{}
	for _, r := range g.in {
		rules = append(rules, rule(r.about, end(r.members), local, false))
	}
	for _, r := range g.out {
		rules = append(rules, rule(r.about, local, end(r.members), false))
	}
	return map[string]any{"security_group_entries": map[string]any{"policy_rule": rules}}
}

func (m *matrix) tellPolicies() {
	m.t.Helper()
	for i, p := range m.want.policies {
		network := func(n int) map[string]any {
			return map[string]any{"virtual_network": "default-domain:" + matrixProject + ":" + networkName(n)}
		}
		rules := []any{}
		for _, r := range p.rules {
			one := rule(r.about, network(p.from), network(p.to), r.both)
			one["action_list"] = action(r.deny)
			rules = append(rules, one)
		}
		name := fmt.Sprintf("matrix-policy-%d", i)
		m.object("network-policy", name, map[string]any{"network_policy_entries": map[string]any{"policy_rule": rules}})
		for _, n := range []int{p.from, p.to} {
			m.refer("ADD", "virtual-network", m.find("virtual-network", "default-domain", matrixProject, networkName(n)), "network-policy",
				m.ids["network-policy "+name], map[string]any{"sequence": map[string]any{"major": i, "minor": 0}})
		}
	}
}

func (m *matrix) tellFirewall() {
	m.t.Helper()
	end := func(tier int) map[string]any {
		if tier == 0 {
			return map[string]any{"any": true}
		}
		return map[string]any{"tags": []string{fmt.Sprintf("tier=%d", tier)}}
	}
	m.object("firewall-policy", "matrix", map[string]any{})
	for i, r := range m.want.firewall {
		name := fmt.Sprintf("matrix-rule-%d", i)
		m.object("firewall-rule", name, map[string]any{
			"endpoint_1": end(r.from), "endpoint_2": end(r.to), "direction": map[bool]string{true: "<>", false: ">"}[r.both],
			"service":     map[string]any{"protocol": r.protocol, "dst_ports": map[string]any{"start_port": 0, "end_port": 65535}},
			"action_list": action(r.deny),
		})
		m.refer("ADD", "firewall-policy", m.ids["firewall-policy matrix"], "firewall-rule", m.ids["firewall-rule "+name], map[string]any{"sequence": fmt.Sprint(i + 1)})
	}
	m.object("application-policy-set", "matrix", map[string]any{})
	set := m.ids["application-policy-set matrix"]
	m.refer("ADD", "application-policy-set", set, "firewall-policy", m.ids["firewall-policy matrix"], map[string]any{"sequence": "1"})
	m.refer("ADD", "project", m.find("project", "default-domain", matrixProject), "application-policy-set", set, nil)
}

// findPorts finds the interfaces by their addresses, which differ here.
func (m *matrix) findPorts() {
	m.t.Helper()
	var list struct {
		IPs []struct {
			IP struct {
				Address    netip.Addr              `json:"instance_ip_address"`
				Interfaces []struct{ UUID string } `json:"virtual_machine_interface_refs"`
			} `json:"instance-ip"`
		} `json:"instance-ips"`
	}
	m.call(http.MethodGet, "/instance-ips?detail=true", nil, &list)
	for _, task := range m.tasks {
		for _, i := range list.IPs {
			if i.IP.Address == task.Address && len(i.IP.Interfaces) == 1 {
				m.ports = append(m.ports, i.IP.Interfaces[0].UUID)
			}
		}
	}
	if len(m.ports) != len(m.tasks) {
		m.t.Fatalf("%d interfaces of %d tasks", len(m.ports), len(m.tasks))
	}
}

// answer has a task answer on all ports.
func answer(t *testing.T, c *controllers.Container) {
	t.Helper()
	for _, port := range []int{7001, 7002} {
		c.Must(func() error {
			listener, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
			if err != nil {
				return err
			}
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = errors.Join(listener.Close(), conn.Close()) })
			go func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					_ = c.Close()
				}
			}()
			go func() {
				b := make([]byte, 64)
				for {
					n, from, err := conn.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					_, _ = conn.WriteToUDPAddrPort(b[:n], from)
				}
			}()
			return nil
		})
	}
}

const tryFor = 700 * time.Millisecond

// try says whether a task reaches an address, in one attempt.
func try(from *controllers.Container, to netip.Addr, w way, number int) (reached bool, err error) {
	deadline := time.Now().Add(tryFor)
	switch w.protocol {
	case "icmp":
		var conn *icmp.PacketConn
		if err := from.Do(func() (err error) { conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0"); return err }); err != nil {
			return false, err
		}
		defer conn.Close()
		data, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: number & 0xffff, Data: []byte("matrix")}}).Marshal(nil)
		if err != nil {
			return false, err
		}
		if _, err := conn.WriteTo(data, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return false, nil
		}
		_ = conn.SetReadDeadline(deadline)
		for b := make([]byte, 200); ; {
			n, peer, err := conn.ReadFrom(b)
			if err != nil {
				return false, nil
			}
			got, err := icmp.ParseMessage(1, b[:n])
			if err != nil || got.Type != ipv4.ICMPTypeEchoReply || peer.String() != to.String() {
				continue
			}
			if echo, ok := got.Body.(*icmp.Echo); ok && echo.ID == number&0xffff {
				return true, nil
			}
		}
	case "tcp":
		var conn net.Conn
		_ = from.Do(func() (err error) {
			conn, err = (&net.Dialer{Deadline: deadline}).Dial("tcp4", netip.AddrPortFrom(to, uint16(w.port)).String())
			return err
		})
		if conn == nil {
			return false, nil
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(tryFor))
		_, err := conn.Read(make([]byte, 1)) // the other end closes it
		return errors.Is(err, io.EOF), nil
	}
	var conn *net.UDPConn
	if err := from.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: to.AsSlice(), Port: w.port})
		return err
	}); err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("matrix")); err != nil {
		return false, nil
	}
	_ = conn.SetReadDeadline(deadline)
	n, err := conn.Read(make([]byte, 64))
	return err == nil && n == 6, nil
}

type cell struct {
	from, to int
	way
}

// check tries all pairs until each has come to what is wanted: what is to be open
// has been reached, and of the rest nothing is reached in a whole round.
func (m *matrix) check(when string) {
	m.t.Helper()
	open, closed := m.want.cells()
	m.t.Logf("%s: of %d ways between %d tasks %d are open", when, len(open)+len(closed), len(m.tasks), len(open))
	deadline := time.Now().Add(90 * time.Second)
	for {
		reached := m.tryAll(append(slices.Clone(open), closed...))
		wrong := slices.DeleteFunc(slices.Clone(closed), func(c cell) bool { return !reached[c] })
		open = slices.DeleteFunc(open, func(c cell) bool { return reached[c] })
		if len(open)+len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, c := range open[:min(len(open), 20)] {
				m.t.Errorf("%s: %s:%d from %s to %s is closed", when, c.protocol, c.port, m.want.tasks[c.from], m.want.tasks[c.to])
			}
			for _, c := range wrong[:min(len(wrong), 20)] {
				m.t.Errorf("%s: %s:%d from %s to %s is open", when, c.protocol, c.port, m.want.tasks[c.from], m.want.tasks[c.to])
			}
			m.t.Fatalf("intent: policies %+v, groups %+v, firewall %+v", m.want.policies, m.want.groups, m.want.firewall)
		}
	}
}

func (m *matrix) tryAll(cells []cell) map[cell]bool {
	m.t.Helper()
	var mu sync.Mutex
	reached, failures := map[cell]bool{}, []error{}
	queue := make(chan int)
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for i := range queue {
				c := cells[i]
				ok, err := try(m.tasks[c.from], m.tasks[c.to].Address, c.way, i)
				mu.Lock()
				reached[c] = ok
				if err != nil {
					failures = append(failures, err)
				}
				mu.Unlock()
			}
		})
	}
	for i := range cells {
		queue <- i
	}
	close(queue)
	workers.Wait()
	if err := errors.Join(failures...); err != nil {
		m.t.Fatal(err)
	}
	return reached
}

// TestNetConnectivityMatrix: tasks of several networks on several nodes, drawn, with
// drawn network policies, security groups, tags and firewall rules. Who reaches whom
// is what these say, for all pairs, by ICMP, TCP and UDP; also after changes. FULL=1
// has more of all.
func TestNetConnectivityMatrix(t *testing.T) {
	tasks, networks, rounds := 12, 4, 1
	if os.Getenv("FULL") == "1" {
		tasks, networks, rounds = 40, 8, 5
	}
	seed := *matrixSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the same again: -matrix-seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	set := controllers.New(t, root, "a")
	a := set.Members[0]
	a.Alone = true
	set.ListenForAgents()
	set.StartAll()
	a.StartManager()
	m := &matrix{t: t, client: newClient(t, a), ids: map[string]string{}}
	for i := range 3 {
		m.nodes = append(m.nodes, set.AddNode(i+1, a))
	}
	m.want = drawn(r, tasks, networks, len(m.nodes))
	m.tell()
	m.check("as told")
	for range rounds {
		m.change(r)
		m.check("after a change")
	}
}

// change has some tasks be in other groups.
func (m *matrix) change(r *rand.Rand) {
	m.t.Helper()
	before := make([][]int, len(m.want.tasks))
	for i, w := range m.want.tasks {
		before[i] = w.groups
	}
	m.want.regroup(r)
	for i, w := range m.want.tasks {
		if i%2 == 0 {
			continue
		}
		for _, g := range before[i] {
			m.refer("DELETE", "virtual-machine-interface", m.ports[i], "security-group", m.ids["security-group "+groupName(g)], nil)
		}
		for _, g := range w.groups {
			m.refer("ADD", "virtual-machine-interface", m.ports[i], "security-group", m.ids["security-group "+groupName(g)], nil)
		}
	}
}
