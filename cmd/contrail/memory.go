package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// By Go's default a process occupies twice what it keeps, which is too much for
// one that keeps all objects, and collects garbage after every few megabytes
// where it keeps little, which costs a store or an API that is not full yet a
// tenth of its speed. These give the garbage collector a fixed room instead,
// and what a busy time took goes back to the system when it is over.

const (
	// garbageRoom is what may be allocated between collections. A store that
	// is read as a whole allocates hundreds of megabytes: less room would have
	// it collect all the time.
	garbageRoom = 64 << 20
	// leastPercent bounds what the collector costs where the heap is huge.
	leastPercent = 20
	mostPercent  = 1000

	// A process is quiet when it allocates less than quietBytes in quietTime. It
	// gives memory back when that is at least worthwhile.
	quietTime  = time.Second
	quietBytes = 2 << 20
	worthwhile = 12 << 20
)

// boundGarbage bounds the memory of this process beyond what it keeps, unless
// the environment sets GOGC.
func boundGarbage() {
	if os.Getenv("GOGC") == "" {
		afterCollection(garbageRoom)
		go giveBack()
	}
}

// collection is garbage that the next collection finds.
type collection struct{ _ [16]byte }

// afterCollection sets when the next collection is, now and after each.
func afterCollection(room uint64) {
	live := max(readMetrics("/gc/heap/live:bytes")[0], 1)
	debug.SetGCPercent(int(min(max(room*100/live, leastPercent), mostPercent)))
	runtime.AddCleanup(&collection{}, afterCollection, room)
}

// giveBack returns unused memory whenever the process is quiet.
func giveBack() {
	var before uint64
	for range time.Tick(quietTime) {
		m := readMetrics("/gc/heap/allocs:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/free:bytes")
		allocated, occupied, live, free := m[0]-before, m[1], m[2], m[3]
		before = m[0]
		if allocated < quietBytes && occupied+free > live+worthwhile {
			debug.FreeOSMemory()
		}
	}
}

func readMetrics(names ...string) []uint64 {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	values := make([]uint64, len(names))
	for i := range samples {
		values[i] = samples[i].Value.Uint64()
	}
	return values
}
