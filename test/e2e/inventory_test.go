//go:build net

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// inventory is everything that containers may leave behind, by kind, as
// programs that are not ours tell it.
type inventory map[string][]string

func (c *cluster) tryInventory(t *testing.T) (inventory, error) {
	inv := make(inventory)
	for _, part := range []struct {
		name string
		list func(*testing.T) ([]string, error)
	}{
		{"store", c.storeKeys},
		{"links", c.links},
		{"routes", c.routes},
		{"map entries", c.mapEntries},
		{"pins", c.pins},
		{"namespaces", c.namespaces},
		{"mounts", c.mounts},
		{"cgroups", c.cgroups},
		{"processes", c.processes},
		{"port files", c.portFiles},
	} {
		list, err := part.list(t)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", part.name, err)
		}
		slices.Sort(list)
		inv[part.name] = list
	}
	return inv, nil
}

// clean waits until there is no more, and no less, than in the cluster before
// its first task; what rests or is remembered for a time has to have an end.
func (c *cluster) clean(t *testing.T) {
	t.Helper()
	eventually(t, recovery, "nothing is left", func() error {
		now, err := c.tryInventory(t)
		if err != nil {
			return err
		}
		return c.empty.diff(now)
	})
	c.inactiveEnd(t)
	c.inactiveListed(t)
}

func (inv inventory) diff(now inventory) error {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(now)) {
		for _, item := range now[kind] {
			if !slices.Contains(inv[kind], item) {
				fmt.Fprintf(&b, "\n  more %s: %s", kind, item)
			}
		}
		for _, item := range inv[kind] {
			if !slices.Contains(now[kind], item) {
				fmt.Fprintf(&b, "\n  less %s: %s", kind, item)
			}
		}
	}
	if b.Len() > 0 {
		return fmt.Errorf("inventory differs:%s", b.String())
	}
	return nil
}

func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(s string) bool { return strings.TrimSpace(s) == "" })
}

func (c *cluster) etcdctl(t *testing.T, args ...string) (string, error) {
	command := []string{"env", "ETCDCTL_API=3", "etcdctl", "--endpoints", "unix:///run/" + c.Name + "/store.sock"}
	return base.Run(contextOf(t), append(command, args...)...)
}

// inactive tells the keys that hold what rests or is remembered.
func inactive(key string) bool {
	return strings.HasPrefix(key, "/contrail/tomb/") || strings.HasPrefix(key, "/contrail/rest/")
}

// leftByRestore tells the key that says when the store was restored.
func leftByRestore(key string) bool { return key == "/contrail/restore/state" }

// writers tells the two keys that each controller has for good, from the first
// time that the answer to a write of its was lost.
func writers(key string) bool {
	return strings.HasPrefix(key, "/contrail/fence/") || strings.HasPrefix(key, "/contrail/mark/")
}

func (c *cluster) storeKeys(t *testing.T) ([]string, error) {
	out, err := c.etcdctl(t, "get", "/", "--prefix", "--keys-only")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(lines(out), func(key string) bool { return inactive(key) || leftByRestore(key) || writers(key) }), nil
}

