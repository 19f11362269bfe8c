//go:build net

package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNetWhiteouts(t *testing.T) {
	dir := t.TempDir()
	err := unpack(bytes.NewReader(archive(t,
		tar.Header{Name: "etc/.wh.passwd"},
		tar.Header{Name: "var/.wh..wh..opq"},
		tar.Header{Name: ".wh..wh.plnk"},
	)), dir, defaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(filepath.Join(dir, "etc/passwd"))
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || info.Sys().(*syscall.Stat_t).Rdev != 0 {
		t.Errorf("whiteout: %v %v", info, err)
	}
	var value [8]byte
	if n, err := unix.Getxattr(filepath.Join(dir, "var"), "trusted.overlay.opaque", value[:]); err != nil || string(value[:n]) != "y" {
		t.Errorf("opaque: %q %v", value[:], err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("entries: %v", entries)
	}
}
