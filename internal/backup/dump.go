package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/contrail-mesos/contrail/internal/store"
)

// Summary is what a dump holds.
type Summary struct {
	Header
	Trailer
}

// Dump writes the store as of now.
func Dump(ctx context.Context, s *store.Store, w io.Writer, program string) (Summary, error) {
	state, at, err := s.RestoreState(ctx)
	if err != nil {
		return Summary{}, err
	}
	if state.Phase == store.PhaseRestoring {
		return Summary{}, errors.New("the store is in the middle of a restore; run `contrail db restore` to its end first")
	}
	header := Header{Kind: kind, Format: formatVersion, Program: program, Created: time.Now().UTC().Truncate(time.Second), Epoch: at.Epoch, Revision: int64(at.Revision)}
	out, err := NewWriter(w, header)
	if err != nil {
		return Summary{}, err
	}
	left := map[store.Lease]int64{}
	err = s.Scan(ctx, header.Revision, func(entries []store.Entry) error {
		for _, e := range entries {
			if !isDumped(e.Key.Space()) {
				continue
			}
			r := Record{Key: e.Key, Value: e.Value}
			if e.Lease != 0 {
				var err error
				if r.SecondsLeft, err = secondsLeft(ctx, s, left, e.Lease); err != nil {
					return err
				}
				if r.SecondsLeft == 0 {
					continue // its end has come since
				}
			}
			if err := out.Write(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Summary{}, err
	}
	trailer, err := out.Close()
	return Summary{header, trailer}, err
}

func secondsLeft(ctx context.Context, s *store.Store, known map[store.Lease]int64, lease store.Lease) (int64, error) {
	if n, ok := known[lease]; ok {
		return n, nil
	}
	n, err := s.SecondsLeft(ctx, lease)
	if err != nil {
		return 0, err
	}
	known[lease] = int64(n)
	return int64(n), nil
}

// dumpTries bounds how often a dump is begun anew because its revision was
// compacted under it.
const dumpTries = 3

// DumpFile is Dump to a file, which appears whole or not at all. Only its
// owner may read it: it holds secrets.
func DumpFile(ctx context.Context, s *store.Store, path, program string) (Summary, error) {
	var summary Summary
	var err error
	for range dumpTries {
		if summary, err = dumpOnce(ctx, s, path, program); !store.IsCompacted(err) {
			break
		}
	}
	if err != nil {
		return Summary{}, fmt.Errorf("dump to %s: %w", path, err)
	}
	return summary, nil
}

func dumpOnce(ctx context.Context, s *store.Store, path, program string) (summary Summary, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return Summary{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	summary, err = Dump(ctx, s, file, program)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return Summary{}, err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return Summary{}, err
	}
	return summary, syncDir(filepath.Dir(path))
}

// syncDir makes a rename outlive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Verify reads a dump to its end.
func Verify(r io.Reader) (Summary, error) {
	in, err := NewReader(r)
	if err != nil {
		return Summary{}, err
	}
	for {
		_, err := in.Next()
		if errors.Is(err, io.EOF) {
			return Summary{in.Header, in.Trailer()}, nil
		}
		if err != nil {
			return Summary{}, err
		}
	}
}
