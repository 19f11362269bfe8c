package configapi

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// defect is a panic in a goroutine that works for a request, with its place.
// The request panics with it when it has waited for the goroutine, so that it
// fails as if there had been none: the caller gets an error, the log has the
// rest, and the process lives on.
type defect struct {
	cause any
	stack []byte
}

// caught makes what recover returned a defect; nil if there was none.
func caught(cause any) *defect {
	if cause == nil {
		return nil
	}
	return &defect{cause, debug.Stack()}
}

// String is for the log.
func (d *defect) String() string { return fmt.Sprintf("%v\n%s", d.cause, d.stack) }

// raise has the request panic, if there was a panic.
func (d *defect) raise() {
	if d != nil {
		panic(d)
	}
}

// crew is a group of goroutines that work for one request. Their defects are
// the request's.
type crew struct {
	group  errgroup.Group
	defect atomic.Pointer[defect]
}

func newCrew(size int) *crew {
	c := &crew{}
	c.group.SetLimit(size)
	return c
}

// do runs f, when one of the crew is free.
func (c *crew) do(f func() error) {
	c.group.Go(func() error {
		defer func() {
			if d := caught(recover()); d != nil {
				c.defect.CompareAndSwap(nil, d)
			}
		}()
		return f()
	})
}

// wait waits for all, and returns the first error.
func (c *crew) wait() error {
	err := c.group.Wait()
	c.defect.Load().raise()
	return err
}
