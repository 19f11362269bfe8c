package box

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// followInterval is how often followed logs are looked at.
const followInterval = 200 * time.Millisecond

// Logs writes the last lines of a component's log, or of all of them with
// their names in front; with follow it goes on until ctx ends.
func Logs(ctx context.Context, cfg Config, component string, lines int, follow bool, out io.Writer) error {
	dir := filepath.Dir(cfg.logFile("any"))
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	var names []string
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".log"))
	}
	if len(names) == 0 {
		return fmt.Errorf("no logs in %s; %w", dir, ErrNotUp)
	}
	if component != "" {
		if !slices.Contains(names, component) {
			return fmt.Errorf("no component is named %q; there are: %s", component, list(names))
		}
		names = []string{component}
	}
	var readers []*logReader
	defer func() {
		for _, r := range readers {
			r.file.Close()
		}
	}()
	for _, name := range names {
		r := &logReader{prefix: name + ": ", out: out}
		if component != "" {
			r.prefix = ""
		}
		if r.file, err = os.Open(cfg.logFile(name)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return fmt.Errorf("open log: %w", err)
		}
		readers = append(readers, r)
		if err := r.tail(lines); err != nil {
			return fmt.Errorf("read log of %s: %w", name, err)
		}
	}
	if !follow {
		return nil
	}
	ticker := time.NewTicker(followInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, r := range readers {
			if err := r.more(); err != nil {
				return fmt.Errorf("read log %s: %w", r.file.Name(), err)
			}
		}
	}
}

type logReader struct {
	file    *os.File
	prefix  string
	partial []byte
	out     io.Writer
}

// tail writes the last lines and leaves the file at its end.
func (r *logReader) tail(lines int) error {
	last := make([]string, 0, max(lines, 0))
	scanner := bufio.NewScanner(r.file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if lines <= 0 {
			continue
		}
		if len(last) == lines {
			last = append(last[:0], last[1:]...)
		}
		last = append(last, scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	for _, line := range last {
		if _, err := fmt.Fprintln(r.out, r.prefix+line); err != nil {
			return err
		}
	}
	return nil
}

// more writes the whole lines that have been added. A log that has become
// shorter was emptied, and is read from its beginning.
func (r *logReader) more() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if info.Size() < at {
		r.partial = nil
		if _, err := r.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(r.file)
	if err != nil {
		return err
	}
	r.partial = append(r.partial, data...)
	for {
		line, rest, whole := bytes.Cut(r.partial, []byte{'\n'})
		if !whole {
			return nil
		}
		if _, err := fmt.Fprintf(r.out, "%s%s\n", r.prefix, line); err != nil {
			return err
		}
		r.partial = rest
	}
}
