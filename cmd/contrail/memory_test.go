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
		name string
		kept uint64
		up   time.Duration
		want int
	}{
		{"nothing", 0, time.Hour, mostPercent},
		{"little", 8 * mebibyte, time.Hour, 800},
		{"room for what is kept", 100 * mebibyte, time.Hour, 200},
		{"no more than the most", 512 * mebibyte, time.Hour, 100},
		{"huge", 8192 * mebibyte, time.Hour, leastPercent},
		{"little at start", 8 * mebibyte, time.Second, 800},
		{"much at start", 128 * mebibyte, time.Second, 50},
		{"huge at start", 1024 * mebibyte, time.Second, leastPercent},
	} {
		if got := percent(test.kept, test.up); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// Each collection decides anew, by what is kept then.
func TestBoundGarbage(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	afterCollection(time.Now())
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
