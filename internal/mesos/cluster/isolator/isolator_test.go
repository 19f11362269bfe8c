package isolator

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a plugin: one that is called sdnrec, says
// what the file ANSWERS/NETWORK.COMMAND.json tells it to say, and writes down
// how it was called.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sdnrec" {
		unix.Exit(pluginMain()) // os.Exit takes a second with the race detector
	}
	goleak.VerifyTestMain(m)
}

// recorded is a plugin run, in the recordings and in what the fake writes.
type recorded struct {
	Argv     []string          `json:"argv"`
	Env      map[string]string `json:"env"`
	Stdin    string            `json:"stdin"`
	StdinFD  string            `json:"stdin_fd_is"`
	NetNS    bool              `json:"netns_is_nsfs_mount"`
	Stdout   string            `json:"stdout"`
	Stderr   string            `json:"stderr"`
	ExitCode int               `json:"exit_code"`
}

func pluginMain() int {
	fail := func(err error) {
		if err != nil {
			os.Stderr.WriteString("fake plugin: " + err.Error() + "\n")
			unix.Exit(99)
		}
	}
	input, err := os.ReadFile("/proc/self/fd/0")
	fail(err)
	call := recorded{Argv: os.Args, Env: map[string]string{}, Stdin: string(input)}
	call.StdinFD, err = os.Readlink("/proc/self/fd/0")
	fail(err)
	for _, v := range os.Environ() {
		key, value, _ := strings.Cut(v, "=")
		call.Env[key] = value
	}
	call.NetNS = isNamespace(call.Env["CNI_NETNS"])
	var config struct{ Name string }
	fail(json.Unmarshal(input, &config))
	dir := filepath.Dir(filepath.Dir(os.Args[0]))
	text, err := os.ReadFile(filepath.Join(dir, "answers", config.Name+"."+call.Env["CNI_COMMAND"]+".json"))
	fail(err)
	var answer recorded
	fail(json.Unmarshal(text, &answer))
	text, err = json.Marshal(call)
	fail(err)
	f, err := os.CreateTemp(filepath.Join(dir, "calls"), call.Env["CNI_COMMAND"]+".*")
	fail(err)
	_, err = f.Write(text)
	fail(err)
	fail(f.Close())
	if answer.ExitCode == -1 { // hang until killed
		_, err := os.Stdin.Read(make([]byte, 1))
		_ = err
		r, _, err := os.Pipe()
		fail(err)
		r.Read(make([]byte, 1))
	}
	os.Stdout.WriteString(answer.Stdout)
	os.Stderr.WriteString(answer.Stderr)
	return answer.ExitCode
}

