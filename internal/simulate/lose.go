package simulate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"
)

// lose has one of the control nodes ended and measures how long it takes until
// the agents do without it. Nothing changes meanwhile, so no agent may be told
// that a route is gone.
func (f *fleet) lose(ctx context.Context) (l Loss, err error) {
	if f.Lose == "" {
		return l, nil
	}
	sessions := f.with()
	withdrawn, started := f.withdrawals.Load(), time.Now()
	if out, err := exec.CommandContext(ctx, "sh", "-c", f.Lose).CombinedOutput(); err != nil {
		return l, fmt.Errorf("lose a control node: %s: %w: %s", f.Lose, err, out)
	}
	lost, err := f.findLost(ctx)
	if err != nil {
		return l, err
	}
	f.lost.Store(&lost)
	if err := f.settled(ctx, lost+" is lost"); err != nil {
		return l, err
	}
	l.Resync, l.Sessions = time.Since(started), sessions[lost]
	f.log.Info("a control node was lost", "control", lost, "sessions", l.Sessions, "told_again_after", l.Resync.Round(time.Millisecond))
	if gone := f.withdrawals.Load() - withdrawn; gone > 0 {
		return l, fmt.Errorf("after %s was lost agents were told %d times that a route is gone, and none is", lost, gone)
	}
	return l, nil
}

// with is how many sessions there are with each control node.
func (f *fleet) with() map[string]int {
	sessions := map[string]int{}
	for _, a := range f.agents {
		for _, s := range a.sessions {
			sessions[f.Control[s.with()]]++
		}
	}
	return sessions
}

// findLost is the control node that does not answer any more.
func (f *fleet) findLost(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.Patience, errors.New("all control nodes still answer"))
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		for _, address := range f.Control {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			if err != nil && ctx.Err() == nil {
				return address, nil
			}
			if err == nil {
				conn.Close()
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("lose a control node: %s: %w", f.Lose, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func (f *fleet) isLost(address string) bool {
	lost := f.lost.Load()
	return lost != nil && *lost == address
}
