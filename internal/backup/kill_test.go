package backup

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/store"
)

// Variables that make this test's program a restore.
const (
	helperEndpoint = "BACKUP_TEST_ENDPOINT"
	helperPrefix   = "BACKUP_TEST_PREFIX"
	helperDump     = "BACKUP_TEST_DUMP"
)

// runHelper restores a dump if the program was started for that.
func runHelper() (asked bool) {
	if os.Getenv(helperEndpoint) == "" {
		return false
	}
	err := func() error {
		s, err := store.Open(context.Background(), slog.New(slog.DiscardHandler),
			store.Config{Endpoints: []string{os.Getenv(helperEndpoint)}, Prefix: os.Getenv(helperPrefix)})
		if err != nil {
			return err
		}
		defer s.Close()
		file, err := os.Open(os.Getenv(helperDump))
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = Restore(context.Background(), s, file, Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)})
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// A restore that is killed leaves the store closed, wherever it was; the next
// one finishes it, and the epochs of both are never mixed.
func TestRestoreIsKilled(t *testing.T) {
	s := open(t)
	fill(t, s, 3000)
	before, path := content(t, s), filepath.Join(t.TempDir(), "dump")
	if _, err := DumpFile(t.Context(), s, path, "test"); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for i := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), helperEndpoint+"="+endpoint, helperPrefix+"="+lastPrefix(), helperDump+"="+path)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		epoch := uint64(i + 1)
		for closed := false; !closed; time.Sleep(time.Millisecond) {
			state, at, err := s.RestoreState(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			closed = state.Phase == store.PhaseRestoring && at.Epoch > epoch || state.Phase == store.PhaseAwaiting && at.Epoch > epoch
		}
		time.Sleep(time.Duration(i*40) * time.Millisecond) // at different places
		if err := cmd.Process.Kill(); err != nil {
			t.Log(err) // it was faster
		}
		if err := <-done; err != nil {
			killed++
			if state, _, err := s.RestoreState(t.Context()); err != nil || state.Phase == store.PhaseOpen {
				t.Fatalf("killed, the store is %s: %v", state.Phase, err)
			}
		}
	}
	if killed < 2 {
		t.Errorf("only %d restores were killed on their way", killed)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := Restore(t.Context(), s, file, Options{Rest: time.Hour, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	if after := content(t, s); !maps.Equal(before, after) {
		t.Errorf("restored: %s", difference(before, after))
	}
}

func lastPrefix() string { return fmt.Sprintf("/backup%d/", prefixes.Load()) }
