package container

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// kept is what root in a container may still do. No CAP_SYS_ADMIN, no
// CAP_NET_ADMIN and no CAP_MKNOD: a container can neither mount, nor change its
// interfaces, nor make device nodes.
var kept = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER,
	unix.CAP_NET_RAW, unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETFCAP,
	unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT,
	unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
}

// dropCapabilities narrows the bounding set of the calling thread, so that what
// it executes has no more than kept.
func dropCapabilities() error {
	for c := uintptr(0); c < 64; c++ {
		if slices.Contains(kept, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // beyond the last capability of this kernel
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
