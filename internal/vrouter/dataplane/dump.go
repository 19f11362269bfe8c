package dataplane

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// Interrupted dumps are tried again so often, after a pause that grows by the
// first one each time: 2.5 s together.
const (
	dumpTries = 50
	dumpPause = 2 * time.Millisecond
)

// Dump lists what the kernel has of something, whole. While others make and
// remove as many the kernel says that its answer may lack some, and what is missing
// from it is no evidence: it is asked again, later each time.
func Dump[T any](list func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == dumpTries {
			return all, err
		}
		time.Sleep(time.Duration(try) * dumpPause)
	}
}
