package control

import (
	"context"
	"time"
)

// Source is the store as far as a control node has to ask it anything.
type Source interface {
	// Head is the newest revision; it fails without a quorum.
	Head(ctx context.Context) (int64, error)
	// Sync has the followers told how far the store is.
	Sync(ctx context.Context) error
}

// Prove finds out again and again whether the graph keeps up with the store,
// until ctx ends. When it does not, agents are told and go to others that do:
// a control node that is cut off from the store goes on with what it knows, and
// would never notice by itself that this is old.
func (s *Server) Prove(ctx context.Context, source Source) error {
	ticker := time.NewTicker(s.cfg.CutOff / 3)
	defer ticker.Stop()
	proved, cutOff := time.Now(), false
	for {
		err := s.prove(ctx, source)
		if err == nil {
			proved = time.Now()
		}
		if now := time.Since(proved) > s.cfg.CutOff; now != cutOff && ctx.Err() == nil {
			cutOff = now
			s.tables.setCutOff(now)
			if now {
				s.log.Warn("the store does not answer; agents are told that they may hear old news from here", "error", err)
			} else {
				s.log.Info("the store answers again")
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// prove succeeds when the graph has all that the store had when it was asked.
func (s *Server) prove(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CutOff*2/3)
	defer cancel()
	head, err := source.Head(ctx)
	if err != nil || s.graph.Position().Revision >= uint64(head) {
		return err
	}
	if err := source.Sync(ctx); err != nil {
		return err
	}
	return s.graph.WaitFor(ctx, uint64(head))
}

func (t *tables) setCutOff(now bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cutOff = now
	for s := range t.sessions {
		s.poke()
	}
}
