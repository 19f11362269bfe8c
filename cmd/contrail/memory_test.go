package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	const mebibyte = 1 << 20
	for _, test := range []struct {
		name   string
		kept   uint64
		up     time.Duration
		bounds bounds
		want   int
	}{
		{"nothing", 0, time.Hour, storeBounds, mostPercent},
		{"little", 8 * mebibyte, time.Hour, storeBounds, 800},
		{"room for what is kept", 100 * mebibyte, time.Hour, storeBounds, 300},
		{"no more than the most", 512 * mebibyte, time.Hour, storeBounds, 100},
		{"no more than the most of a control node", 384 * mebibyte, time.Hour, controlBounds, 25},
		{"as much as is usual for a control node", 128 * mebibyte, time.Hour, controlBounds, 200},
		{"huge", 8192 * mebibyte, time.Hour, storeBounds, leastPercent},
		{"little at start", 8 * mebibyte, time.Second, storeBounds, 800},
		{"much at start", 128 * mebibyte, time.Second, storeBounds, 50},
		{"huge at start", 1024 * mebibyte, time.Second, storeBounds, leastPercent},
	} {
		if got := test.bounds.percent(test.kept, test.bounds.started.Add(test.up)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// Each collection decides anew, by what is kept then.
func TestBoundGarbage(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	afterCollection(bounds{started: time.Now(), most: mostRoom})
	kept := make([]byte, 2*leastRoom)
	deadline := time.Now().Add(time.Minute)
	for {
		runtime.GC()
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		if percent < 100 && percent >= leastPercent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("percent stays %d with %d MiB kept", percent, len(kept)>>20)
		}
	}
	runtime.KeepAlive(kept)
}

// What a start took goes back in the first quiet second, what a busy time took
// when that is over: not between two bursts.
func TestQuiet(t *testing.T) {
	var q quiet
	const busy, little, much = 10 * quietBytes, worthwhile, worthwhile + 1
	second := 0
	for _, step := range []struct {
		starting  bool
		times     int
		allocated uint64
		unused    int64
		want      bool // in the last of the times, and in no other
	}{
		{true, 3, busy, much, false},
		{true, 1, 0, much, true}, // waits for another process
		{true, 2, 0, little, false},
		{true, 1, busy, much, false}, // and loads, for longer than a start takes
		{false, 2, busy, much, false},
		{false, 1, 0, much, true},
		{false, 5, busy, much, false}, // works
		{false, 9, 0, much, false},    // not for long enough
		{false, 1, busy, much, false},
		{false, 10, 0, much, true}, // is done
		{false, 20, 0, little, false},
		{false, 1, 0, much, true}, // a small thing now and then
		{false, 9, 0, much, false},
	} {
		for i := range step.times {
			second++
			if got := q.gives(step.starting, step.allocated, step.unused); got != (step.want && i == step.times-1) {
				t.Errorf("second %d: gives back is %v", second, got)
			}
		}
	}
}
