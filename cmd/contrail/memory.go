package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// By Go's default a process occupies twice what it keeps, which is too much for
// one that keeps all objects, and collects garbage after every few megabytes
// where it keeps little, which costs a store or an API that is not full yet a
// tenth of its speed. These give the garbage collector a fixed room instead.

const (
	// storeRoom and configRoom are what may be allocated between collections.
	storeRoom  = 32 << 20
	configRoom = 32 << 20
	// leastPercent bounds what the collector costs where the heap is huge.
	leastPercent = 12
	mostPercent  = 1000
)

// boundGarbage has the garbage collector run whenever room bytes have been
// allocated, unless the environment sets GOGC.
func boundGarbage(room uint64) {
	if os.Getenv("GOGC") == "" {
		afterCollection(room)
	}
}

// collection is garbage that the next collection finds.
type collection struct{ _ [16]byte }

// afterCollection sets when the next collection is, now and after each.
func afterCollection(room uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live := max(sample[0].Value.Uint64(), 1)
	percent := int(min(max(room*100/live, leastPercent), mostPercent))
	debug.SetGCPercent(percent)
	runtime.AddCleanup(&collection{}, afterCollection, room)
}
