//go:build net

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// vrouter reads a table of a node's vRouter as `contrail vrouter` shows it.
func vrouter[T any](t *testing.T, c *cluster, node int, args ...string) (answer T, err error) {
	t.Helper()
	args = append(append([]string{"vrouter"}, args...), "--name", c.Name, "--node", "node-"+strconv.Itoa(node), "-o", "json")
	text, err := base.Run(contextOf(t), append([]string{filepath.Join(c.Bin, "contrail")}, args...)...)
	if err != nil {
		return answer, err
	}
	var nodes []json.RawMessage
	if err := json.Unmarshal([]byte(text), &nodes); err != nil || len(nodes) != 1 {
		return answer, fmt.Errorf("%d nodes (%w) in %s", len(nodes), err, text)
	}
	var named struct{ Node string }
	if err := json.Unmarshal(nodes[0], &named); err != nil || named.Node != c.Node(node) {
		return answer, fmt.Errorf("node is %q (%w), want %s", named.Node, err, c.Node(node))
	}
	return answer, json.Unmarshal(nodes[0], &answer)
}

// pinned is what bpftool dumps of a node's map, whatever the version of its layout.
func pinned[T any](t *testing.T, c *cluster, node int, name string) (entries []T, err error) {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/sys/fs/bpf/%s/node-%d/maps/%s_v[0-9]*", c.Name, node, name))
	if err != nil || len(paths) != 1 {
		return nil, fmt.Errorf("maps %s of node %d: %v, %w", name, node, paths, err)
	}
	text, err := base.Run(contextOf(t), "bpftool", "-j", "map", "dump", "pinned", paths[0])
	if err != nil {
		return nil, err
	}
	return entries, json.Unmarshal([]byte(text), &entries)
}

// counted is how many entries there are.
func (c *cluster) counted(t *testing.T, node int, names ...string) (n int, err error) {
	t.Helper()
	for _, name := range names {
		list, err := pinned[json.RawMessage](t, c, node, name)
		if err != nil {
			return 0, err
		}
		n += len(list)
	}
	return n, nil
}

// dropCount is an entry of the map of drops as bpftool writes it, byte by byte.
type dropCount struct {
	Key    []string `json:"key"`
	Values []struct {
		Value []string `json:"value"`
	} `json:"values"`
}

func bytesOf(hex []string) ([]byte, error) {
	var all []byte
	for _, h := range hex {
		b, err := strconv.ParseUint(strings.TrimPrefix(h, "0x"), 16, 8)
		if err != nil {
			return nil, err
		}
		all = append(all, byte(b))
	}
	return all, nil
}

// droppedAt are the packets that bpftool finds dropped at each interface.
func (c *cluster) droppedAt(t *testing.T, node int) (map[int]uint64, error) {
	t.Helper()
	entries, err := pinned[dropCount](t, c, node, "drop")
	if err != nil {
		return nil, err
	}
	sums := map[int]uint64{}
	for _, e := range entries {
		key, err := bytesOf(e.Key)
		if err != nil || len(key) != 8 {
			return nil, fmt.Errorf("key %v: %w", e.Key, err)
		}
		for _, cpu := range e.Values {
			value, err := bytesOf(cpu.Value)
			if err != nil || len(value) != 16 {
				return nil, fmt.Errorf("value %v: %w", cpu.Value, err)
			}
			sums[int(binary.LittleEndian.Uint32(key[4:]))] += binary.LittleEndian.Uint64(value)
		}
	}
	return sums, nil
}

type shownVif struct {
	Vif       int      `json:"vif"`
	Device    string   `json:"device"`
	Type      string   `json:"type"`
	Port      string   `json:"port"`
	Network   string   `json:"network"`
	Addresses []string `json:"addresses"`
	Label     int      `json:"label"`
	Sent      uint64   `json:"from_packets"`
	Dropped   uint64   `json:"drops_packets"`
	Policy    *struct{ Sets map[string]string }
	Status    *struct{ State string }
}

