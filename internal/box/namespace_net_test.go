//go:build net

package box

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNetNamesBesideOthers: a name can be removed although somebody made the
// machine's first one with `ip netns add` after it. It runs in a mount namespace
// of its own, on which nobody has called that.
func TestNetNamesBesideOthers(t *testing.T) {
	const inside = "CONTRAIL_TEST_NAMES"
	if os.Getenv(inside) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", self, "-test.run=^TestNetNamesBesideOthers$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := unix.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	const ours, other = "contrail-names-test", "other-names-test"
	if err := ensureNamespace(ours); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := removeNamespace(ours); err != nil {
		t.Error(err)
	}
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "delete", other).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if names, err := os.ReadDir(netnsDir); err != nil || len(names) > 0 {
		t.Errorf("%s still has %v: %v", netnsDir, names, err)
	}
}
