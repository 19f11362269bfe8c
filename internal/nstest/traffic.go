package nstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Traffic is what passes between two namespaces, to see whether it all does.
type Traffic struct {
	// From and To are the namespaces, Address is how To is reached; it may be
	// translated on the way.
	From, To *NS
	Address  netip.Addr
	Port     uint16
	// Flows are connections by UDP, Rate is how many packets are sent per second
	// in all of them together. Of these one in answerEvery is answered.
	Flows, Rate int
}

// Tally is what became of traffic.
type Tally struct {
	// Sent packets, and Answers that were asked for, with those that did not come. An
	// answer is lost when its question came: each packet is lost once.
	Sent, Lost, Answers, AnswersLost int
	// Rate is how many packets per second were sent: fewer than was asked for where
	// the machine has no time.
	Rate int
	// Refused are packets that the queues of the machine had no room for
	// meanwhile, whoever sent them.
	Refused int
}

const (
	// trafficBurst is how many packets of a flow are sent at once.
	trafficBurst = 8
	// trafficDebt is how many packets are made up for when the sender was late.
	trafficDebt = 600
	answerEvery = 16

	trafficPatience = 30 * time.Second
	trafficSize     = 64
	// trafficBuffer holds what comes while the reader has no CPU.
	trafficBuffer = 256 << 20
)

// A packet has the number of its flow, its own, and whether it is to be answered.
// Those to begin with and to end with are none of the count.
const greeting = 1 << 63

// RunningTraffic is traffic that has begun.
type RunningTraffic struct {
	Traffic
	server *net.UDPConn
	flows  []*flow
	stop   chan struct{}
	sides  sync.WaitGroup
	// failed are errors of the sides.
	failed  chan error
	began   time.Time
	took    time.Duration
	refused int
}

type flow struct {
	number uint32
	conn   *net.UDPConn
	batch  *ipv4.PacketConn
	sent   uint64
	asked  int

	// Of all packets that came, some are questions, whose answers may have come.
	arrived, questions, answered numbers
	greeted                      atomic.Uint64 // greetings that were answered
}

// numbers are those of packets that came.
type numbers struct {
	mu    sync.Mutex
	words []uint64
	count int
}

func (n *numbers) add(i uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for uint64(len(n.words)) <= i/64 {
		n.words = append(n.words, make([]uint64, 1024)...)
	}
	if n.words[i/64]>>(i%64)&1 == 0 {
		n.words[i/64] |= 1 << (i % 64)
		n.count++
	}
}

func (n *numbers) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

// StartTraffic begins traffic, and returns when each flow has had an answer.
func StartTraffic(t TB, what Traffic) *RunningTraffic {
	t.Helper()
	r := &RunningTraffic{Traffic: what, stop: make(chan struct{}), failed: make(chan error, what.Flows+2)}
	what.To.Must(func() (err error) {
		r.server, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(what.Port)})
		return errors.Join(err, bigBuffer(r.server))
	})
	what.From.Must(func() error {
		for i := range what.Flows {
			conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: what.Address.AsSlice(), Port: int(what.Port)})
			if err != nil {
				return err
			}
			r.flows = append(r.flows, &flow{number: uint32(i), conn: conn, batch: ipv4.NewPacketConn(conn)})
			if err := bigBuffer(conn); err != nil {
				return err
			}
		}
		return nil
	})
	t.Cleanup(r.close)
	go r.serve()
	for _, f := range r.flows {
		go f.listen()
	}
	if err := r.greet(); err != nil {
		t.Fatalf("traffic to %s: %v", what.Address, err)
	}
	r.refused = refusedByQueues()
	r.began = time.Now()
	r.sides.Go(r.send)
	return r
}

func bigBuffer(conn *net.UDPConn) error {
	if conn == nil {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, trafficBuffer)
	})
	return errors.Join(err, failed)
}

func (r *RunningTraffic) close() {
	r.server.Close()
	for _, f := range r.flows {
		f.conn.Close()
	}
}

// greet asks for an answer in each flow until it comes.
func (r *RunningTraffic) greet() error {
	before := make([]uint64, len(r.flows))
	for i, f := range r.flows {
		before[i] = f.greeted.Load()
	}
	packet := make([]byte, trafficSize)
	for deadline := time.Now().Add(trafficPatience); ; time.Sleep(5 * time.Millisecond) {
		missing := 0
		for i, f := range r.flows {
			if f.greeted.Load() > before[i] {
				continue
			}
			missing++
			f.fill(packet, greeting)
			if _, err := f.conn.Write(packet); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d flows have no answer", missing, len(r.flows))
		}
	}
}

