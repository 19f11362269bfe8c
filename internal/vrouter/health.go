package vrouter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/health"
	"github.com/contrail-mesos/contrail/internal/vrouter/prober"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// probeNetwork is where probes come from.
type probeNetwork interface {
	health.Network
	Close()
	// Lost tells whether its device has gone.
	Lost() bool
}

// healthChecks are those of the node's ports, and the ways to ask them.
type healthChecks struct {
	*health.Checker
	// changed has the verdicts written.
	changed chan struct{}
	// open opens the network that probes come from, when there is the first check.
	open    func() (probeNetwork, error)
	network probeNetwork
	// failed is why it could not be opened, and retry when that is tried again.
	failed error
	retry  time.Time
	// aliases are those of the ways that are in use, last the newest.
	aliases map[dataplane.Probe]netip.Addr
	last    netip.Addr
	file    string
	written []byte
}

// reopen is the pause between two attempts to open the network of probes.
const reopen = 10 * time.Second

// savedHealth is the content of the file.
type savedHealth struct {
	BootID string `json:"boot_id"`
	// Failing are the checks that have failed, by port.
	Failing map[string][]health.Failure `json:"failing"`
}

func (a *Agent) makeHealth() {
	h := &healthChecks{
		changed: make(chan struct{}, 1), aliases: map[dataplane.Probe]netip.Addr{}, last: prober.Own.Addr(),
		file: filepath.Join(a.config.StateDir, healthName), open: a.openProber,
	}
	h.Checker = health.New(a.log, func() {
		a.registry.touch() // control nodes are told
		select {
		case h.changed <- struct{}{}:
		default:
		}
	})
	a.health = h
	a.probes = reconcile.New(a.log, probeTarget{a.dataplane}, reconcile.Options[netip.Addr, dataplane.Probe]{
		Name: "probes", Equal: func(x, y dataplane.Probe) bool { return x == y }, Resync: time.Minute,
		Applied: func(netip.Addr, dataplane.Probe) { a.registry.touch() }, // whose check was left is looked at again
	})
}

// loadHealth takes over what an earlier agent has told of its ports' health.
// Without it they count as healthy until probes say something else.
func (a *Agent) loadHealth() {
	data, err := os.ReadFile(a.health.file)
	var saved savedHealth
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		a.log.Warn("the last state of health checks is not known; they count as passed until they fail", "file", a.health.file, "error", err)
	case saved.BootID == a.bootID:
		a.health.Adopt(saved.Failing)
		a.health.written = data
	}
}

// openProber makes the network that probes come from, and its way to the ports.
func (a *Agent) openProber() (probeNetwork, error) {
	n, err := prober.Open()
	if err != nil {
		return nil, err
	}
	if err = a.dataplane.AttachProber(n.Index); err == nil {
		err = n.Up()
	}
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("open prober: %w", err)
	}
	return n, nil
}

// removeProber removes the device of an earlier agent's prober: where that was
// killed, connections that were still ending may keep its namespace.
func (a *Agent) removeProber() error {
	index, err := a.links.find(prober.Device)
	if err != nil {
		return err
	}
	return a.links.remove(index, prober.Device)
}

// runHealth keeps the health checks as the graph has them, and their verdicts on
// disk.
func (a *Agent) runHealth(ctx context.Context) error {
	h := a.health
	if err := a.removeProber(); err != nil {
		a.log.Warn("the device of an earlier agent's health checks stays until there is a check", "error", err)
	}
	defer func() {
		h.Close()
		if h.network != nil {
			h.network.Close()
		}
	}()
	retry := time.NewTimer(reopen)
	defer retry.Stop()
	for {
		began := time.Now()
		records, changed := a.registry.all()
		a.followChecks(ctx, records)
		if err := a.saveHealth(); err != nil {
			a.log.Warn("state of health checks cannot be written; after a restart they count as they did before", "error", err)
		}
		if h.failed != nil {
			retry.Reset(time.Until(h.retry))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(graphRest*time.Since(began), longestGraphRest)):
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-h.changed:
		case <-retry.C:
		}
	}
}

// followChecks has those checks made that the graph has for the node's ports.
// Until it is known, the verdicts of an earlier agent stand.
func (a *Agent) followChecks(ctx context.Context, records []*record) {
	h := a.health
	if !a.routing.allPortsKnown() {
		return
	}
	if h.network != nil && h.network.Lost() {
		a.log.Warn("the device of health checks has gone and is made anew", "device", prober.Device)
		h.network.Close()
		h.network = nil
	}
	var checks []health.Check
	ways := map[dataplane.Probe]netip.Addr{}
	for _, r := range records {
		for _, m := range a.routing.checksOf(r.ID) {
			c, way := a.checkOf(r, m)
			if c.Left == "" {
				c.Left = a.proberMissing()
			}
			if c.Left == "" {
				if ways[way] = h.aliasFor(way); !ways[way].IsValid() {
					c.Left = "the node has no alias left for it"
				}
				c.Alias = ways[way]
			}
			checks = append(checks, c)
		}
	}
	h.aliases = ways
	desired := make(map[netip.Addr]dataplane.Probe, len(ways))
	for way, alias := range ways {
		if alias.IsValid() {
			desired[alias] = way
		}
	}
	a.probes.Replace(desired)
	a.awaitProbes(ctx, checks)
	var network health.Network
	if h.network != nil {
		network = h.network
	}
	h.Set(network, checks)
	if len(desired) == 0 && h.network != nil { // until there is something to ask again
		h.network.Close()
		h.network = nil
	}
}

