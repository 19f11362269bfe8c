package master

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	masterv1 "github.com/contrail-mesos/contrail/api/mesos/v1/master"
)

// Config of a master. Durations that are zero get their defaults.
type Config struct {
	// WorkDir is where the registry is.
	WorkDir string
	// Address is the IP:PORT that clients reach the master at.
	Address string
	// Hostname is what the master calls itself; the IP if empty.
	Hostname string
	// Cluster is the name of the cluster.
	Cluster string
	// Version that is answered, of the program.
	Version string

	// PingTimeout is how long an agent may be silent: default 75 s.
	PingTimeout time.Duration
	// PingInterval is how often agents are pinged: default 15 s.
	PingInterval time.Duration
	// ReregisterTimeout is how long agents of the registry have to come back
	// after a start of the master: default 10 min.
	ReregisterTimeout time.Duration
	// Heartbeat is the interval of heartbeats on event streams: default 15 s.
	Heartbeat time.Duration
	// AllocationInterval is how often offers are made besides those that a
	// change brings: default 1 s.
	AllocationInterval time.Duration
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		value   *time.Duration
		initial time.Duration
	}{
		{&c.PingTimeout, 75 * time.Second},
		{&c.PingInterval, 15 * time.Second},
		{&c.ReregisterTimeout, 10 * time.Minute},
		{&c.Heartbeat, 15 * time.Second},
		{&c.AllocationInterval, time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.initial
		}
	}
}

// Limits on what is kept of the past, as in Mesos.
const (
	maxCompletedTasks      = 1000
	maxCompletedFrameworks = 50
	maxSubscribers         = 1000
)

// Master is one master. Its methods are safe for concurrent use.
type Master struct {
	cfg     Config
	log     *slog.Logger
	id      string
	info    *mesosv1.MasterInfo
	started time.Time

	mu          sync.Mutex
	registry    *registry
	agents      map[string]*agent     // registered, connected or not
	recovered   map[string]time.Time  // of the registry, not back yet: until when
	frameworks  map[string]*framework // subscribed once and not removed
	completed   []*framework          // removed, oldest first
	offers      map[string]*offer
	subscribers []*subscriber
	counters    counters
	nextAgent   int
	nextOffer   int
	nextFrame   int
}

// counters are totals since the start.
type counters struct {
	terminal           map[mesosv1.TaskState]int
	statusUpdates      int
	invalidUpdates     int
	agentRegistrations int
	agentRemovals      int
	agentUnreachable   int
}

// New returns a master with the registry of cfg.WorkDir.
func New(log *slog.Logger, cfg Config) (*Master, error) {
	cfg.setDefaults()
	address, err := netip.ParseAddrPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("master address %q: want IP:PORT: %w", cfg.Address, err)
	}
	if cfg.Hostname == "" {
		cfg.Hostname = address.Addr().String()
	}
	registry, err := openRegistry(cfg.WorkDir)
	if err != nil {
		return nil, err
	}
	m := &Master{
		cfg: cfg, log: log, id: uuid.NewString(), started: time.Now(), registry: registry,
		agents: map[string]*agent{}, recovered: map[string]time.Time{},
		frameworks: map[string]*framework{}, offers: map[string]*offer{},
		counters: counters{terminal: map[mesosv1.TaskState]int{}},
	}
	for id := range registry.Agents {
		m.recovered[id] = m.started.Add(cfg.ReregisterTimeout)
	}
	m.info = masterInfo(m.id, cfg, address)
	return m, nil
}

