//go:build net

package controllers_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/test/controllers"
)

// fillDisk writes a file until so many bytes are left, 0 for none at all.
func fillDisk(t *testing.T, path string, left int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	size := int64(fs.Bavail)*fs.Bsize - left
	if _, err := io.CopyN(f, zeros{}, max(size, 0)); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

type zeros struct{}

// Read fills with zeros.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A full disk refuses writes and nothing else, also when the store's process
// cannot start on it, and writes go on when it has space again.
func TestNetFullDisk(t *testing.T) {
	set := controllers.New(t, root, "a")
	m := set.Members[0]
	m.Alone, m.Disk, m.Args = true, "400m", []string{"--store-reserve", "64MiB"}
	m.Start()
	m.WaitReady()
	c := newClient(t, m)
	id := c.mustCreate(t)
	create := func() (int, string) {
		body, _ := network()
		status, text, err := c.once(http.MethodPost, "/virtual-networks", body)
		if err != nil {
			t.Fatal(err)
		}
		return status, text
	}

	fillDisk(t, m.OnDisk("filler"), 32<<20)
	eventually(t, "writes are refused", func() bool { status, _ := create(); return status == http.StatusInsufficientStorage })
	c.mustRead(t, id)
	if err := m.KillPart("config"); err != nil {
		t.Fatal(err)
	}
	m.WaitReady()
	c.mustRead(t, id)
	if status, text := create(); status != http.StatusInsufficientStorage {
		t.Errorf("create after a restart answers %d %s, want 507", status, text)
	}
	if err := os.Remove(m.OnDisk("filler")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes go on", func() bool { status, _ := create(); return status == http.StatusOK })

	// No byte is left and the store dies: reads go on from memory.
	fillDisk(t, m.OnDisk("filler"), 0)
	if err := m.KillPart("store"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.mustRead(t, id)
		time.Sleep(50 * time.Millisecond)
	}
	if status, text := create(); status != http.StatusInsufficientStorage && status != http.StatusServiceUnavailable {
		t.Errorf("create without any space answers %d %s, want 507 or 503", status, text)
	}
	if err := os.Remove(m.OnDisk("filler")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "writes go on", func() bool { status, _ := create(); return status == http.StatusOK })
}
