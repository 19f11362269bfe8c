package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	executorv1 "github.com/contrail-mesos/contrail/api/mesos/v1/executor"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// client holds the connection to the agent. It never decides anything: events
// go to the executor, updates come from it in order.
type client struct {
	log    *slog.Logger
	config Config
	http   *http.Client
	url    string

	// subscribing asks the executor for what a subscription has to carry.
	subscribing chan chan *executorv1.Call_Subscribe
	events      chan *executorv1.Event
	outgoing    chan *mesosv1.TaskStatus
}

// errRefused means that the agent does not know this executor: nobody waits for
// its task any more.
var errRefused = errors.New("agent does not know this executor")

// maxUpdates is more than a task can have: STARTING, RUNNING, KILLING, an end.
const maxUpdates = 16

func newClient(log *slog.Logger, config Config) *client {
	httpClient, base, _ := serve.Client("unix:"+config.Socket, nil, false) // unix needs no credentials
	return &client{
		log: log, config: config, http: httpClient, url: base + config.Path,
		subscribing: make(chan chan *executorv1.Call_Subscribe),
		events:      make(chan *executorv1.Event),
		outgoing:    make(chan *mesosv1.TaskStatus, maxUpdates),
	}
}

// send never blocks. What does not arrive goes with the next subscription.
func (c *client) send(status *mesosv1.TaskStatus) {
	select {
	case c.outgoing <- status:
	default:
	}
}

// run subscribes, again and again, until ctx ends or the agent was away for the
// recovery timeout.
func (c *client) run(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	lost := time.Now()
	const least = 50 * time.Millisecond
	pause := least
	for {
		subscribed, err := c.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errRefused) {
			return err
		}
		if _, gone := os.Stat(c.config.Dir); errors.Is(gone, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", errRefused, gone) // the node was cleaned while the agent was away
		}
		if subscribed {
			lost, pause = time.Now(), least
		}
		if time.Since(lost) > c.config.RecoveryTimeout {
			return fmt.Errorf("agent was away for %s: %w", c.config.RecoveryTimeout, err)
		}
		c.log.Debug("agent is away", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, c.config.BackoffMax)
	}
}

// session is one subscription, from its call to the end of its stream.
func (c *client) session(ctx context.Context) (subscribed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	reply := make(chan *executorv1.Call_Subscribe, 1)
	select {
	case <-ctx.Done():
		cancel()
		return false, ctx.Err()
	case c.subscribing <- reply:
	}
	call := c.call(executorv1.Call_SUBSCRIBE)
	call.Subscribe = <-reply
	response, err := c.post(ctx, call)
	if err != nil {
		cancel()
		return false, err
	}
	defer response.Body.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.sendAll(ctx, cancel)
	}()
	defer func() { cancel(); <-sent }()
	records := codec.NewRecordReader(response.Body, codec.MaxFrame)
	for {
		event := &executorv1.Event{}
		if err := records.Read(codec.JSON, event); err != nil {
			return subscribed, fmt.Errorf("read event: %w", err)
		}
		subscribed = true
		select {
		case <-ctx.Done():
			return subscribed, ctx.Err()
		case c.events <- event:
		}
	}
}

// reset forgets queued updates: the subscription carries them. It is called by
// the executor, between two sessions.
func (c *client) reset() {
	for {
		select {
		case <-c.outgoing:
		default:
			return
		}
	}
}

// sendAll posts updates in order; the first failure ends the session.
func (c *client) sendAll(ctx context.Context, fail context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case status := <-c.outgoing:
			call := c.call(executorv1.Call_UPDATE)
			call.Update = &executorv1.Call_Update{Status: status}
			response, err := c.post(ctx, call)
			if err != nil {
				c.log.Debug("update is not sent", "error", err)
				fail()
				return
			}
			response.Body.Close()
		}
	}
}

func (c *client) call(kind executorv1.Call_Type) *executorv1.Call {
	return &executorv1.Call{
		Type:        kind.Enum(),
		ExecutorId:  &mesosv1.ExecutorID{Value: proto.String(c.config.ExecutorID)},
		FrameworkId: &mesosv1.FrameworkID{Value: proto.String(c.config.FrameworkID)},
	}
}

func (c *client) post(ctx context.Context, call *executorv1.Call) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(codec.MarshalJSON(call)))
	if err != nil {
		return nil, fmt.Errorf("make call: %w", err)
	}
	request.Header.Set("Content-Type", codec.JSON.String())
	request.Header.Set("Accept", codec.JSON.String())
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call agent: %w", err)
	}
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		response.Body.Close()
		err := fmt.Errorf("agent answers %s: %s", response.Status, text)
		if response.StatusCode/100 == 4 && call.GetType() == executorv1.Call_SUBSCRIBE {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return nil, err
	}
	return response, nil
}
