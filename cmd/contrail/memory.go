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
	// mostRoom bounds what a busy store or API takes beyond what it keeps, and
	// mostControlRoom a control node, which keeps as much and throws away less:
	// more only as long as it occupies no more than usualControl in all.
	mostRoom        = 512 << 20
	mostControlRoom = 96 << 20
	usualControl    = 384 << 20
	// roomForKept is the room for each byte that is kept, after startTime.
	roomForKept = 3
	startTime   = 10 * time.Second
	// leastPercent bounds what the collector costs where the heap is huge.
	leastPercent = 20
	mostPercent  = 1000

	// A process is quiet when it allocates less than quietBytes in each quietTime.
	// It gives memory back when that is at least worthwhile: at once what its
	// start took, later after quietTimes. One that is busy every few seconds
	// would only get it again, page by page.
	quietTime  = time.Second
	quietTimes = 10
	quietBytes = 2 << 20
	worthwhile = 12 << 20
)

// boundGarbage bounds the memory of this process beyond what it keeps, unless
// the environment sets GOGC.
func boundGarbage(b bounds) {
	if os.Getenv("GOGC") == "" {
		b.started = time.Now()
		afterCollection(b)
		go giveBack()
	}
}

// collection is garbage that the next collection finds.
type collection struct{ _ [16]byte }

// bounds are those of a process.
type bounds struct {
	started time.Time
	// most is the most room, or what is left of usual, if that is more.
	most, usual uint64
}

var storeBounds, controlBounds = bounds{most: mostRoom}, bounds{most: mostControlRoom, usual: usualControl}

// afterCollection sets when the next collection is, now and after each.
func afterCollection(b bounds) {
	debug.SetGCPercent(b.percent(readMetrics("/gc/heap/live:bytes")[0], time.Now()))
	runtime.AddCleanup(&collection{}, afterCollection, b)
}

// percent is how much may be allocated, of what is kept, until the next
// collection.
func (b bounds) percent(kept uint64, now time.Time) int {
	kept = max(kept, 1)
	room := uint64(leastRoom)
	if now.Sub(b.started) > startTime {
		room = min(max(roomForKept*kept, leastRoom), max(b.most, b.usual-min(kept, b.usual)))
	}
	return int(min(max(room*100/kept, leastPercent), mostPercent))
}

// giveBack returns unused memory whenever the process is quiet.
func giveBack() {
	var before uint64
	var q quiet
	started := time.Now()
	for range time.Tick(quietTime) {
		m := readMetrics("/gc/heap/allocs:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes", "/memory/classes/heap/free:bytes")
		allocated, occupied, live, free := m[0]-before, m[1], m[2], m[3]
		before = m[0]
		if q.gives(time.Since(started) < startTime, allocated, int64(occupied+free)-int64(live)) {
			debug.FreeOSMemory()
		}
	}
}

// quiet tells when it has been quiet for long enough.
type quiet struct {
	// times of quietTime that it has been quiet.
	times int
	// over is set when what the start took was given back.
	over bool
}

// gives tells whether to give memory back now, by what was allocated in the last
// quietTime and what is unused. starting is set for a startTime; a start may
// take longer.
func (q *quiet) gives(starting bool, allocated uint64, unused int64) bool {
	if allocated >= quietBytes {
		q.times = 0
		return false
	}
	q.times++
	if q.over && q.times < quietTimes || unused <= worthwhile {
		return false
	}
	q.times, q.over = 0, !starting
	return true
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
