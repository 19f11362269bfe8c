//go:build net

package dataplane

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// agentVariable has a test binary be an agent that a test may kill: it opens the
// data plane that the variable describes, says so, and keeps it until its input
// ends.
const agentVariable = "CONTRAIL_TEST_AGENT"

type agentConfig struct {
	Config
	WithoutTCX bool
}

func TestMain(m *testing.M) {
	if text := os.Getenv(agentVariable); text != "" {
		if err := runAgent(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runAgent(text string) error {
	var c agentConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	c.withoutTCX = c.WithoutTCX
	dp, err := Open(discardLog(), c.Config)
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, dp.Close())
}

// startAgent starts a process that opens the node's data plane, and returns when
// it has, with what kills it.
func (n *testNode) startAgent(t *testing.T) (kill func()) {
	t.Helper()
	text, err := json.Marshal(agentConfig{n.config, n.config.withoutTCX})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), agentVariable+"="+string(text))
	var complaint strings.Builder
	cmd.Stderr = &complaint
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.Must(cmd.Start)
	killed := false
	kill = func() {
		if !killed {
			killed = true
			cmd.Process.Kill()
			cmd.Wait()
			in.Close()
		}
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		kill()
		t.Fatalf("agent of %s does not open the data plane: %v: %s", n.Name(), err, complaint.String())
	}
	return kill
}

// stream sends numbered datagrams to an echo server, 4000 a second, or with
// -short 250.
type stream struct {
	conn *net.UDPConn
	stop chan struct{}
	sent chan int
	read chan struct{}
	seen map[uint64]bool
}

const lastOfStream = 1<<64 - 1