// inactiveEnd checks that every rest and tombstone is bound to a lease, which
// ends within the configured time.
func (c *cluster) inactiveEnd(t *testing.T) {
	t.Helper()
	out, err := c.etcdctl(t, "get", "/", "--prefix", "--write-out", "json")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		KVs []struct {
			Key   []byte `json:"key"`
			Lease int64  `json:"lease"`
		} `json:"kvs"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("decode what etcdctl said: %v", err)
	}
	leases := make(map[int64]string)
	for _, kv := range answer.KVs {
		if key := string(kv.Key); inactive(key) {
			if kv.Lease == 0 {
				t.Errorf("%s has no end", key)
			}
			leases[kv.Lease] = key
		}
	}
	for lease, key := range leases {
		out, err := c.etcdctl(t, "lease", "timetolive", fmt.Sprintf("%x", lease), "--write-out", "json")
		if err != nil {
			t.Fatal(err)
		}
		var left struct {
			Granted int64 `json:"granted-ttl"`
		}
		if err := json.Unmarshal([]byte(out), &left); err != nil {
			t.Fatalf("decode what etcdctl said: %v", err)
		}
		if most := max(rest, tombstone) + time.Second; time.Duration(left.Granted)*time.Second > most {
			t.Errorf("%s ends only after %d s", key, left.Granted)
		}
	}
}

// inactiveListed checks that the configuration API lists no attachment, and an
// end for all that rests or is remembered.
func (c *cluster) inactiveListed(t *testing.T) {
	t.Helper()
	type inactive struct {
		Left int64 `json:"secondsLeft,string"`
	}
	var list struct {
		Attachments []json.RawMessage `json:"attachments"`
		Tombstones  []inactive        `json:"tombstones"`
		Resting     []inactive        `json:"resting"`
	}
	decode(t, c.curl(t, "GET", config+"/inventory", ""), &list)
	if len(list.Attachments) > 0 {
		t.Errorf("%d attachments are left: %s", len(list.Attachments), list.Attachments)
	}
	for most, items := range map[time.Duration][]inactive{tombstone: list.Tombstones, rest: list.Resting} {
		for _, item := range items {
			if left := time.Duration(item.Left) * time.Second; left > most+time.Second {
				t.Errorf("ends only in %s, want at most %s", left, most)
			}
		}
	}
}

// eachNode lists something in every node's namespace.
func (c *cluster) eachNode(t *testing.T, command ...string) ([]string, error) {
	var all []string
	for n := 1; n <= 3; n++ {
		out, err := base.Run(contextOf(t), append([]string{"nsenter", "--net=/run/netns/" + c.Node(n)}, command...)...)
		if err != nil {
			return nil, err
		}
		for _, line := range lines(out) {
			all = append(all, c.Node(n)+": "+strings.TrimSpace(line))
		}
	}
	return all, nil
}

func (c *cluster) links(t *testing.T) ([]string, error) {
	list, err := c.eachNode(t, "ip", "-brief", "link")
	for i, line := range list {
		list[i] = strings.Join(strings.Fields(line)[:2], " ")
	}
	return list, err
}

func (c *cluster) routes(t *testing.T) ([]string, error) {
	return c.eachNode(t, "ip", "route", "show", "table", "all", "type", "unicast")
}

func (c *cluster) pins(*testing.T) ([]string, error) {
	var all []string
	root := "/sys/fs/bpf/" + c.Name
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, path)
		}
		return err
	})
	return all, err
}

// statistics are maps whose entries count and do not forward: they stay.
func statistics(pin string) bool {
	name := filepath.Base(pin)
	return slices.ContainsFunc([]string{"drop", "count", "stat", "event"}, func(s string) bool { return strings.Contains(name, s) })
}

func (c *cluster) mapEntries(t *testing.T) ([]string, error) {
	pins, err := c.pins(t)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, pin := range pins {
		if statistics(pin) {
			continue
		}
		shown, err := base.Run(contextOf(t), "bpftool", "-j", "map", "show", "pinned", pin)
		if err != nil || strings.Contains(shown, "array") {
			continue // a program, a link, or a map whose entries are always there
		}
		out, err := base.Run(contextOf(t), "bpftool", "-j", "map", "dump", "pinned", pin)
		if err != nil {
			return nil, err
		}
		var entries []struct {
			Key []string `json:"key"`
		}
		if err := json.Unmarshal([]byte(out), &entries); err != nil {
			return nil, fmt.Errorf("decode dump of %s: %w", pin, err)
		}
		for _, entry := range entries {
			all = append(all, pin+" "+strings.Join(entry.Key, " "))
		}
	}
	return all, nil
}

func (c *cluster) namespaces(t *testing.T) ([]string, error) {
	out, err := base.Run(contextOf(t), "lsns", "--type", "net", "--noheadings", "--output", "NSFS")
	if err != nil {
		return nil, err
	}
	return c.ours(lines(out)), nil
}

func (c *cluster) mounts(t *testing.T) ([]string, error) {
	out, err := base.Run(contextOf(t), "findmnt", "--list", "--noheadings", "--output", "TARGET")
	if err != nil {
		return nil, err
	}
	return c.ours(lines(out)), nil
}

// ours keeps the lines that name the cluster or its data.
func (c *cluster) ours(list []string) []string {
	return slices.DeleteFunc(list, func(line string) bool {
		return !strings.Contains(line, c.Name) && !strings.Contains(line, c.Data)
	})
}

func (c *cluster) cgroups(*testing.T) ([]string, error) {
	var all []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Contains(path, "/"+c.Name+"/") {
			all = append(all, path)
		}
		return nil // others come and go meanwhile
	})
	return all, err
}

// processes lists the command lines of what runs in the cluster's namespaces
// or carries its mark; the services themselves count by what they are.
func (c *cluster) processes(*testing.T) ([]string, error) {
	found, err := c.findProcesses()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, p := range found {
		all = append(all, p.command)
	}
	return all, nil
}

type foundProcess struct {
	pid     string
	command string
}

func (c *cluster) findProcesses() ([]foundProcess, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []foundProcess
	for _, entry := range entries {
		dir := filepath.Join("/proc", entry.Name())
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue
		}
		groups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if len(command) == 0 {
			continue // it is ending
		}
		if !strings.Contains(string(environ)+"\x00", "CONTRAIL_BOX="+c.Name+"\x00") &&
			!strings.Contains(string(groups), "/"+c.Name+"/") && !strings.Contains(string(command), "/run/"+c.Name+"/") && !strings.HasPrefix(string(command), c.Data+"/cni/bin/") {
			continue
		}
		all = append(all, foundProcess{entry.Name(), strings.ReplaceAll(strings.TrimSuffix(string(command), "\x00"), "\x00", " ")})
	}
	return all, nil
}

// portFiles lists what the vRouter agents and Mesos agents keep of ports and
// containers.
func (c *cluster) portFiles(*testing.T) ([]string, error) {
	var all []string
	for _, pattern := range []string{
		c.Data + "/node-*/vrouter/ports/*", c.Data + "/node-*/vrouter/detach-queue/*",
		"/run/" + c.Name + "/node-*/mesos/isolators/network/cni/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}
