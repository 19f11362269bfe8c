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
// tenth of its speed. These give the garbage collector room of their own:
//
//	at start    little, however much there is to load
//	afterwards  more the more is kept, so that a full store writes as fast as
//	            an empty one: a collection looks at all that is kept
//	when quiet  none: what a busy time took goes back to the system

const (
	// leastRoom may be allocated between collections by any process. A store
	// that is read as a whole allocates hundreds of megabytes: less room would
	// have it collect all the time.
	leastRoom = 64 << 20
	// mostRoom bounds what a busy process takes beyond what it keeps.
	mostRoom = 512 << 20
	// roomForKept is the room for each byte that is kept, after startTime.
	roomForKept = 2
	startTime   = 10 * time.Second
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
		afterCollection(time.Now())
		go giveBack()
	}
}

// collection is garbage that the next collection finds.
type collection struct{ _ [16]byte }

// afterCollection sets when the next collection is, now and after each.
func afterCollection(started time.Time) {
	debug.SetGCPercent(percent(readMetrics("/gc/heap/live:bytes")[0], time.Since(started)))
	runtime.AddCleanup(&collection{}, afterCollection, started)
}

// percent is how much may be allocated, of what is kept, until the next
// collection.
func percent(kept uint64, sinceStart time.Duration) int {
	kept = max(kept, 1)
	room := uint64(leastRoom)
	if sinceStart > startTime {
		room = min(max(roomForKept*kept, leastRoom), mostRoom)
	}
	return int(min(max(room*100/kept, leastPercent), mostPercent))
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
