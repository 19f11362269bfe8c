package serve

import (
	"sync"
	"time"
)

// Limiter admits a few lines of a log in each interval, so that a stranger's
// requests do not fill the disk. The zero value is ready.
type Limiter struct {
	mu     sync.Mutex
	since  time.Time
	passed int
	silent int
}

const (
	limitInterval = 10 * time.Second
	limitLines    = 20
)

// Admit tells whether a line may be logged now, and how many were not before it.
func (l *Limiter) Admit(now time.Time) (silent int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= limitInterval {
		l.since, l.passed = now, 0
	}
	if l.passed >= limitLines {
		l.silent++
		return 0, false
	}
	l.passed++
	silent, l.silent = l.silent, 0
	return silent, true
}
