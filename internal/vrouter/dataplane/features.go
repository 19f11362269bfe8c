package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// checkKernel says in a plain sentence what the kernel or the process lacks.
// The tcx hook is found missing by attaching.
func checkKernel() error {
	helpers := []struct {
		name  string
		fn    asm.BuiltinFunc
		since string
	}{
		{"bpf_redirect_peer", asm.FnRedirectPeer, "5.10"},
		{"bpf_redirect_neigh", asm.FnRedirectNeigh, "5.10"},
		{"bpf_ktime_get_coarse_ns", asm.FnKtimeGetCoarseNs, "5.11"},
		{"bpf_check_mtu", asm.FnCheckMtu, "5.12"},
	}
	for _, h := range helpers {
		err := features.HaveProgramHelper(ebpf.SchedCLS, h.fn)
		if err := explain(err, "the BPF helper "+h.name, h.since); err != nil {
			return err
		}
	}
	types := []struct {
		name  string
		t     ebpf.MapType
		since string
	}{
		{"LPM tries", ebpf.LPMTrie, "4.11"},
		{"per-CPU hashes", ebpf.PerCPUHash, "4.6"},
	}
	for _, m := range types {
		if err := explain(features.HaveMapType(m.t), "BPF "+m.name, m.since); err != nil {
			return err
		}
	}
	return nil
}

func explain(err error, what, since string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("kernel %s lacks %s (Linux %s or later)", release(), what, since)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, os.ErrPermission):
		return fmt.Errorf("bpf is not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN: %w", err)
	}
	return fmt.Errorf("probe kernel for %s: %w", what, err)
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of this machine"
	}
	return unix.ByteSliceToString(u.Release[:])
}
