package vrouter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// portFiles is the directory that holds a file per port.
type portFiles struct{ dir string }

func (f portFiles) path(id string) string { return filepath.Join(f.dir, id+".json") }

// write returns when the record would survive a power failure.
func (f portFiles) write(r *record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write file of port %s: %w", r.ID, err)
	}
	if err := portapi.WriteDurably(f.path(r.ID), data); err != nil {
		return fmt.Errorf("write file of port %s: %w", r.ID, err)
	}
	return nil
}

// remove need not be durable: a file that comes back is of an interface that is
// gone, and is removed again.
func (f portFiles) remove(id string) error {
	if err := os.Remove(f.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove file of port %s: %w", id, err)
	}
	return nil
}

// load returns all ports; what cannot be read is reported beside them.
func (f portFiles) load() ([]*record, error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("load ports: %w", err)
	}
	if err := f.finish(); err != nil {
		return nil, fmt.Errorf("load ports: %w", err)
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("load ports: %w", err)
	}
	var records []*record
	var bad []error
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		r := &record{}
		if err == nil {
			err = json.Unmarshal(data, r)
		}
		if err == nil && r.ID+".json" != name {
			err = fmt.Errorf("names port %q", r.ID)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("load ports: %s: %w", name, err))
			continue
		}
		records = append(records, r)
	}
	return records, errors.Join(bad...)
}

const (
	// reservedSuffix marks files of ports whose id was not known yet.
	reservedSuffix = ".add"
	// reservedSize fits nearly all records, and a block of the disk.
	reservedSize = 4096
)

// reservation is the file of a port that is on its way: name and room are made
// durable while the manager is asked, so that the record itself costs one write
// in place. A file of blanks, or one written in part, is of an ADD that was not
// answered.
type reservation struct {
	files portFiles
	made  chan struct{}
	file  *os.File
	err   error
}

func (f portFiles) reserve() *reservation {
	v := &reservation{files: f, made: make(chan struct{})}
	go func() {
		defer close(v.made)
		v.err = v.make()
	}()
	return v
}

func (v *reservation) make() (err error) {
	if v.file, err = os.CreateTemp(v.files.dir, "*"+reservedSuffix); err != nil {
		return err
	}
	_, err = v.file.Write(bytes.Repeat([]byte(" "), reservedSize))
	return errors.Join(err, v.file.Sync(), portapi.SyncDir(v.files.dir))
}

// write returns when the record would survive a power failure. The name by
// which that is may be the reserved one: load knows both.
func (v *reservation) write(r *record) error {
	<-v.made
	data, err := json.MarshalIndent(r, "", "  ")
	if err = errors.Join(v.err, err); err == nil {
		_, err = v.file.WriteAt(data, 0)
	}
	if err == nil {
		err = unix.Fdatasync(int(v.file.Fd()))
	}
	if err == nil {
		err = os.Rename(v.file.Name(), v.files.path(r.ID))
	}
	if err != nil {
		return fmt.Errorf("write file of port %s: %w", r.ID, err)
	}
	return nil
}

// release ends a reservation. What was not written leaves nothing, or what
// finish removes.
func (v *reservation) release() {
	<-v.made
	if v.file != nil {
		_ = os.Remove(v.file.Name()) // it has another name if it was written
		_ = v.file.Close()
	}
}

// finish gives reserved files that are complete their names: they are newer
// than what has the name already. The others were not answered for.
func (f portFiles) finish() error {
	reserved, err := filepath.Glob(filepath.Join(f.dir, "*"+reservedSuffix))
	if err != nil {
		return err
	}
	for _, path := range reserved {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		r := &record{}
		if json.Unmarshal(data, r) != nil || r.ID == "" {
			err = os.Remove(path)
		} else {
			err = os.Rename(path, f.path(r.ID))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
