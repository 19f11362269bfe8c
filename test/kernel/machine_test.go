//go:build net

package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// repository is the root of the sources, from this package's directory.
const repository = "../.."

// image is the file system that the machine starts with.
type image struct {
	t    *testing.T
	root string
}

func newImage(t *testing.T) *image {
	t.Helper()
	i := &image{t, t.TempDir()}
	for _, dir := range []string{"bin", "tests", "usr/bin", "usr/sbin"} {
		i.must(os.MkdirAll(filepath.Join(i.root, dir), 0o755))
	}
	return i
}

func (i *image) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

// copy puts a file, or a directory with all in it, at a path.
func (i *image) copy(from, to string) {
	i.t.Helper()
	to = filepath.Join(i.root, to)
	i.must(os.MkdirAll(filepath.Dir(to), 0o755))
	if out, err := exec.Command("cp", "-rL", from, to).CombinedOutput(); err != nil {
		i.t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// program puts a program of this machine there, with the libraries it needs.
func (i *image) program(name string) {
	i.t.Helper()
	path, err := exec.LookPath(name)
	i.must(err)
	i.copy(path, "usr/bin/"+name)
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") {
			return
		}
		i.t.Fatalf("libraries of %s: %v: %s", path, err, out)
	}
	for _, match := range library.FindAllStringSubmatch(string(out), -1) {
		i.copy(match[1], match[1])
	}
}

// pack makes the archive that a kernel unpacks, and returns its path.
func (i *image) pack() string {
	i.t.Helper()
	archive := filepath.Join(i.t.TempDir(), "initramfs")
	cmd := exec.Command("sh", "-c", `find . | busybox cpio -o -H newc >"$0"`, archive)
	cmd.Dir = i.root
	if out, err := cmd.CombinedOutput(); err != nil {
		i.t.Fatalf("pack the file system: %v: %s", err, out)
	}
	return archive
}

var errSilent = errors.New("the machine says nothing")

// boot runs a machine until it switches itself off, and returns what its console
// said. It tries KVM where that is offered: some machines have the device and
// no working one behind it.
func boot(t *testing.T, kernel, initramfs string) string {
	t.Helper()
	if kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
		kvm.Close()
		out, err := run(t, 10*time.Second, kernel, initramfs, "-accel", "kvm", "-cpu", "host")
		if err == nil {
			return out
		}
		if !errors.Is(err, errSilent) {
			t.Fatalf("machine with KVM: %v\n%s", err, out)
		}
		t.Log("KVM does not work here: the machine is emulated")
	}
	out, err := run(t, *limit, kernel, initramfs, "-accel", "tcg", "-cpu", "max")
	if err != nil {
		t.Fatalf("emulated machine: %v\n%s", err, out)
	}
	return out
}

// run is boot on one kind of machine. One that has said nothing after patience
// ends with errSilent.
func run(t *testing.T, patience time.Duration, kernel, initramfs string, kind ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), *limit, errors.New("the machine has not ended in time"))
	defer cancel()
	ctx, silent := context.WithCancelCause(ctx)
	watch := time.AfterFunc(patience, func() { silent(errSilent) })
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(kind,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "2", "-m", "1536",
		"-kernel", kernel, "-initrd", initramfs, "-serial", "stdio",
		"-append", "console=ttyS0 quiet panic=-1 oops=panic no_timer_check")...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%w: run `make setup`", err)
	}
	var console strings.Builder
	start := time.Now()
	lines := bufio.NewReader(io.LimitReader(pipe, 64<<20))
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			watch.Stop()
			fmt.Fprintf(&console, "%6.2f %s\n", time.Since(start).Seconds(), strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil && complaint.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return console.String(), err
}