// awaitProbes waits until the ways to the ports are there: a probe that is sent
// before tells nothing.
func (a *Agent) awaitProbes(ctx context.Context, checks []health.Check) {
	ctx, cancel := context.WithTimeout(ctx, unplugWait)
	defer cancel()
	for i := range checks {
		if checks[i].Left != "" {
			continue
		}
		if err := a.probes.Wait(ctx, checks[i].Alias); err != nil {
			checks[i].Left = "the data plane has no way to the port: " + err.Error()
		}
	}
}

// checkOf is a check of a port as it is asked, and the way to the port.
func (a *Agent) checkOf(r *record, m *controlv1.HealthCheck) (health.Check, dataplane.Probe) {
	c := health.Check{
		Key: health.Key{Port: r.ID, ID: m.GetId()}, Name: m.GetName(), Kind: checkKinds[m.GetKind()],
		Delay: micros(m.GetDelayUs()), Timeout: micros(m.GetTimeoutUs()), Retries: int(max(m.GetRetries(), 1)),
		TCPPort: uint16(m.GetPort()), Method: m.GetMethod(), URL: m.GetUrl(),
	}
	for _, codes := range m.GetCodes() {
		c.Codes = append(c.Codes, health.Codes{First: int(codes.GetFirst()), Last: int(codes.GetLast())})
	}
	way := dataplane.Probe{IfIndex: r.HostIndex}
	var err1, err2 error
	way.Address, err1 = netip.ParseAddr(m.GetAddress())
	way.Source, err2 = netip.ParseAddr(m.GetSource())
	c.Address = way.Address
	status, desired := a.ports.StatusOf(r.HostIndex)
	switch {
	case err1 != nil || err2 != nil || !way.Address.Is4() || !way.Source.Is4():
		c.Left = "the port has no IPv4 address"
	case c.Kind == "":
		c.Left = "this version of the agent does not know its kind"
	case !desired || status.State != reconcile.Applied:
		c.Left = "the port is not plugged"
	}
	return c, way
}

var checkKinds = map[controlv1.HealthCheck_Kind]health.Kind{
	controlv1.HealthCheck_KIND_PING: health.Ping,
	controlv1.HealthCheck_KIND_TCP:  health.TCP,
	controlv1.HealthCheck_KIND_HTTP: health.HTTP,
}

// Bounds of what a control node may ask for.
const (
	shortest = 10 * time.Millisecond
	longest  = 24 * time.Hour
)

func micros(n uint64) time.Duration {
	return min(max(time.Duration(min(n, uint64(longest/time.Microsecond)))*time.Microsecond, shortest), longest)
}

// proberMissing opens the network of probes if it is not open, and tells why it
// is not; empty where it is.
func (a *Agent) proberMissing() string {
	h := a.health
	if h.network == nil && !time.Now().Before(h.retry) {
		n, err := h.open()
		if err != nil {
			h.retry = time.Now().Add(reopen)
			a.log.Warn("health checks cannot be made; they count as before, and it is tried again", "error", err)
		} else {
			h.network = n
		}
		h.failed = err
	}
	if h.failed != nil {
		return h.failed.Error()
	}
	return ""
}

// aliasFor is the alias of a way, a new one if it has none; the zero Addr if there
// is none left. One that was given back is not given again soon: connections to
// its former port may still be ending.
func (h *healthChecks) aliasFor(way dataplane.Probe) netip.Addr {
	if alias, ok := h.aliases[way]; ok {
		return alias
	}
	taken := map[netip.Addr]bool{prober.Own.Addr(): true}
	for _, alias := range h.aliases {
		taken[alias] = true
	}
	for range 2 << (32 - prober.Own.Bits()) {
		if h.last = h.last.Next(); !prober.Own.Contains(h.last.Next()) { // the last of the prefix is its broadcast
			h.last = prober.Own.Masked().Addr().Next()
		}
		if !taken[h.last] {
			h.aliases[way] = h.last
			return h.last
		}
	}
	return netip.Addr{}
}

// saveHealth writes which checks have failed, if that is news.
func (a *Agent) saveHealth() error {
	saved := savedHealth{BootID: a.bootID, Failing: a.health.AllFailing()}
	data, err := json.Marshal(saved)
	if err != nil || bytes.Equal(data, a.health.written) || len(saved.Failing) == 0 && a.health.written == nil {
		return err
	}
	if err := portapi.WriteDurably(a.health.file, data); err != nil {
		return err
	}
	a.health.written = data
	return nil
}

// checksOf are the health checks that the graph has for a port.
func (r *routing) checksOf(id string) []*controlv1.HealthCheck {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.believed.ports[id].GetHealthChecks()
}

// probeTarget makes ways to ports real.
type probeTarget struct{ plane Dataplane }

func (t probeTarget) List(context.Context) (map[netip.Addr]dataplane.Probe, error) {
	return t.plane.Probes()
}

func (t probeTarget) Put(_ context.Context, alias netip.Addr, p dataplane.Probe) error {
	return t.plane.PutProbe(alias, p)
}

func (t probeTarget) Delete(_ context.Context, alias netip.Addr) error {
	return t.plane.DeleteProbe(alias)
}
