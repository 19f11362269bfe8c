package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStopsInReverseOrder(t *testing.T) {
	var mu sync.Mutex
	var stopped []string
	g := New(slog.New(slog.DiscardHandler))
	for _, name := range []string{"store", "api", "agent"} {
		g.Add(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Wait(ctx); err != nil {
		t.Errorf("Wait after cancel: %v", err)
	}
	if want := []string{"agent", "api", "store"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped in order %v, want %v", stopped, want)
	}
}

func TestFirstEndWins(t *testing.T) {
	broken := errors.New("disk full")
	for name, end := range map[string]error{"error": broken, "nil": nil} {
		t.Run(name, func(t *testing.T) {
			g := New(slog.New(slog.DiscardHandler))
			g.Add("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			g.Add("ends", func(context.Context) error { return end })
			err := g.Wait(context.Background())
			if err == nil || end != nil && !errors.Is(err, end) {
				t.Errorf("Wait = %v, want the end of the part", err)
			}
		})
	}
}
