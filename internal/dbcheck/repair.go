package dbcheck

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/contrail-mesos/contrail/internal/store"
)

// Step is a repair that was made, or would be.
type Step struct {
	Finding
	// Done is false for what was not made, with the reason in Note.
	Done bool   `json:"done"`
	Note string `json:"note,omitempty"`
}

// Options of a repair.
type Options struct {
	// DryRun tells what would be done.
	DryRun bool
	// Rest is how long what is taken from an owner that does not exist is not
	// given out.
	Rest time.Duration
	// Told is called for each step.
	Told func(Step)
}

// passes bounds how often the store is looked at again: what is mended may show
// something that it hid.
const passes = 8

// Repair mends what has only one right answer, each in a transaction of its
// own, and returns what is left.
func Repair(ctx context.Context, s *store.Store, o Options) ([]Finding, error) {
	for range passes {
		entries, _, err := Read(ctx, s)
		if err != nil {
			return nil, err
		}
		findings := Check(entries)
		did := false
		for _, f := range findings {
			if f.Repair == nil {
				continue
			}
			step := Step{Finding: f}
			if !o.DryRun {
				if step.Done, step.Note, err = f.Repair.Apply(ctx, s, o.Rest); err != nil {
					return nil, fmt.Errorf("repair %s: %w", f.Key, err)
				}
				did = did || step.Done
			}
			o.Told(step)
		}
		if !did {
			return findings, nil
		}
	}
	return nil, fmt.Errorf("the store still changes under the repair after %d passes; run it again", passes)
}

// Apply makes the change if everything is as it was when it was decided.
func (f *Fix) Apply(ctx context.Context, s *store.Store, rest time.Duration) (done bool, note string, err error) {
	t := s.Txn()
	for _, g := range f.guards {
		t.Guard(g)
	}
	switch f.Action {
	case Put:
		t.Put(f.Key, []byte(f.Value))
	case Delete:
		t.Delete(f.Key)
	case Rest:
		t.Delete(f.Key)
		if rest > 0 {
			lease, err := s.Lease(ctx, rest)
			if err != nil {
				return false, "", err
			}
			t.PutLeased(store.RestKey(f.Key), nil, lease)
		}
	}
	_, err = t.Commit(ctx)
	var conflict *store.Conflict
	if errors.As(err, &conflict) {
		return false, "it has changed meanwhile: " + conflict.Error(), nil
	}
	return err == nil, "", err
}
