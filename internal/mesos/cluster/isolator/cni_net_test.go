//go:build net

package isolator

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// situation is a recording of one task and its plugin calls.
type situation struct {
	Files []struct{ File, Text string } `json:"network_config_files"`
	Task  struct {
		Launch struct {
			TaskInfos []struct {
				Container struct {
					NetworkInfos []json.RawMessage `json:"network_infos"`
				}
			} `json:"task_infos"`
		}
	} `json:"accept_operation"`
	Calls   []recorded `json:"plugin_calls"`
	Updates []struct {
		Update struct{ Status struct{ Message string } }
	} `json:"scheduler_updates"`
}

const (
	theirRoot    = "/var/lib/mesos/agent-rt/isolators/network/cni"
	theirPlugins = "/var/lib/mesos/plugins"
)

func (w *world) load(t *testing.T, name string) situation {
	t.Helper()
	text, err := os.ReadFile("../../testdata/recordings/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var s situation
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Files {
		w.write(t, "conf/"+filepath.Base(f.File), f.Text)
	}
	for i := range s.Calls {
		call := &s.Calls[i]
		var config struct{ Name string }
		if err := json.Unmarshal([]byte(call.Stdin), &config); err != nil {
			t.Fatal(err)
		}
		answer, err := json.Marshal(call)
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, "answers/"+config.Name+"."+call.Env["CNI_COMMAND"]+".json", string(answer))
		// From here on it is what ours has to look like.
		call.Argv = []string{w.ours(call.Argv[0])}
		call.StdinFD = w.ours(call.StdinFD)
		for k, v := range call.Env {
			call.Env[k] = w.ours(v)
		}
		call.Stdout, call.Stderr, call.ExitCode = "", "", 0
	}
	return s
}

func (w *world) ours(text string) string {
	return strings.NewReplacer(theirRoot, w.config.Root, theirPlugins, w.config.PluginsDir).Replace(text)
}

func (s situation) wanted(t *testing.T) []Network {
	t.Helper()
	var all []Network
	for _, text := range s.Task.Launch.TaskInfos[0].Container.NetworkInfos {
		var info mesosv1.NetworkInfo
		if err := codec.UnmarshalJSON(text, &info); err != nil {
			t.Fatal(err)
		}
		all = append(all, Network{Name: info.GetName(), Info: codec.MarshalJSONWithDefaults(&info)})
	}
	return all
}

// calls that the fake plugin wrote down.
func (w *world) calls(t *testing.T) []recorded {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	var all []recorded
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(w.dir, "calls", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var call recorded
		if err := json.Unmarshal(text, &call); err != nil {
			t.Fatal(err)
		}
		all = append(all, call)
	}
	return ordered(all)
}

func ordered(calls []recorded) []recorded {
	slices.SortFunc(calls, func(a, b recorded) int {
		return strings.Compare(a.Env["CNI_COMMAND"]+a.Env["CNI_IFNAME"], b.Env["CNI_COMMAND"]+b.Env["CNI_IFNAME"])
	})
	return calls
}

func nsMounts(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("findmnt", "-rno", "TARGET", "-t", "nsfs").Output()
	if err != nil && len(out) > 0 {
		t.Fatal(err)
	}
	return string(out)
}

