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
		most uint64
		want int
	}{
		{"nothing", 0, time.Hour, mostRoom, mostPercent},
		{"little", 8 * mebibyte, time.Hour, mostRoom, 800},
		{"room for what is kept", 100 * mebibyte, time.Hour, mostRoom, 200},
		{"no more than the most", 512 * mebibyte, time.Hour, mostRoom, 100},
		{"no more than the most of a control node", 384 * mebibyte, time.Hour, mostControlRoom, 25},
		{"huge", 8192 * mebibyte, time.Hour, mostRoom, leastPercent},
		{"little at start", 8 * mebibyte, time.Second, mostRoom, 800},
		{"much at start", 128 * mebibyte, time.Second, mostRoom, 50},
		{"huge at start", 1024 * mebibyte, time.Second, mostRoom, leastPercent},
	} {
		b := bounds{mostRoom: test.most}
		if got := b.percent(test.kept, b.started.Add(test.up)); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// Each collection decides anew, by what is kept then.
func TestBoundGarbage(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	afterCollection(bounds{time.Now(), mostRoom})
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