func startStream(t *testing.T, from *container, to netip.Addr) *stream {
	t.Helper()
	if err := from.udp(to, 100); err != nil {
		t.Fatal(err)
	}
	conn, err := from.dialUDP(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadBuffer(4 << 20)
	s := &stream{conn, make(chan struct{}), make(chan int, 1), make(chan struct{}), map[uint64]bool{}}
	go s.send()
	go s.receive()
	return s
}

func (s *stream) send() {
	interval, burst := time.Millisecond, 4
	if testing.Short() {
		interval, burst = 4*time.Millisecond, 1
	}
	pace := time.NewTicker(interval)
	defer pace.Stop()
	packet := make([]byte, 64)
	for n := 0; ; {
		select {
		case <-s.stop:
			s.sent <- n
			return
		case <-pace.C:
			for range burst {
				binary.BigEndian.PutUint64(packet, uint64(n))
				if _, err := s.conn.Write(packet); err == nil {
					n++
				}
			}
		}
	}
}

// receive reads meanwhile: what comes in a long restart would not fit the socket.
func (s *stream) receive() {
	defer close(s.read)
	packet := make([]byte, 64)
	for {
		if _, err := s.conn.Read(packet); err != nil {
			return
		}
		n := binary.BigEndian.Uint64(packet)
		if n == lastOfStream {
			return
		}
		s.seen[n] = true
	}
}

// end returns how many datagrams were sent, and how many were lost.
func (s *stream) end(t *testing.T) (total, lost int) {
	t.Helper()
	close(s.stop)
	total = <-s.sent
	s.conn.SetReadDeadline(time.Now().Add(patience))
	packet := make([]byte, 64)
	binary.BigEndian.PutUint64(packet, lastOfStream)
	if _, err := s.conn.Write(packet); err != nil {
		t.Error(err)
	}
	<-s.read
	return total, total - len(s.seen)
}

// hooks are the two ways in which the underlay has its program.
func hooks(t *testing.T, test func(t *testing.T, withoutTCX bool)) {
	t.Run("tcx", func(t *testing.T) { test(t, false) })
	t.Run("clsact", func(t *testing.T) { test(t, true) })
}

// A restart of the agent, again and again, under traffic: not one packet may be
// lost, nor may one pass unseen.
func TestNetForwardingSurvivesRestarts(t *testing.T) {
	hooks(t, func(t *testing.T, withoutTCX bool) {
		c := newCluster(t, 2, func(c *Config) { c.withoutTCX = withoutTCX })
		a := c.container(0, 1, "10.32.0.3")
		b := c.container(1, 1, "10.32.0.4")
		c.connect()
		b.serve(t)
		s := startStream(t, a, b.addr)
		rounds := 20
		if testing.Short() {
			rounds = 2
		}
		for range rounds {
			for _, n := range c.nodes {
				if err := n.dp.Close(); err != nil {
					t.Error(err)
				}
				n.open(t)
			}
		}
		total, lost := s.end(t)
		t.Logf("%d packets over %d restarts", total, rounds*len(c.nodes))
		if lost != 0 {
			t.Errorf("%d of %d packets are lost", lost, total)
			c.dump()
		}
	})
}

// A killed agent leaves forwarding and policy as they are, and the next one takes
// them over.
func TestNetForwardingSurvivesKills(t *testing.T) {
	hooks(t, func(t *testing.T, withoutTCX bool) {
		c := newCluster(t, 2, func(c *Config) { c.withoutTCX = withoutTCX })
		a := c.container(0, 1, "10.32.0.3")
		b := c.container(1, 1, "10.32.0.4")
		red := c.container(1, 2, "10.48.0.3")
		c.connect()
		b.serve(t)
		red.serve(t)
		two := c.nodes[1]
		program := two.underlayProgram(t)
		if err := two.dp.Close(); err != nil {
			t.Fatal(err)
		}
		s := startStream(t, a, b.addr)
		for range 3 {
			kill := two.startAgent(t)
			if next := two.underlayProgram(t); next == program {
				t.Errorf("the new agent's program is not attached: it is still %d", program)
			} else {
				program = next
			}
			kill()
			// Nobody has the programs now but the kernel.
			if at := two.underlayProgram(t); at != program {
				t.Errorf("after the kill the underlay has program %d, want %d", at, program)
			}
			if err := errors.Join(a.ping(b.addr), a.refused(red.addr)); err != nil {
				t.Errorf("while no agent runs: %v", err)
			}
		}
		total, lost := s.end(t)
		if lost != 0 {
			t.Errorf("%d of %d packets are lost", lost, total)
		}
		two.open(t)
		if ports, err := two.dp.Ports(); err != nil || len(ports) != 2 {
			t.Errorf("the next agent finds ports %v, %v, want both", ports, err)
		}
		if err := errors.Join(a.tcp(b.addr, 1<<20), a.refused(red.addr)); err != nil {
			t.Error(err)
			c.dump()
		}
	})
}

// underlayProgram is the id of what is attached to the node's underlay, by
// whichever hook.
func (n *testNode) underlayProgram(t *testing.T) (id ebpf.ProgramID) {
	t.Helper()
	l, err := link.LoadPinnedLink(filepath.Join(n.config.PinDir, linkDirName, "underlay"), nil)
	if err == nil {
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		return info.Program
	}
	filters, err := n.Links.FilterList(n.Link("eth0"), netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range filters {
		if bpf, ok := f.(*netlink.BpfFilter); ok && bpf.Name == underlayFilter {
			return ebpf.ProgramID(bpf.Id)
		}
	}
	t.Fatalf("the underlay of %s has no program of ours: its filters are %v", n.Name(), filters)
	return 0
}

// Others may filter the underlay, too: theirs stay, and ours takes no place of
// theirs.
func TestNetFiltersOfOthers(t *testing.T) {
	b := newBench(t, func(c *Config) { c.withoutTCX = true })
	other := func(priority uint16) *netlink.BpfFilter {
		return &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: b.eth0, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: priority,
			},
			Fd: b.dp.objects.ProbeRx.FD(), Name: "theirs", DirectAction: true,
		}
	}
	b.must(b.ns.Links.FilterReplace(other(2)))
	names := func() []string {
		filters, err := b.ns.Links.FilterList(b.ns.Link("eth0"), netlink.HANDLE_MIN_INGRESS)
		b.must(err)
		var all []string
		for _, f := range filters {
			all = append(all, f.(*netlink.BpfFilter).Name)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{underlayFilter, "theirs"}) {
		t.Errorf("filters are %v, want ours before theirs", got)
	}
	b.ns.Must(b.dp.Remove)
	if got := names(); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("after Remove filters are %v, want theirs", got)
	}
	b.must(b.ns.Links.FilterReplace(other(filterPriority)))
	b.must(b.dp.Close())
	err := b.ns.Do(func() error { _, err := Open(discardLog(), b.config); return err })
	if err == nil || !strings.Contains(err.Error(), "another program's bpf filter has priority 1") {
		t.Errorf("opening where theirs has our place: error is %v", err)
	}
	if got := names(); !slices.Equal(got, []string{"theirs", "theirs"}) {
		t.Errorf("after the refusal filters are %v, want theirs", got)
	}
	b.must(b.ns.Links.FilterDel(other(filterPriority)))
	b.open()

	// A node that gets another underlay takes the program from the former one.
	b.ns.Dummy("eth1")
	b.must(b.dp.Close())
	b.config.Underlay = "eth1"
	b.open()
	if got := names(); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("filters of the former underlay are %v, want theirs", got)
	}
	b.ns.Must(b.dp.Remove)
	if qdiscs, err := b.ns.Links.QdiscList(b.ns.Link("eth1")); err != nil || slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool {
		return q.Type() == "clsact"
	}) {
		t.Errorf("after Remove qdiscs of the underlay are %v, %v, want no clsact", qdiscs, err)
	}
}