func masterInfo(id string, cfg Config, address netip.AddrPort) *mesosv1.MasterInfo {
	info := &mesosv1.MasterInfo{
		Id: &id, Ip: proto.Uint32(0), Port: proto.Uint32(uint32(address.Port())),
		Pid:      proto.String("master@" + address.String()),
		Hostname: &cfg.Hostname, Version: &cfg.Version,
		Address: &mesosv1.Address{
			Hostname: &cfg.Hostname, Ip: proto.String(address.Addr().String()), Port: proto.Int32(int32(address.Port())),
		},
		Capabilities: []*mesosv1.MasterInfo_Capability{
			{Type: mesosv1.MasterInfo_Capability_AGENT_UPDATE.Enum()},
			{Type: mesosv1.MasterInfo_Capability_AGENT_DRAINING.Enum()},
		},
	}
	if ip := address.Addr().Unmap(); ip.Is4() {
		// The bytes of the address, read as a little-endian number.
		info.Ip = proto.Uint32(binary.LittleEndian.Uint32(ip.AsSlice()))
	}
	return info
}

// Run makes offers and watches for timeouts until ctx ends.
func (m *Master) Run(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.AllocationInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.closeStreams()
			return nil
		case now := <-tick.C:
			m.mu.Lock()
			m.expire(now)
			m.allocate(now)
			m.mu.Unlock()
		}
	}
}

// closeStreams ends all event streams, so that their handlers return.
func (m *Master) closeStreams() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.frameworks {
		if f.stream != nil {
			f.stream.events.close()
		}
	}
	for _, a := range m.agents {
		if a.session != nil {
			a.session.messages.close()
		}
	}
	for _, s := range m.subscribers {
		s.events.close()
	}
}

// expire acts on everything whose time has come.
func (m *Master) expire(now time.Time) {
	for _, f := range m.frameworks {
		if f.stream == nil && !now.Before(f.disconnected.Add(f.failoverTimeout())) {
			m.log.Info("framework failover timeout", "framework", f.id())
			m.removeFramework(f, now)
		}
	}
	for _, a := range m.agents {
		if now.Sub(a.heard) > m.cfg.PingTimeout {
			m.markUnreachable(a, now)
		}
	}
	for id, until := range m.recovered {
		if now.After(until) {
			m.unreachableRecovered(id, now)
		}
	}
}

// subscriber is one event stream of the operator API.
type subscriber struct {
	events *queue[*masterv1.Event]
}

// publish sends an event to all subscribers of the operator API.
func (m *Master) publish(event *masterv1.Event) {
	for _, s := range m.subscribers {
		s.events.push(event)
	}
}

func (m *Master) subscribe() *subscriber {
	s := &subscriber{events: newQueue[*masterv1.Event]()}
	s.events.push(&masterv1.Event{
		Type: masterv1.Event_SUBSCRIBED.Enum(),
		Subscribed: &masterv1.Event_Subscribed{
			GetState: m.state(), HeartbeatIntervalSeconds: proto.Float64(m.cfg.Heartbeat.Seconds()),
		},
	}, &masterv1.Event{Type: masterv1.Event_HEARTBEAT.Enum()})
	if len(m.subscribers) >= maxSubscribers {
		m.subscribers[0].events.close()
		m.subscribers = m.subscribers[1:]
	}
	m.subscribers = append(m.subscribers, s)
	return s
}

func (m *Master) unsubscribe(s *subscriber) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, other := range m.subscribers {
		if other == s {
			m.subscribers = append(m.subscribers[:i:i], m.subscribers[i+1:]...)
			return
		}
	}
}

// clone copies a message, so that what is queued never changes.
func clone[T proto.Message](m T) T { return proto.Clone(m).(T) }

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func timeInfo(t time.Time) *mesosv1.TimeInfo {
	n := int64(0)
	if !t.IsZero() {
		n = t.UnixNano()
	}
	return &mesosv1.TimeInfo{Nanoseconds: &n}
}

func splitAddress(address string) (ip string, port int32) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return host, 0
	}
	return host, int32(n)
}

// validUUID tells whether data is a UUID with RFC 4122's variant and a version.
func validUUID(data []byte) bool {
	id, err := uuid.FromBytes(data)
	return err == nil && id.Variant() == uuid.RFC4122 && id.Version() >= 1 && id.Version() <= 5
}
