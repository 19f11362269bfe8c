package reconcile

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func equal(a, b int) bool { return a == b }

// TestTrackerAgainstModel compares the tracker with one that compares the two
// maps anew each time.
func TestTrackerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tracker := NewTracker[int](equal)
		desired, actual := map[int]int{}, map[int]int{}
		key, value := rapid.IntRange(0, 5), rapid.IntRange(0, 2)
		t.Repeat(map[string]func(*rapid.T){
			"set desired": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				desired[k] = v
				tracker.SetDesired(k, v)
			},
			"delete desired": func(t *rapid.T) {
				k := key.Draw(t, "k")
				delete(desired, k)
				tracker.DeleteDesired(k)
			},
			"set actual": func(t *rapid.T) {
				k, v := key.Draw(t, "k"), value.Draw(t, "v")
				actual[k] = v
				tracker.SetActual(k, v)
			},
			"delete actual": func(t *rapid.T) {
				k := key.Draw(t, "k")
				delete(actual, k)
				tracker.DeleteActual(k)
			},
			"replace actual": func(t *rapid.T) {
				actual = rapid.MapOf(key, value).Draw(t, "actual")
				tracker.ReplaceActual(maps.Clone(actual))
			},
			"": func(t *rapid.T) {
				var want []int
				for k := range 6 {
					w, inDesired := desired[k]
					h, inActual := actual[k]
					if inDesired != inActual || w != h {
						want = append(want, k)
					}
				}
				got := tracker.Pending()
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("pending %v, want %v", got, want)
				}
			},
		})
	})
}

// memory is a target that fails where it is told to.
type memory struct {
	mu      sync.Mutex
	objects map[int]int
	failing map[int]bool
	puts    int
	deletes int
}

var errRefused = errors.New("refused")

func (m *memory) List(context.Context) (map[int]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects), nil
}

func (m *memory) Put(_ context.Context, k, v int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing[k] {
		return errRefused
	}
	m.puts++
	m.objects[k] = v
	return nil
}

func (m *memory) PutAll(ctx context.Context, objects map[int]int) error {
	for k, v := range objects {
		if err := m.Put(ctx, k, v); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Delete(_ context.Context, k int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing[k] {
		return errRefused
	}
	m.deletes++
	delete(m.objects, k)
	return nil
}

func (m *memory) heal(k int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.failing, k)
}

func (m *memory) snapshot() map[int]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects)
}

func start(t interface {
	Helper()
	Cleanup(func())
}, m *memory, options Options[int, int],
) *Table[int, int] {
	t.Helper()
	options.Name, options.Equal, options.RetryMin = "test", equal, time.Millisecond
	table := New[int, int](slog.New(slog.NewTextHandler(io.Discard, nil)), m, options)
	run(t, table)
	return table
}

func run(t interface{ Cleanup(func()) }, table *Table[int, int]) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = table.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// settled waits until nothing is left to do.
func settled(t interface{ Fatalf(string, ...any) }, table *Table[int, int]) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		table.mu.Lock()
		changed, pending, listed := table.changed, len(table.tracker.pending), table.listed
		table.mu.Unlock()
		if listed && pending == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d objects are still pending", pending)
		}
	}
}

func TestConvergesFromAnyState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		objects := rapid.MapOf(rapid.IntRange(0, 9), rapid.IntRange(0, 3))
		m := &memory{objects: objects.Draw(rt, "there"), failing: map[int]bool{}}
		table := start(rt, m, Options[int, int]{})
		for range rapid.IntRange(1, 4).Draw(rt, "changes") {
			want := objects.Draw(rt, "want")
			table.Replace(want)
			settled(rt, table)
			if got := m.snapshot(); !maps.Equal(got, want) {
				rt.Fatalf("target holds %v, want %v", got, want)
			}
			for _, o := range table.Objects() {
				if err := table.Wait(context.Background(), o.Key); err != nil {
					rt.Fatalf("wait for %d: %v", o.Key, err)
				}
			}
		}
	})
}

