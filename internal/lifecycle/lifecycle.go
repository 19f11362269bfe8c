// Package lifecycle runs the parts of a process together: they start in the
// order they were added, the first one that ends stops the others in reverse
// order, and its error is the result.
//
// A part is a function that blocks until its context ends. Constructors make
// parts; nothing runs before Wait.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
)

// Group is a set of parts. It is not safe for concurrent use.
type Group struct {
	log   *slog.Logger
	parts []part
}

type part struct {
	name string
	run  func(context.Context) error
}

// New returns an empty group.
func New(log *slog.Logger) *Group { return &Group{log: log} }

// Add appends a part. run blocks until ctx ends and then returns soon; an
// error, or returning while ctx still lives, ends the whole group.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.parts = append(g.parts, part{name, run})
}

type ended struct {
	part int
	err  error
}

// Wait starts all parts and blocks until all of them have ended. It returns
// the error of the part that ended first, or nil when ctx ended first.
func (g *Group) Wait(ctx context.Context) error {
	ends := make(chan ended, len(g.parts))
	cancels := make([]context.CancelFunc, len(g.parts))
	done := make([]chan struct{}, len(g.parts))
	for i, p := range g.parts {
		// Each part has a context of its own, so that stopping goes in reverse order.
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], done[i] = cancel, make(chan struct{})
		go func() {
			defer close(done[i])
			err := p.run(partCtx)
			if partCtx.Err() != nil && errors.Is(err, context.Canceled) {
				err = nil
			}
			ends <- ended{i, err}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case e := <-ends:
		first = fmt.Errorf("%s ended unexpectedly", g.parts[e.part].name)
		if e.err != nil {
			first = fmt.Errorf("%s: %w", g.parts[e.part].name, e.err)
		}
	}
	for i := len(g.parts) - 1; i >= 0; i-- {
		cancels[i]()
		<-done[i]
		g.log.Debug("part stopped", "part", g.parts[i].name)
	}
	return first
}

// WithSignals returns a context that ends at SIGTERM or SIGINT.
func WithSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
}
