package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachLink puts prog on the ingress or egress of the device by a tcx link and pins
// that, or replaces the program of the pinned link in one step, without a
// packet passing unseen. It is for the underlay, which is attached once. The
// error is ErrNotSupported where the kernel has no tcx hook.
func attachLink(ifindex int, prog *ebpf.Program, at ebpf.AttachType, pin string) error {
	adopted, err := adoptLink(ifindex, prog, pin)
	if adopted || err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: prog, Attach: at,
	})
	if err != nil {
		return fmt.Errorf("attach program to interface %d: %w", ifindex, err)
	}
	defer l.Close()
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin link: %w", err)
	}
	return nil
}

// adoptLink updates the pinned link if it is one of the interface, else it
// removes the pin: the device it was of is gone.
func adoptLink(ifindex int, prog *ebpf.Program, pin string) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	at, err := linkInterface(l)
	if err != nil {
		return false, fmt.Errorf("read pinned link %s: %w", pin, err)
	}
	if at == ifindex {
		if err := l.Update(prog); err != nil {
			return false, fmt.Errorf("replace program of %s: %w", pin, err)
		}
		return true, nil
	}
	if err := l.Unpin(); err != nil {
		return false, fmt.Errorf("unpin %s: %w", pin, err)
	}
	return false, nil
}

// linkInterface returns the index of the link's device, 0 when that is gone.
func linkInterface(l link.Link) (int, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	t := info.TCX()
	if t == nil {
		return 0, fmt.Errorf("not a tcx link")
	}
	return int(t.Ifindex), nil
}

// detachLink removes the pinned link; absent is success.
func detachLink(pin string) error {
	// The link ends with its last reference. Other holders, such as a process
	// that lists links, may still have one: so it is detached explicitly.
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	if d, ok := l.(interface{ Detach() error }); ok {
		if at, err := linkInterface(l); err == nil && at != 0 {
			if err := d.Detach(); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("detach %s: %w", pin, err)
			}
		}
	}
	if err := l.Unpin(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin %s: %w", pin, err)
	}
	return nil
}

// linkLives says whether the pinned link still has a device.
func linkLives(pin string) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	at, err := linkInterface(l)
	if err != nil {
		return false, fmt.Errorf("read pinned link %s: %w", pin, err)
	}
	return at != 0, nil
}
