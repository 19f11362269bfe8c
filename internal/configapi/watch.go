package configapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

const (
	// maxWatchers bounds the streams of events of this process.
	maxWatchers = 512
	// maxWatchersOfUser bounds those of one user: others find room, too.
	maxWatchersOfUser = 64
	// watchPause is after how long without events a comment keeps a stream open.
	watchPause = 60 * time.Second
	// watchLife ends the stream of a user: whoever comes again shows his token again.
	watchLife = time.Hour
)

// watch streams what happens to objects of the types that a client names:
//
//	event: init     {"<type>s": [{"<type>": {…}}, …]}   once for each type
//	event: create   {"<type>": {…}}
//	event: update   {"<type>": {…}}   properties or references are others
//	event: delete   {"<type>": {"uuid": …}}
//
// What changes several times before the client has read it is sent once, as it
// is then; so a slow client costs memory for the names of what changed, and
// holds up nobody.
//
// An event has an id where everything up to that position was told. Who comes
// again with it, as Last-Event-ID and for the same types, is told what changed
// since, if that is remembered, and else the whole state. Only who may read
// everything can come again: for others what they saw before is not known any
// more. Nor is it for types with views, which follow from other objects.
func (a *API) watch(w http.ResponseWriter, r *http.Request) {
	callOf(r.Context()).routed(r)
	if err := a.serveWatch(w, r); err != nil {
		a.refuse(w, r, err)
	}
}

// serveWatch returns an error only before the stream has begun.
func (a *API) serveWatch(w http.ResponseWriter, r *http.Request) error {
	if err := checkURL(r); err != nil {
		return err
	}
	types, err := watchedTypes(r.URL.Query().Get("resource_type"))
	if err != nil {
		return err
	}
	if a.watchers.Add(1) > maxWatchers {
		a.watchers.Add(-1)
		return refuse(http.StatusServiceUnavailable, connect.CodeResourceExhausted, "%d watchers are served already; try again later", maxWatchers)
	}
	defer a.watchers.Add(-1)
	ctx := r.Context()
	leave, err := a.watchersOf.enter(serve.CallerOf(ctx))
	if err != nil {
		return err
	}
	defer leave()
	if serve.CallerOf(ctx).User != nil {
		limited, cancel := context.WithTimeout(ctx, watchLife)
		defer cancel()
		ctx = limited
	}
	sub := a.graph.Subscribe()
	defer sub.Close()
	s := &watchStream{
		api: a, ctx: ctx, out: w, control: http.NewResponseController(w), types: types,
		known: map[model.Kind]map[string]struct{}{}, base: base(r), lastID: r.Header.Get("Last-Event-ID"),
	}
	for kind := range types {
		s.known[kind] = map[string]struct{}{}
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies in between
	if err := s.run(sub, a.watchPause); err != nil && ctx.Err() == nil {
		a.log.Debug("a watcher is gone", "error", err)
	}
	return nil
}

// watchersOf counts the streams of events of each user.
type watchersOf struct {
	mu    sync.Mutex
	count map[string]int
}

// enter counts a stream until leave. Those of components are not bounded.
func (w *watchersOf) enter(c serve.Caller) (leave func(), err error) {
	if c.User == nil {
		return func() {}, nil
	}
	who := c.User.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count[who] == maxWatchersOfUser {
		return nil, refuse(http.StatusTooManyRequests, connect.CodeResourceExhausted, "%s has %d streams of events already; close some", c, maxWatchersOfUser)
	}
	if w.count == nil {
		w.count = map[string]int{}
	}
	w.count[who]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.count[who]--; w.count[who] == 0 {
			delete(w.count, who)
		}
	}, nil
}

// watchedTypes reads the types to watch: the name that the client gave by kind.
func watchedTypes(text string) (map[model.Kind]string, error) {
	types := map[model.Kind]string{}
	for _, name := range csv(text) {
		t, ok := model.TypeOf(strings.TrimSpace(name))
		if !ok {
			return nil, missing("Resource type '%s' not found", brief(name))
		}
		types[t.Kind] = strings.TrimSpace(name)
	}
	if len(types) == 0 {
		return nil, invalid("Bad Request, no resource_type; name the types to watch, as in /watch?resource_type=virtual-network,project")
	}
	return types, nil
}

// watchStream is one stream of events.
type watchStream struct {
	api     *API
	ctx     context.Context
	out     http.ResponseWriter
	control *http.ResponseController
	types   map[model.Kind]string
	// known are the objects that the client has heard of and not of their end.
	known map[model.Kind]map[string]struct{}
	base  string
	// lastID is the event that the client had last, on another stream.
	lastID string
	// policies is used where access lists are watched.
	policies policyIndex
	// mode in which the rights of the caller were looked at.
	mode    Mode
	started bool
	// last is when something was sent.
	last time.Time
}

// run sends events until the client is gone or the server stops.
func (s *watchStream) run(sub *model.Subscription, pause time.Duration) error {
	s.last = time.Now()
	for {
		wait, cancel := context.WithDeadline(s.ctx, s.last.Add(pause))
		changes, err := sub.Next(wait)
		quiet := errors.Is(wait.Err(), context.DeadlineExceeded)
		cancel()
		switch {
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case err == nil:
			err = s.tell(changes)
		case quiet:
			err = s.write([]byte(": keepalive\n\n"))
		}
		if err != nil {
			return err
		}
	}
}

// write sends bytes to the client; one that does not read is given up.
func (s *watchStream) write(b []byte) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.last = time.Now()
	// Where deadlines are not supported, as in tests without a connection, nobody waits.
	_ = s.control.SetWriteDeadline(time.Now().Add(s.api.patience))
	if _, err := s.out.Write(b); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("send events: %w", err)
	}
	// HTTP/2 would end the stream with its deadline, however quiet it is.
	_ = s.control.SetWriteDeadline(time.Time{})
	return nil
}
