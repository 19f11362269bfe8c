package vrouter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReservedFiles: whatever a crash leaves of an ADD is either a port or
// nothing.
func TestReservedFiles(t *testing.T) {
	files := portFiles{t.TempDir()}
	names := func() []string {
		entries, err := os.ReadDir(files.dir)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	unused := files.reserve()
	unused.release()
	if left := names(); len(left) != 0 {
		t.Errorf("an unused reservation left %v", left)
	}
	long := portRecord("long", "c1", "tap1", 3, "b")
	long.DisplayName = strings.Repeat("x", 2*reservedSize)
	for _, r := range []*record{portRecord("short", "c2", "tap2", 4, "b"), long} {
		v := files.reserve()
		err := v.write(r)
		v.release()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Crashes: before the record was written, in the middle, and before the
	// new name was durable, beside an earlier file of the port.
	newer := portRecord("short", "c2", "tap2", 5, "b")
	for _, r := range []*record{nil, long, newer} {
		v := files.reserve()
		<-v.made
		path := v.file.Name()
		if r != nil {
			if err := v.write(r); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(files.path(r.ID), path); err != nil {
				t.Fatal(err)
			}
		}
		if r == long {
			if err := os.Truncate(path, reservedSize); err != nil {
				t.Fatal(err)
			}
		}
		v.file.Close()
	}
	if err := files.write(long); err != nil {
		t.Fatal(err)
	}
	if err := files.write(portRecord("short", "c2", "tap2", 4, "b")); err != nil {
		t.Fatal(err)
	}
	records, err := files.load()
	if err != nil || len(records) != 2 {
		t.Fatalf("loaded %v (%v)", records, err)
	}
	for _, r := range records {
		if r.ID == "short" && r.HostIndex != 5 || r.ID == "long" && r.DisplayName != long.DisplayName {
			t.Errorf("loaded %+v", r)
		}
	}
	for _, name := range names() {
		if filepath.Ext(name) != ".json" {
			t.Errorf("left %s", name)
		}
	}
}
