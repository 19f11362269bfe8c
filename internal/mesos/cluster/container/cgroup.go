package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's files are used directly rather than through a library: what a
// library cannot do is put a command into its cgroups without its PID 1.

const cgroupRoot = "/sys/fs/cgroup"

// Limits of a container. Zero fields are not limited.
type Limits struct {
	// CPUs are the shares of the processor; with CPUQuota also the most it gets.
	CPUs     float64
	CPUQuota bool
	// Memory in bytes, page cache included.
	Memory int64
	// Processes and threads at a time.
	Processes int64
}

// Group is the cgroup of one container: a directory per controller (version 1,
// also where the host is hybrid) or one (version 2).
type Group struct {
	unified string
	byName  map[string]string
}

// Entry says how a command gets into a cgroup; part of Spec.
type Entry struct {
	// Unified is a directory of version 2.
	Unified string `json:"unified,omitempty"`
	// Tasks are the files of version 1 that take a thread's id.
	Tasks []string `json:"tasks,omitempty"`
}

// controllers of version 1 that are used where they exist.
var controllers = []string{"cpu", "cpuacct", "memory", "pids"}

// OpenGroup names the cgroup at path, relative to the root of each hierarchy.
func OpenGroup(path string) *Group {
	var fsType unix.Statfs_t
	if unix.Statfs(cgroupRoot, &fsType) == nil && fsType.Type == unix.CGROUP2_SUPER_MAGIC {
		return &Group{unified: filepath.Join(cgroupRoot, path)}
	}
	g := &Group{byName: map[string]string{}}
	for _, name := range controllers {
		mount := filepath.Join(cgroupRoot, name)
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err == nil {
			g.byName[name] = filepath.Join(mount, path)
		}
	}
	return g
}

// CreateGroup makes the cgroup at path with limits. Making it again changes the limits.
func CreateGroup(path string, limits Limits) (*Group, error) {
	g := OpenGroup(path)
	if err := g.create(path, limits); err != nil {
		return nil, errors.Join(fmt.Errorf("make cgroup %s: %w", path, err), g.rmdir())
	}
	return g, nil
}