func (f *flow) fill(packet []byte, number uint64) {
	binary.BigEndian.PutUint32(packet, f.number)
	binary.BigEndian.PutUint64(packet[4:], number)
	packet[12] = 0
	if number%answerEvery == 0 {
		packet[12] = 1
	}
}

// send sends at the rate, a millisecond's packets at a time.
func (r *RunningTraffic) send() {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	defer func() { r.took = time.Since(r.began) }()
	packets := make([]ipv4.Message, trafficBurst)
	for i := range packets {
		packets[i].Buffers = [][]byte{make([]byte, trafficSize)}
	}
	due, last, next := 0.0, r.began, 0
	for {
		select {
		case <-r.stop:
			return
		case <-pace.C:
		}
		now := time.Now()
		due = min(due+now.Sub(last).Seconds()*float64(r.Rate), trafficDebt)
		last = now
		for due >= 1 {
			n, err := r.flows[next].burst(packets[:min(int(due), len(packets))])
			if err != nil {
				r.failed <- err
				return
			}
			due -= float64(n)
			next = (next + 1) % len(r.flows)
		}
	}
}

func (f *flow) burst(packets []ipv4.Message) (int, error) {
	for i := range packets {
		f.fill(packets[i].Buffers[0], f.sent+uint64(i))
	}
	n, err := f.batch.WriteBatch(packets, 0)
	if err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	for i := range n {
		if packets[i].Buffers[0][12] == 1 {
			f.asked++
		}
	}
	f.sent += uint64(n)
	return n, nil
}

func newBatch() []ipv4.Message {
	all := make([]ipv4.Message, 64)
	for i := range all {
		all[i].Buffers = [][]byte{make([]byte, trafficSize)}
	}
	return all
}

// serve notes what comes, and answers what asks for it.
func (r *RunningTraffic) serve() {
	conn, in := ipv4.NewPacketConn(r.server), newBatch()
	out := make([]ipv4.Message, 0, len(in))
	for {
		n, err := conn.ReadBatch(in, 0)
		if err != nil {
			return // closed
		}
		out = out[:0]
		for _, m := range in[:n] {
			packet := m.Buffers[0]
			number, flow := binary.BigEndian.Uint64(packet[4:]), binary.BigEndian.Uint32(packet)
			if m.N != trafficSize || flow >= uint32(len(r.flows)) {
				continue // of others
			}
			if number != greeting {
				r.flows[flow].arrived.add(number)
				if packet[12] == 1 {
					r.flows[flow].questions.add(number)
				}
			}
			if packet[12] == 1 {
				out = append(out, ipv4.Message{Buffers: [][]byte{packet}, Addr: m.Addr})
			}
		}
		for len(out) > 0 {
			n, err := conn.WriteBatch(out, 0)
			if err != nil {
				break // what is not sent is missed
			}
			out = out[n:]
		}
	}
}

// listen notes the answers.
func (f *flow) listen() {
	in := newBatch()
	for {
		n, err := f.batch.ReadBatch(in, 0)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return // closed
		}
		for _, m := range in[:n] {
			number := binary.BigEndian.Uint64(m.Buffers[0][4:])
			if number == greeting {
				f.greeted.Add(1)
			} else {
				f.answered.add(number)
			}
		}
	}
}

// Stop ends the traffic and returns what became of it.
func (r *RunningTraffic) Stop(t TB) Tally {
	t.Helper()
	close(r.stop)
	r.sides.Wait()
	select {
	case err := <-r.failed:
		t.Fatalf("traffic to %s: %v", r.Address, err)
	default:
	}
	// What was sent before has come when this has, but for what passed another CPU.
	err := r.greet()
	var tally Tally
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		tally = r.count()
		if tally.Lost == 0 && tally.AnswersLost == 0 || time.Now().After(deadline) {
			break
		}
	}
	tally.Refused = refusedByQueues() - r.refused
	if err != nil {
		t.Errorf("traffic to %s at its end: %v", r.Address, err)
	}
	r.close()
	return tally
}

func (r *RunningTraffic) count() (tally Tally) {
	for _, f := range r.flows {
		tally.Sent += int(f.sent)
		tally.Lost += int(f.sent) - f.arrived.len()
		tally.Answers += f.asked
		tally.AnswersLost += max(f.questions.len()-f.answered.len(), 0)
	}
	tally.Rate = int(float64(tally.Sent) / r.took.Seconds())
	return tally
}

// refusedByQueues is how many packets found the queue of a CPU full, since the
// machine started.
func refusedByQueues() (total int) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			n, _ := strconv.ParseUint(fields[1], 16, 32)
			total += int(n)
		}
	}
	return total
}
