//go:build net

package kernel

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// All tests of the data plane take an hour where the machine is emulated: each has
// programs verified anew.
var (
	tests = flag.String("machine.tests", "^TestNetSmoke$", "`pattern` of the tests of internal/vrouter/dataplane that run in the machine")
	limit = flag.Duration("machine.limit", 10*time.Minute, "`time` that the machine may take")
)

func TestNetForwardsOnDebiansKernel(t *testing.T) {
	kernel := filepath.Join(repository, "bin", "tools", "debian-kernel")
	if _, err := os.Stat(filepath.Join(kernel, "vmlinuz")); err != nil {
		t.Fatalf("%v: run `make setup`", err)
	}
	i := newImage(t)
	i.copy("/bin/busybox", "bin/busybox")
	i.copy(filepath.Join(kernel, "lib"), "lib")
	for _, name := range []string{"ip", "bridge", "ping", "ethtool", "bpftool", "tcpdump"} {
		i.program(name)
	}
	i.copy("testdata/init", "init")
	i.must(os.Chmod(filepath.Join(i.root, "init"), 0o755))
	i.must(os.WriteFile(filepath.Join(i.root, "tests", "run"), []byte(*tests), 0o644))
	build := exec.Command("go", "test", "-c", "-tags", "net", "-ldflags", "-s -w",
		"-o", filepath.Join(i.root, "tests", "dataplane.test"), "./internal/vrouter/dataplane")
	build.Dir = repository
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the tests: %v: %s", err, out)
	}

	console := boot(t, filepath.Join(kernel, "vmlinuz"), i.pack())
	release := regexp.MustCompile(`kernel: (\S+)`).FindStringSubmatch(console)
	passed := regexp.MustCompile(`(?m)--- PASS: .*$`).FindAllString(console, -1)
	if release == nil || len(passed) == 0 || strings.Contains(console, "--- SKIP") || !strings.Contains(console, "verdict: 0") {
		t.Fatalf("the tests have not all passed on the kernel:\n%s", console)
	}
	t.Logf("kernel %s:\n%s", release[1], strings.Join(passed, "\n"))
}