func (g *Group) create(path string, limits Limits) error {
	if g.unified != "" {
		return g.createUnified(path, limits)
	}
	for _, dir := range g.byName {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if dir := g.byName["cpu"]; dir != "" && limits.CPUs > 0 {
		shares := max(2, int64(math.Round(limits.CPUs*1024)))
		if err := set(dir, "cpu.shares", shares); err != nil {
			return err
		}
		if limits.CPUQuota {
			if err := errors.Join(set(dir, "cpu.cfs_period_us", period),
				set(dir, "cpu.cfs_quota_us", quota(limits.CPUs))); err != nil {
				return err
			}
		}
	}
	if dir := g.byName["memory"]; dir != "" && limits.Memory > 0 {
		if err := set(dir, "memory.limit_in_bytes", limits.Memory); err != nil {
			return err
		}
		// Without swap accounting the file is missing, and so is swap or its limit.
		if err := set(dir, "memory.memsw.limit_in_bytes", limits.Memory); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if dir := g.byName["pids"]; dir != "" && limits.Processes > 0 {
		return set(dir, "pids.max", limits.Processes)
	}
	return nil
}

func (g *Group) createUnified(path string, limits Limits) error {
	dir := cgroupRoot
	for _, name := range strings.Split(filepath.Clean(path), "/") {
		// Each parent has to hand the controllers on.
		for _, controller := range []string{"+cpu", "+memory", "+pids"} {
			if err := write(dir, "cgroup.subtree_control", controller); err != nil {
				return err
			}
		}
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if limits.CPUs > 0 {
		weight := min(10000, max(1, int64(math.Round(limits.CPUs*100))))
		if err := set(dir, "cpu.weight", weight); err != nil {
			return err
		}
		if limits.CPUQuota {
			if err := write(dir, "cpu.max", fmt.Sprintf("%d %d", quota(limits.CPUs), period)); err != nil {
				return err
			}
		}
	}
	if limits.Memory > 0 {
		if err := set(dir, "memory.max", limits.Memory); err != nil {
			return err
		}
		if err := set(dir, "memory.swap.max", 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if limits.Processes > 0 {
		return set(dir, "pids.max", limits.Processes)
	}
	return nil
}

// period in microseconds in which the quota is counted.
const period = 100_000

// quota in microseconds; the kernel takes no less than a millisecond.
func quota(cpus float64) int64 { return max(1000, int64(math.Round(cpus*period))) }

// Entry of the cgroup for a Spec.
func (g *Group) Entry() Entry {
	if g.unified != "" {
		return Entry{Unified: g.unified}
	}
	var e Entry
	for _, name := range controllers {
		if dir := g.byName[name]; dir != "" {
			e.Tasks = append(e.Tasks, filepath.Join(dir, "tasks"))
		}
	}
	return e
}

// Add moves a whole process in.
func (g *Group) Add(pid int) error {
	for _, dir := range g.dirs() {
		if err := set(dir, "cgroup.procs", int64(pid)); err != nil {
			return fmt.Errorf("add process %d to cgroup: %w", pid, err)
		}
	}
	return nil
}

func (g *Group) dirs() []string {
	if g.unified != "" {
		return []string{g.unified}
	}
	dirs := make([]string, 0, len(g.byName))
	for _, name := range controllers {
		if dir := g.byName[name]; dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Usage of a container so far.
type Usage struct {
	// UserSeconds and SystemSeconds of processor time.
	UserSeconds, SystemSeconds float64
	// Memory, MemoryPeak and MemoryLimit in bytes; RSS is without page cache.
	Memory, MemoryPeak, MemoryLimit, RSS, Cache int64
	// OOMKills is how many processes the kernel killed for lack of memory.
	OOMKills int64
}

// Usage reads the counters; what cannot be read is zero.
func (g *Group) Usage() Usage {
	var u Usage
	if g.unified != "" {
		cpu, memory := table(g.unified, "cpu.stat"), table(g.unified, "memory.stat")
		u.UserSeconds, u.SystemSeconds = float64(cpu["user_usec"])/1e6, float64(cpu["system_usec"])/1e6
		u.Memory, u.MemoryPeak, u.MemoryLimit = get(g.unified, "memory.current"), get(g.unified, "memory.peak"), get(g.unified, "memory.max")
		u.RSS, u.Cache = memory["anon"], memory["file"]
		u.OOMKills = table(g.unified, "memory.events")["oom_kill"]
		return u
	}
	if dir := g.byName["cpuacct"]; dir != "" {
		// cpuacct.stat counts in USER_HZ, which is 100 on every Linux of Go.
		stat := table(dir, "cpuacct.stat")
		u.UserSeconds, u.SystemSeconds = float64(stat["user"])/100, float64(stat["system"])/100
	}
	if dir := g.byName["memory"]; dir != "" {
		stat := table(dir, "memory.stat")
		u.Memory, u.MemoryPeak, u.MemoryLimit = get(dir, "memory.usage_in_bytes"), get(dir, "memory.max_usage_in_bytes"), get(dir, "memory.limit_in_bytes")
		u.RSS, u.Cache = stat["total_rss"], stat["total_cache"]
		u.OOMKills = table(dir, "memory.oom_control")["oom_kill"]
	}
	return u
}

// Destroy kills every process inside and removes the cgroup. Destroying what
// does not exist is success.
func (g *Group) Destroy(ctx context.Context) error {
	for {
		pids, err := g.processes()
		if err != nil {
			return fmt.Errorf("list processes of cgroup: %w", err)
		}
		for _, pid := range pids {
			if err := killAndWait(ctx, pid); err != nil {
				return fmt.Errorf("kill process %d of cgroup: %w", pid, err)
			}
		}
		if len(pids) == 0 {
			break
		}
	}
	// A process that has just died may still be accounted for an instant.
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		err := g.rmdir()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup: %w", errors.Join(err, ctx.Err()))
		case <-retry.C:
		}
	}
}

func (g *Group) rmdir() error {
	var errs []error
	for _, dir := range g.dirs() {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Processes lists who is inside.
func (g *Group) processes() ([]int, error) {
	var pids []int
	for _, dir := range g.dirs() {
		f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		scanner := bufio.NewScanner(f)
		for scanner.Scan() {
			if pid, err := strconv.Atoi(scanner.Text()); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		f.Close()
		if errors.Is(scanner.Err(), unix.ENODEV) {
			continue // removed while it was read
		}
		if scanner.Err() != nil {
			return nil, scanner.Err()
		}
	}
	return pids, nil
}

func killAndWait(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return WaitPidfd(ctx, fd)
}

// WaitPidfd blocks until the process of fd is dead, looking at ctx four times a second.
func WaitPidfd(ctx context.Context, fd int) error {
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 250)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}

// openEntry is an Entry whose files were opened before the root changed.
type openEntry struct{ files []*os.File }

func (e Entry) open() (*openEntry, error) {
	o := &openEntry{}
	names, mode := e.Tasks, os.O_WRONLY
	if e.Unified != "" {
		names, mode = []string{e.Unified}, os.O_RDONLY
	}
	for _, name := range names {
		f, err := os.OpenFile(name, mode, 0)
		if err != nil {
			o.close()
			return nil, fmt.Errorf("enter cgroup: %w", err)
		}
		o.files = append(o.files, f)
	}
	return o, nil
}

func (o *openEntry) close() {
	for _, f := range o.files {
		f.Close()
	}
}

// join makes the next fork of the calling thread start in the cgroup. With
// version 1 the thread itself joins: children inherit from their thread, while
// the memory of this process stays accounted where its main thread is.
func (o *openEntry) join(attr *syscall.SysProcAttr) error {
	if len(o.files) == 1 {
		if info, err := o.files[0].Stat(); err == nil && info.IsDir() {
			attr.UseCgroupFD, attr.CgroupFD = true, int(o.files[0].Fd())
			return nil
		}
	}
	for _, f := range o.files {
		if _, err := f.WriteString("0"); err != nil {
			return fmt.Errorf("enter cgroup %s: %w", f.Name(), err)
		}
	}
	return nil
}

func set(dir, file string, value int64) error {
	return write(dir, file, strconv.FormatInt(value, 10))
}

func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("set to %s: %w", value, err)
	}
	return nil
}

func get(dir, file string) int64 {
	data, _ := os.ReadFile(filepath.Join(dir, file))
	n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// table reads a file of "key value" lines.
func table(dir, file string) map[string]int64 {
	data, _ := os.ReadFile(filepath.Join(dir, file))
	t := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		t[key], _ = strconv.ParseInt(value, 10, 64)
	}
	return t
}

// ListGroups names the cgroups directly below path.
func ListGroups(path string) ([]string, error) {
	seen := map[string]bool{}
	var names []string
	for _, dir := range OpenGroup(path).dirs() {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && !seen[e.Name()] {
				seen[e.Name()] = true
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}
