package simulate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Config says what is played, and against whom.
type Config struct {
	// Control are the control nodes, HOST:PORT. Each agent has sessions with
	// Sessions of them, beginning with another one.
	Control  []string
	Sessions int
	// Authority signs the agents' certificates.
	Authority *ctls.Authority
	// HTTP and Base reach the configuration API as an administrator.
	HTTP *http.Client
	Base string

	// Agents are played, each with Ports containers in NetworksEach of Networks.
	Agents, Ports, Networks, NetworksEach int
	// Changes are measured one by one, then containers come and go for Churn.
	Changes int
	Churn   time.Duration
	// Lose is a command that ends one of the control nodes; none if empty.
	Lose string
	// Patience bounds the wait for a state that is to come.
	Patience time.Duration
}

func (c *Config) check() error {
	switch {
	case len(c.Control) == 0:
		return errors.New("no control node is named: give at least one")
	case c.Sessions < 1 || c.Sessions > len(c.Control):
		return fmt.Errorf("%d sessions for each agent: want 1 to %d, the number of control nodes", c.Sessions, len(c.Control))
	case c.Agents < 1 || c.Agents > 1<<16:
		return fmt.Errorf("%d agents: want 1 to %d", c.Agents, 1<<16)
	case c.NetworksEach < 1 || c.NetworksEach > c.Networks:
		return fmt.Errorf("%d networks for each agent: want 1 to %d, the number of networks", c.NetworksEach, c.Networks)
	case c.Lose != "" && c.Sessions == len(c.Control):
		return fmt.Errorf("%d sessions for each agent with all control nodes: want fewer, or there is none to go to when one is lost", c.Sessions)
	case c.Ports < c.NetworksEach:
		return fmt.Errorf("%d ports for each agent: want at least %d, one for each of its networks", c.Ports, c.NetworksEach)
	}
	return nil
}

// fleet is all that is played.
type fleet struct {
	Config
	log  *slog.Logger
	dir  string // of the certificates
	seed maphash.Seed
	// project is the name of the project that the networks are made in.
	project     string
	attachments configv1connect.AttachmentsClient
	nodes       configv1connect.NodesClient

	agents   []*agent
	networks []*network
	// routes is how many routes all sessions have been told and not taken back.
	routes atomic.Int64
	// deliveries counts the messages about routes, withdrawals those that one is
	// gone.
	deliveries, withdrawals atomic.Int64
	// endings counts why sessions ended that should not have.
	endings struct {
		sync.Mutex
		by map[string]int
	}
	// lost is the address of the control node that was ended.
	lost  atomic.Pointer[string]
	probe atomic.Pointer[probe]
}

// network is a network as it should be, by what was attached.
type network struct {
	name   string
	mu     sync.Mutex
	vrf    uint32
	routes int
	// sum of the hashes of its routes: what an agent has been told is compared
	// with it.
	sum    uint64
	agents map[*agent]int // ports of each
}

// Run plays until everything is measured, and takes away what it made.
func Run(ctx context.Context, log *slog.Logger, c Config) (result *Result, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	f := &fleet{
		Config: c, log: log, seed: maphash.MakeSeed(), project: fmt.Sprintf("simulated-%08x", rand.Uint32()),
		attachments: configv1connect.NewAttachmentsClient(c.HTTP, c.Base), nodes: configv1connect.NewNodesClient(c.HTTP, c.Base),
	}
	if f.dir, err = os.MkdirTemp("", "contrail-simulate-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.dir)) }()
	f.plan()
	// What was made is removed also when ctx ends in the middle.
	defer func() { err = errors.Join(err, f.clean(context.WithoutCancel(ctx))) }()
	if err := f.populate(ctx); err != nil {
		return nil, err
	}
	return f.measure(ctx)
}

// plan says which agent has ports in which networks: each in as many as it
// shall have, chosen at random, and its ports shared out evenly.
func (f *fleet) plan() {
	for n := range f.Networks {
		f.networks = append(f.networks, &network{name: fmt.Sprintf("net-%d", n), agents: map[*agent]int{}})
	}
	for i := range f.Agents {
		a := newAgent(f, i)
		chosen := rand.Perm(f.Networks)[:f.NetworksEach]
		for p := range f.Ports {
			n := f.networks[chosen[p%len(chosen)]]
			a.plan = append(a.plan, n)
			n.agents[a]++
		}
		f.agents = append(f.agents, a)
	}
}

// side is how many requests are under way at once.
const side = 32

// populate makes nodes and certificates, and attaches all containers.
func (f *fleet) populate(ctx context.Context) error {
	started := time.Now()
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(side)
	for _, a := range f.agents {
		group.Go(func() error { return a.join(inner) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// The first container of a network makes it; the others find it.
	for _, first := range []bool{true, false} {
		if err := f.attachPlanned(ctx, first); err != nil {
			return err
		}
	}
	f.log.Info("populated", "agents", len(f.agents), "networks", len(f.networks), "ports", f.Agents*f.Ports, "after", time.Since(started).Round(time.Millisecond))
	return nil
}

func (f *fleet) attachPlanned(ctx context.Context, first bool) error {
	made := map[*network]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(side)
	for _, a := range f.agents {
		for i, n := range a.plan {
			if n == nil || first && made[n] {
				continue
			}
			made[n], a.plan[i] = true, nil
			group.Go(func() error {
				_, err := a.attach(ctx, n, i)
				return err
			})
		}
	}
	return group.Wait()
}

// clean removes the nodes, and with their last containers the networks.
func (f *fleet) clean(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(side)
	for _, a := range f.agents {
		group.Go(func() error { return a.remove(ctx) })
	}
	return group.Wait()
}

func (f *fleet) certificates(a *agent) (*ctls.Credentials, error) {
	dir := filepath.Join(f.dir, a.id)
	if err := f.Authority.Issue(dir, ctls.RoleNode, a.id); err != nil {
		return nil, err
	}
	return ctls.LoadCredentials(dir)
}

// changed takes in that a route of a network came or went.
func (n *network) changed(hash uint64, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes += by
	n.sum += hash * uint64(by) // wraps, as the agents' sums do
}

// expected is how many routes all sessions have when everything has arrived.
func (f *fleet) expected() int64 {
	var all int64
	for _, n := range f.networks {
		n.mu.Lock()
		all += int64(n.routes * len(n.agents) * f.Sessions)
		n.mu.Unlock()
	}
	return all
}

// note counts the end of a session.
func (f *fleet) note(ctx context.Context, why error) {
	if ctx.Err() != nil || why == nil {
		return
	}
	f.endings.Lock()
	defer f.endings.Unlock()
	if f.endings.by == nil {
		f.endings.by = map[string]int{}
	}
	f.endings.by[ports.ReplaceAllString(why.Error(), ":PORT")]++
}

// ports are the numbers that differ in what is otherwise the same error.
var ports = regexp.MustCompile(`:\d+`)