// What the plugin sees is what it saw of a real Mesos, byte for byte, and what
// the user is told is, too.
func TestNetRecordings(t *testing.T) {
	for _, name := range []string{
		"cni-01-plain", "cni-02-labels-groups-portmappings", "cni-03-two-networks", "cni-04-requested-ip-addresses", "cni-08-add-failure",
		"cni-09-add-failure-of-one-of-two", "cni-11-result-both-shapes", "cni-12-result-not-json", "cni-13-del-without-netns",
		"cni-14-same-network-twice", "cni-15-unknown-network", "cni-17-network-added-later",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.load(t, name)
			id := "no-call"
			if len(s.Calls) > 0 {
				id = s.Calls[0].Env["CNI_CONTAINERID"]
			}
			t.Cleanup(func() { unix.Unmount(filepath.Join(w.config.Root, id, "ns"), unix.MNT_DETACH) })
			attachment, err := w.Attach(t.Context(), id, id, s.wanted(t))
			message := s.Updates[len(s.Updates)-1].Update.Status.Message
			if want, failed := strings.CutPrefix(message, "Failed to launch container: "); failed {
				if want = w.ours(want); err == nil || strings.TrimSuffix(err.Error(), "\n") != want {
					t.Errorf("message\n got %v\nwant %s", err, want)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if again, err := w.Attachment(id); err != nil || !cmp.Equal(attachment, again) {
				t.Errorf("read back: %v %s", err, cmp.Diff(attachment, again))
			}
			if name == "cni-13-del-without-netns" {
				if err := unix.Unmount(filepath.Join(w.config.Root, id, "ns"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Detach(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(ordered(s.Calls), w.calls(t), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("calls (-Mesos +ours)\n%s", diff)
			}
			if entries, err := os.ReadDir(w.config.Root); len(entries) != 0 {
				t.Errorf("left: %v %v", entries, err)
			}
			if strings.Contains(nsMounts(t), w.dir) {
				t.Error("mount of the namespace is left")
			}
		})
	}
}

func TestNetFiles(t *testing.T) {
	w := newWorld(t)
	s := w.load(t, "cni-03-two-networks")
	t.Cleanup(func() { w.Detach(t.Context(), "c") })
	a, err := w.Attach(t.Context(), "c", "host-name", s.wanted(t))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		a.Hosts: "127.0.0.1 localhost\n10.99.0.5 host-name\n", a.Hostname: "host-name\n",
		a.Resolv: "search net2.example\nnameserver 10.89.0.2\n",
	} {
		if text, err := os.ReadFile(path); string(text) != want {
			t.Errorf("%s: %q %v", path, text, err)
		}
	}
	if len(a.Results) != 2 || a.Results[0].Interface != "eth0" || a.Results[0].Network != "lognet" ||
		a.Results[1].IP4 != "10.89.0.7" || a.Results[1].IP6 != "fd00:89::7/64" {
		t.Errorf("results %+v", a.Results)
	}
	if err := w.Detach(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
}

func TestNetOnlyNewResult(t *testing.T) {
	w := newWorld(t)
	s := w.load(t, "cni-10-result-1.0.0-only")
	if _, err := w.Attach(t.Context(), "c", "c", s.wanted(t)); err == nil || !strings.Contains(err.Error(), "set cniVersion to 0.2.0") {
		t.Errorf("got %v", err)
	}
	if err := w.Detach(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
}

// A failed DEL keeps everything, and the next start of the agent repeats it.
func TestNetDetachFailureIsRetained(t *testing.T) {
	w := newWorld(t)
	w.write(t, "conf/n", `{"name":"n","type":"sdnrec"}`)
	w.write(t, "answers/n.ADD.json", `{"stdout":"{\"ip4\":{\"ip\":\"10.0.0.1/24\"}}"}`)
	w.write(t, "answers/n.DEL.json", `{"stdout":"no","stderr":"del stderr\n","exit_code":1}`)
	t.Cleanup(func() { unix.Unmount(filepath.Join(w.config.Root, "c", "ns"), unix.MNT_DETACH) })
	if _, err := w.Attach(t.Context(), "c", "c", []Network{{"n", []byte(`{"name":"n"}`)}}); err != nil {
		t.Fatal(err)
	}
	err := w.Detach(t.Context(), "c")
	if err == nil || !strings.HasSuffix(err.Error(), "failed to detach container c from CNI network 'n': stdout='no', stderr='del stderr\n'") {
		t.Errorf("got %v", err)
	}
	if !isNamespace(filepath.Join(w.config.Root, "c/ns")) {
		t.Error("namespace is gone")
	}
	if left, err := w.Recover(t.Context(), func(id string) bool { return id == "c" }); err != nil || len(left) != 0 {
		t.Fatal(err)
	}
	w.write(t, "answers/n.DEL.json", `{}`)
	if err := os.Remove(filepath.Join(w.dir, "conf/n")); err != nil { // the checkpoint is enough
		t.Fatal(err)
	}
	if left, err := w.Recover(t.Context(), func(string) bool { return false }); err != nil || len(left) != 0 {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(w.config.Root); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	if n := len(w.calls(t)); n != 3 {
		t.Errorf("%d calls, want ADD and two DELs", n)
	}
}

func TestNetHangingPluginIsKilled(t *testing.T) {
	w := newWorld(t)
	w.config.Timeout = 300 * time.Millisecond
	w.write(t, "conf/n", `{"name":"n","type":"sdnrec"}`)
	w.write(t, "answers/n.ADD.json", `{"exit_code":-1}`)
	w.write(t, "answers/n.DEL.json", `{}`)
	if _, err := w.Attach(t.Context(), "c", "c", []Network{{"n", []byte(`{"name":"n"}`)}}); err == nil || !strings.Contains(err.Error(), "it was killed after") {
		t.Errorf("got %v", err)
	}
	w.config.Timeout = time.Minute
	if err := w.Detach(t.Context(), "c"); err != nil {
		t.Error(err)
	}
}