func TestRestartAdopts(t *testing.T) {
	m := &memory{objects: map[int]int{1: 10, 2: 20, 3: 30}}
	table := New[int, int](slog.New(slog.NewTextHandler(io.Discard, nil)), m, Options[int, int]{Name: "test", Equal: equal})
	table.Replace(map[int]int{1: 10, 2: 21, 3: 30})
	run(t, table)
	settled(t, table)
	if m.puts != 1 || m.deletes != 0 {
		t.Errorf("%d puts and %d deletes, want the one that differs", m.puts, m.deletes)
	}
}

func TestNothingIsDeletedBeforeItMay(t *testing.T) {
	var mu sync.Mutex
	allowed := false
	m := &memory{objects: map[int]int{1: 10, 2: 20}}
	table := start(t, m, Options[int, int]{MayDelete: func(int) bool {
		mu.Lock()
		defer mu.Unlock()
		return allowed
	}})
	table.Set(3, 30)
	if err := table.Wait(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := m.snapshot(); len(got) != 3 {
		t.Errorf("target holds %v, want what was there and the new one", got)
	}
	mu.Lock()
	allowed = true
	mu.Unlock()
	table.Wake()
	settled(t, table)
	if got := m.snapshot(); !maps.Equal(got, map[int]int{3: 30}) {
		t.Errorf("target holds %v, want the desired one only", got)
	}
}

func TestFailureIsSeenAndTriedAgain(t *testing.T) {
	m := &memory{objects: map[int]int{}, failing: map[int]bool{1: true}}
	table := start(t, m, Options[int, int]{})
	table.Set(1, 10)
	table.Set(2, 20)
	if err := table.Wait(t.Context(), 1); !errors.Is(err, errRefused) {
		t.Errorf("wait returned %v, want the target's error", err)
	}
	if err := table.Wait(t.Context(), 2); err != nil {
		t.Errorf("the other object: %v", err)
	}
	if s, _ := table.StatusOf(1); s.State != Failed || !errors.Is(s.Err, errRefused) {
		t.Errorf("status is %+v, want failed", s)
	}
	m.heal(1)
	settled(t, table)
	if s, _ := table.StatusOf(1); s.State != Applied || s.Err != nil {
		t.Errorf("status is %+v, want applied", s)
	}
}

func TestResyncRepairs(t *testing.T) {
	m := &memory{objects: map[int]int{}}
	table := start(t, m, Options[int, int]{})
	table.Set(1, 10)
	if err := table.Wait(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.objects = map[int]int{7: 70}
	m.mu.Unlock()
	table.mu.Lock()
	table.listed = false // so that settled waits for the listing
	table.mu.Unlock()
	table.Resync()
	settled(t, table)
	if got := m.snapshot(); !maps.Equal(got, map[int]int{1: 10}) {
		t.Errorf("target holds %v after a resync", got)
	}
}

// TestEntriesTellBothSides: what is desired, what is there, and why they differ,
// also of what is to go and cannot.
func TestEntriesTellBothSides(t *testing.T) {
	m := &memory{objects: map[int]int{1: 10, 2: 20, 4: 40}, failing: map[int]bool{2: true, 3: true}}
	table := start(t, m, Options[int, int]{MayDelete: func(k int) bool { return k != 4 }})
	table.Set(1, 10)
	table.Set(2, 20)
	table.Set(3, 30)
	table.Delete(2)
	value := func(p *int) int {
		if p == nil {
			return -1
		}
		return *p
	}
	type seen struct {
		desired, there int
		state          State
		failed         bool
	}
	want := map[int]seen{
		1: {10, 10, Applied, false}, 2: {-1, 20, Failed, true}, 3: {30, -1, Failed, true}, 4: {-1, 40, Pending, false},
	}
	got := map[int]seen{}
	deadline := time.Now().Add(10 * time.Second)
	for !maps.Equal(got, want) {
		if time.Now().After(deadline) {
			t.Fatalf("entries are %+v, want %+v", got, want)
		}
		entries, err := table.Entries(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		for _, e := range entries {
			got[e.Key] = seen{value(e.Desired), value(e.There), e.Status.State, e.Status.Err != nil}
		}
		time.Sleep(time.Millisecond) // between looks, not for order
	}
	if states := table.States(); states[Applied] != 1 || states[Failed] != 2 || states[Pending] != 0 || table.Failures() < 2 {
		t.Errorf("states are %v after %d failures", states, table.Failures())
	}
}
