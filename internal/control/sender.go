package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

var errStuck = errors.New("the agent does not read what it is sent")

// sender sends a session's messages: when it is its turn, and not to an agent
// that does not read.
type sender struct {
	session *session
	// send sends messages together; cut ends that in the middle.
	send  func(iter.Seq[*frame]) error
	cut   func()
	every time.Duration // between keep-alives
	stuck time.Duration
	timer *time.Timer
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

func (s *Server) sender(session *session, send func(iter.Seq[*frame]) error, cut func()) *sender {
	o := &sender{session: session, send: send, cut: cut, every: s.cfg.KeepAlive, stuck: s.cfg.Stuck, turns: s.snapshots, done: func() {}}
	o.timer = time.AfterFunc(o.stuck, o.giveUp)
	o.timer.Stop()
	return o
}

// giveUp ends the session in the middle of a write.
func (o *sender) giveUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.session.tables.metrics.stuck.Inc()
	o.session.end(errStuck)
	o.cut()
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
	if err := o.send(frames); err != nil {
		return fmt.Errorf("send to node %s: %w", o.session.node.id, err)
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
