package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// logLimit is how large a component's log grows, in bytes, before it is
	// moved aside; one older is kept beside it.
	logLimit = 16 << 20
	// rotation is how often the logs' sizes are looked at.
	rotation = 10 * time.Second
)

// rotate keeps the logs bounded until ctx ends.
func (s *Supervisor) rotate(ctx context.Context) {
	ticker := time.NewTicker(rotation)
	defer ticker.Stop()
	for {
		if err := rotateLogs(filepath.Dir(s.cfg.logFile("any")), logLimit); err != nil {
			s.log.Error("logs not rotated", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// rotateLogs copies each log beyond the limit to NAME.log.1 and empties it. The
// writers know nothing of it: they have it open for appending, also those that
// an earlier supervisor started.
func rotateLogs(dir string, limit int64) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	var failed []error
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Size() > limit {
			err = rotateLog(path)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("rotate %s: %w", path, err))
		}
	}
	return errors.Join(failed...)
}

func rotateLog(path string) error {
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return from.Truncate(0)
}