type shownRoute struct {
	Network     string `json:"network"`
	Destination string `json:"destination"`
	NextHop     struct {
		Type, Remote, Device, Port string
		Vif, Label                 int
	} `json:"next_hop"`
	Status *struct{ State string }
}

// TestNetVRouterTables: what `contrail vrouter` shows of the nodes is what bpftool
// and ip find there, and its parts fit together: a route leads to the node and
// label of the port that has the address.
func TestNetVRouterTables(t *testing.T) {
	c := start(t)
	id := "/looked"
	c.post(t, app(id, "looked", 4))
	t.Cleanup(func() {
		c.destroy(t, id)
		c.clean(t)
	})
	tasks := c.running(t, id, 4)
	for _, other := range tasks[1:] {
		c.reaches(t, tasks[0], other.Address())
	}
	c.refused(t, tasks[0], "10.99.99.99") // makes a drop

	owners := map[string]struct{ remote, label string }{} // of addresses
	for node := 1; node <= 3; node++ {
		eventually(t, time.Minute, fmt.Sprintf("the tables of node %d are those of the kernel", node), func() error { return c.sameCounts(t, node) })
		answer, err := vrouter[struct{ Vifs []shownVif }](t, c, node, "vif")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.sameInterfaces(t, node, answer.Vifs); err != nil {
			t.Error(err)
		}
		for _, v := range answer.Vifs {
			if v.Type == "virtual" {
				owners[v.Addresses[0]] = struct{ remote, label string }{fmt.Sprintf("172.31.0.%d", 10+node), strconv.Itoa(v.Label)}
			}
		}
	}
	seen := 0
	for node := 1; node <= 3; node++ {
		answer, err := vrouter[struct{ Routes []shownRoute }](t, c, node, "rt")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range answer.Routes {
			address, host := strings.CutSuffix(r.Destination, "/32")
			want, known := owners[address]
			if !host || !known {
				continue
			}
			seen++
			remote := r.NextHop.Remote
			if r.NextHop.Type == "local" {
				remote = fmt.Sprintf("172.31.0.%d", 10+node)
				if r.NextHop.Vif == 0 || r.NextHop.Device == "" || r.NextHop.Port == "" {
					t.Errorf("node %d: the port of %s is not known: %+v", node, address, r.NextHop)
				}
			}
			if remote != want.remote || strconv.Itoa(r.NextHop.Label) != want.label || r.Status == nil || r.Status.State != "applied" || !strings.HasSuffix(r.Network, ":looked") {
				t.Errorf("node %d: route to %s is %+v, its port is at %+v", node, address, r, want)
			}
		}
	}
	if seen < len(tasks) {
		t.Errorf("%d routes to %d tasks", seen, len(tasks))
	}
	c.looksLikeTraffic(t, tasks[0], tasks[len(tasks)-1])
}

// sameCounts compares how many rows the tables of a node have with the entries
// that bpftool finds.
func (c *cluster) sameCounts(t *testing.T, node int) error {
	t.Helper()
	var errs []error
	for _, table := range []struct {
		name, list string
		maps       []string
		beside     int // rows that are no entry
	}{
		{"vif", "vifs", []string{"vif"}, 1}, // the underlay
		{"rt", "routes", []string{"host_route", "route", "mac"}, 0},
		{"nh", "next_hops", []string{"next_hop"}, 2},
		{"mpls", "labels", []string{"label"}, 0},
		{"vxlan", "vnis", []string{"vni"}, 0},
	} {
		answer, err := vrouter[map[string]json.RawMessage](t, c, node, table.name)
		var rows []json.RawMessage
		if err == nil {
			err = json.Unmarshal(answer[table.list], &rows)
		}
		found, countErr := c.counted(t, node, table.maps...)
		if err = errors.Join(err, countErr); err == nil && len(rows) != found+table.beside {
			err = fmt.Errorf("%s has %d rows, bpftool finds %d", table.name, len(rows), found)
		}
		errs = append(errs, err)
	}
	flows, err := vrouter[struct {
		Flows []struct{ Forward, Reverse *struct{} }
	}](t, c, node, "flow")
	directions := 0
	for _, f := range flows.Flows {
		for _, d := range []*struct{}{f.Forward, f.Reverse} {
			if d != nil {
				directions++
			}
		}
	}
	found, countErr := c.counted(t, node, "flow")
	if err = errors.Join(err, countErr); err == nil && directions != found {
		err = fmt.Errorf("flow has %d directions, bpftool finds %d", directions, found)
	}
	return errors.Join(append(errs, err)...)
}

