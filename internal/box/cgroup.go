package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"
)

// processesIn lists the processes of the cgroups below /NAME/, in whatever
// hierarchies there are: the tasks' containers, which carry no marks.
func processesIn(cgroup string) ([]process, error) {
	roots, err := cgroupDirs(cgroup)
	if err != nil {
		return nil, err
	}
	var found []process
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil
			}
			data, _ := os.ReadFile(path)
			for _, field := range strings.Fields(string(data)) {
				pid, err := strconv.Atoi(field)
				if err != nil || slices.ContainsFunc(found, func(p process) bool { return p.pid == pid }) {
					continue
				}
				if started, _, err := readStat(filepath.Join("/proc", field)); err == nil {
					found = append(found, process{pid: pid, started: started})
				}
			}
			return nil
		})
	}
	return found, nil
}

// cgroupDirs lists the directories of a cgroup: one per version 1 hierarchy,
// and one of version 2 where it is mounted.
func cgroupDirs(cgroup string) ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, m := range mounts {
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		dir := filepath.Join(m.point, cgroup)
		if info, err := os.Stat(dir); err == nil && info.IsDir() && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// removeCgroups removes a cgroup and all below it from every hierarchy.
func removeCgroups(cgroup string) error {
	roots, err := cgroupDirs(cgroup)
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			if err := removeCgroup(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", dir, err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroup removes one empty cgroup. A process that has just ended may
// keep it busy for a moment more.
func removeCgroup(dir string) error {
	_, err := backoff.Retry(context.Background(), func() (struct{}, error) {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(10*time.Millisecond)), backoff.WithMaxElapsedTime(2*time.Second))
	return err
}
