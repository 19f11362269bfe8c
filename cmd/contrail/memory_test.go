package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// The more a process keeps, the earlier relative to that its garbage is
// collected.
func TestBoundGarbage(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	const room = 8 << 20
	afterCollection(room)
	if percent := debug.SetGCPercent(100); percent <= 100 {
		t.Errorf("percent is %d with little kept, want more than Go's 100", percent)
	}
	kept := make([]byte, 16*room)
	deadline := time.Now().Add(10 * time.Second)
	for {
		runtime.GC()
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		if percent == leastPercent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("percent stays %d with %d MiB kept", percent, len(kept)>>20)
		}
	}
	runtime.KeepAlive(kept)
}