// sameInterfaces compares the interfaces with those of `ip` in the node's namespace.
func (c *cluster) sameInterfaces(t *testing.T, node int, vifs []shownVif) error {
	t.Helper()
	text, err := base.Run(contextOf(t), "nsenter", "--net=/run/netns/"+c.Node(node), "ip", "-json", "-s", "link")
	if err != nil {
		return err
	}
	var links []struct {
		Index int    `json:"ifindex"`
		Name  string `json:"ifname"`
		Stats struct {
			RX struct{ Packets uint64 }
		} `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(text), &links); err != nil {
		return err
	}
	dropped, err := c.droppedAt(t, node)
	if err != nil {
		return err
	}
	names, received := map[int]string{}, map[int]uint64{}
	for _, l := range links {
		names[l.Index], received[l.Index] = l.Name, l.Stats.RX.Packets
	}
	for _, v := range vifs {
		switch {
		case names[v.Vif] != v.Device:
			return fmt.Errorf("node %d: interface %d is %s, ip says %q", node, v.Vif, v.Device, names[v.Vif])
		case v.Dropped > dropped[v.Vif]:
			return fmt.Errorf("node %d: %d drops at %s, bpftool finds %d", node, v.Dropped, v.Device, dropped[v.Vif])
		case v.Type == "virtual" && (v.Port == "" || v.Network == "" || v.Policy == nil || v.Status == nil || v.Status.State != "applied" || v.Sent == 0 || v.Sent > received[v.Vif]):
			return fmt.Errorf("node %d: interface is %+v, ip says that %d packets came", node, v, received[v.Vif])
		}
	}
	return nil
}

// looksLikeTraffic sends from one task to another, and wants the flow and the drop
// that follow to be shown at the sender's node.
func (c *cluster) looksLikeTraffic(t *testing.T, from, to task) {
	t.Helper()
	node := 0
	for n := 1; n <= 3; n++ {
		vifs, err := vrouter[struct{ Vifs []shownVif }](t, c, n, "vif", from.Address())
		if err == nil && len(vifs.Vifs) == 1 {
			node = n
		}
	}
	if node == 0 {
		t.Fatalf("no node has %s", from.Address())
	}
	eventually(t, time.Minute, "the flow between the tasks is there", func() error {
		c.reaches(t, from, to.Address())
		flows, err := vrouter[struct {
			Flows []struct {
				State, Protocol string
				Forward         *struct {
					Destination string
					Packets     uint64
					Current     bool
				}
				Reverse *struct{ Source string }
			}
		}](t, c, node, "flow", from.Address(), to.Address())
		if err != nil {
			return err
		}
		for _, f := range flows.Flows {
			if f.State == "established" && f.Forward != nil && f.Forward.Destination == to.Address() && f.Forward.Packets > 0 && f.Reverse != nil && f.Reverse.Source == to.Address() {
				return nil
			}
		}
		return fmt.Errorf("flows are %+v", flows)
	})
	drops, err := vrouter[struct {
		Drops []struct {
			Reason, Description, Advice string
			Packets                     uint64
		}
	}](t, c, node, "drops", "--vif", from.Address())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range drops.Drops {
		found = found || d.Reason == "no-route" && d.Packets > 0 && d.Description != "" && d.Advice != ""
	}
	if !found {
		t.Errorf("drops of %s are %+v, want one for no-route", from.Address(), drops.Drops)
	}
}
