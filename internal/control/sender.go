package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"
)

var errStuck = errors.New("the agent does not read what it is sent")

type writerKey struct{}

// withWriter lets a handler of streams bound how long a write may take, which
// a stream alone does not.
func withWriter(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), writerKey{}, http.NewResponseController(w))))
	})
}

// sender sends a session's messages: when it is its turn, and not to an agent
// that does not read.
type sender struct {
	session *session
	send    func(*frame) error
	every   time.Duration // between keep-alives
	stuck   time.Duration
	timer   *time.Timer
	// mu keeps the timer from a writer that is closed.
	mu     sync.Mutex
	closed bool
	// turns has room for those that are sent all their tables.
	turns chan struct{}
	// inTurn is set until all was sent for the first time. It ends by itself: who
	// reads slowly does not hold up the others.
	inTurn *time.Timer
	done   func()
}

// turn is the longest that a session has its turn.
const turn = 10 * time.Second

func (s *Server) sender(ctx context.Context, session *session, send func(*frame) error) *sender {
	o := &sender{session: session, send: send, every: s.cfg.KeepAlive, stuck: s.cfg.Stuck, turns: s.snapshots, done: func() {}}
	writer, _ := ctx.Value(writerKey{}).(*http.ResponseController)
	o.timer = time.AfterFunc(o.stuck, func() { o.giveUp(writer) })
	o.timer.Stop()
	return o
}

// giveUp ends the session in the middle of a write.
func (o *sender) giveUp(writer *http.ResponseController) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.session.tables.metrics.stuck.Inc()
	o.session.end(errStuck)
	if writer != nil {
		_ = writer.SetWriteDeadline(time.Now())
	}
}

// admit waits until it is the session's turn to be sent all tables. Who goes on
// from where it was needs none.
func (o *sender) admit(ctx context.Context) error {
	if o.session.ports.resumed {
		return nil
	}
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		select {
		case o.turns <- struct{}{}:
			o.done = sync.OnceFunc(func() { <-o.turns })
			o.inTurn = time.AfterFunc(turn, o.done)
			return nil
		case <-ticker.C:
			if err := o.all(frames(o.session.tables.at(), [][]byte{keepAliveMessage(false, nil)}, false)); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// all sends messages.
func (o *sender) all(frames iter.Seq[*frame]) error {
	o.timer.Reset(o.stuck)
	defer o.timer.Stop()
	for f := range frames {
		if err := o.send(f); err != nil {
			return fmt.Errorf("send to node %s: %w", o.session.node.id, err)
		}
	}
	return nil
}

// at is the position of the tables.
func (t *tables) at() *stamp {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stamp()
}

// stamp is at for those who have the lock. All sessions share it.
func (t *tables) stamp() *stamp {
	if t.stamped == nil || t.stamped.at != t.position {
		t.stamped = stampOf(t.position)
	}
	return t.stamped
}

// complete is called when the agent has all its tables.
func (o *sender) complete() {
	if o.inTurn != nil {
		o.inTurn.Stop()
		o.inTurn = nil
		o.done()
	}
}

func (o *sender) close() {
	o.complete()
	o.timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}
