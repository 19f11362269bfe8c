package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// floor is said to whoever has a kernel that lacks something: the oldest one
// that is tested. Others may do, as far as the probes find nothing missing.
const floor = "Contrail needs Linux 6.1 or later, as Debian 12 has"

// CheckKernel says in a plain sentence what the kernel, or the process, lacks of
// what the data plane needs. The tcx hook is no part of that.
func CheckKernel() error {
	helpers := []struct {
		name  string
		fn    asm.BuiltinFunc
		since string
	}{
		{"bpf_redirect_peer", asm.FnRedirectPeer, "5.10"},
		{"bpf_redirect_neigh", asm.FnRedirectNeigh, "5.10"},
		{"bpf_ktime_get_coarse_ns", asm.FnKtimeGetCoarseNs, "5.11"},
		{"bpf_check_mtu", asm.FnCheckMtu, "5.12"},
		{"bpf_loop", asm.FnLoop, "5.17"},
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
	return probeFilters()
}

func explain(err error, what, since string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("kernel %s lacks %s (Linux %s or later): %s", release(), what, since, floor)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, os.ErrPermission):
		return fmt.Errorf("bpf is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN: %w", err)
	}
	return fmt.Errorf("probe kernel for %s: %w", what, err)
}

// explainLoad tells of a kernel that loads no programs such as ours whatever is
// in them.
func explainLoad(err error) error {
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) && strings.Contains(strings.Join(verifier.Log, "\n"), "non-JITed") {
		return fmt.Errorf("the kernel's BPF compiler is off: switch it on with sysctl net.core.bpf_jit_enable=1: %w", err)
	}
	return err
}

// probeFilters tries whether devices can have filters, which modules of the
// kernel do: on the loopback of a network namespace that ends at once.
func probeFilters() error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			failed <- fmt.Errorf("probe kernel for filters: %w", err)
			return
		}
		defer home.Close()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = explain(fmt.Errorf("make a network namespace: %w", err), "filters", "4.5")
		} else {
			err = tryFilter()
		}
		// A thread that cannot go back ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		failed <- err
	}()
	return <-failed
}

func tryFilter() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("probe kernel for filters: load program: %w", err)
	}
	defer program.Close()
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("probe kernel for filters: %w", err)
	}
	defer links.Close()
	const loopback = 1 // the first device of every namespace
	if err := putFilter(links, loopback, netlink.HANDLE_MIN_INGRESS, program, "probe"); err != nil {
		return fmt.Errorf("probe kernel %s for filters: %w", release(), err)
	}
	return nil
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of this machine"
	}
	return unix.ByteSliceToString(u.Release[:])
}