// world is an isolator with its directories and the fake plugin.
type world struct {
	*CNI
	dir string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	for _, d := range []string{"conf", "plugins", "answers", "calls"} {
		if err := os.Mkdir(filepath.Join(w.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(w.dir, "plugins/sdnrec")); err != nil {
		t.Fatal(err)
	}
	w.CNI, err = New(slog.New(slog.DiscardHandler), Config{
		Root: filepath.Join(w.dir, "cni"), ConfigDir: filepath.Join(w.dir, "conf"), PluginsDir: filepath.Join(w.dir, "plugins"), Path: "(dropped)",
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestNetworks(t *testing.T) {
	w := newWorld(t)
	w.write(t, "conf/10-a.conf", `{"name":"a","type":"sdnrec"}`)
	w.write(t, "conf/20-a-again", `{"name":"a","type":"sdnrec","second":true}`)
	w.write(t, "conf/any.suffix", `{"name":"b","type":"sdnrec","ipam":{"type":"sdnrec"}}`)
	for i, bad := range []string{
		`{"name":"list","plugins":[{"type":"sdnrec"}]}`, `{"name":"c","type":"missing"}`, `{"name":"d","type":"sdnrec","ipam":{}}`,
		`{"name":"e","type":"sdnrec","ipam":{"type":"missing"}}`, `not JSON`, `[]`, `null`, `{"type":"sdnrec"}`,
		`{"name":"../x","type":"sdnrec"}`, `{"name":"ns","type":"sdnrec"}`, `{"name":"f","type":"../sdnrec"}`, `{"name":"g","type":"sdnrec"}{}`,
	} {
		w.write(t, "conf/bad"+string(rune('a'+i)), bad)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "conf/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	all, err := w.networks()
	if err != nil || len(all) != 2 || all["a"].config["second"] != nil || all["b"].plugin != filepath.Join(w.dir, "plugins/sdnrec") {
		t.Errorf("networks: %v %v", all, err)
	}
	for info, want := range map[string]string{
		`{"name":"a"}`: `{"args":{"org.apache.mesos":{"network_info":{"name":"a"}}},"name":"a","type":"sdnrec"}`,
		`x`:            "decode network info",
	} {
		got, err := all["a"].input([]byte(info))
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("input: %s, want %s", got, want)
		}
	}
	for _, args := range []string{`"text"`, `{"org.apache.mesos":{}}`} {
		n, _, err := parseNetwork([]byte(`{"name":"a","type":"sdnrec","args":` + args + `}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.input([]byte(`{}`)); err == nil {
			t.Errorf("args %s were taken", args)
		}
	}
	if _, err := New(slog.New(slog.DiscardHandler), Config{ConfigDir: "x"}); err == nil {
		t.Error("one directory of two was taken")
	}
}

func TestResults(t *testing.T) {
	for text, want := range map[string]string{
		`{"ip4":{"ip":"10.0.0.1/24"},"ip6":{"ip":"fd00::1/64"}}`: "10.0.0.1 fd00::1/64",
		`{"ips":[{"address":"10.0.0.1/24"}]}`:                    " ",
		`{"ip4":{}}`:                                             "Protobuf parse failed: Missing required fields: ip4.ip",
		`{"ip4":{"ip":"10.0.0.1"}}`:                              `ip4.ip "10.0.0.1" is no address with prefix length`,
		`{"ip4":{"ip":"fd00::1/64"}}`:                            `ip4.ip "fd00::1/64" is of the other family`,
		"this is not JSON\n":                                     "JSON parse failed: syntax error at line 1 near: his is not JSON",
	} {
		r, err := parseResult([]byte(text))
		got := r.IP4 + " " + r.IP6
		if err != nil {
			got = err.Error()
		}
		if strings.TrimSuffix(got, "\n") != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	text, err := resolvText([]Result{
		{DNS: DNS{Search: []string{"ignored"}}},
		{DNS: DNS{Nameservers: []string{"10.0.0.2"}, Domain: "a", Search: []string{"a"}, Options: []string{"ndots:1"}}},
		{DNS: DNS{Nameservers: []string{"10.1.0.2"}, Domain: "b", Search: []string{"b"}}},
	})
	if want := "domain b\nsearch a b\noptions ndots:1\nnameserver 10.0.0.2\nnameserver 10.1.0.2\n"; text != want || err != nil {
		t.Errorf("resolv.conf %q %v", text, err)
	}
	if _, err := resolvText([]Result{{DNS: DNS{Nameservers: []string{"1.1.1.1\noptions evil"}}}}); err == nil {
		t.Error("line break was taken")
	}
}

func TestDetachOfNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.Detach(t.Context(), "never-was"); err != nil {
		t.Error(err)
	}
	if _, err := w.Attachment("never-was"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, id := range []string{"../x", "", ".", "a/b"} {
		if err := w.Detach(t.Context(), id); err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
}

func FuzzNetworkConfig(f *testing.F) {
	f.Add([]byte(`{"name":"a","type":"b","args":{"x":1}}`), []byte(`{"name":"a"}`))
	f.Add([]byte(`{"name":"ns","type":"b","ipam":{"type":"x"}}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, config, info []byte) {
		n, _, err := parseNetwork(config)
		if err != nil {
			return
		}
		if n.name == "" || strings.ContainsAny(n.name, "/\x00") || !filepath.IsLocal(n.name) {
			t.Fatalf("name %q", n.name)
		}
		input, err := n.input(info)
		if err != nil {
			return
		}
		if again, _, err := parseNetwork(input); err != nil || again.name != n.name {
			t.Fatalf("input %s: %v", input, err)
		}
	})
}
