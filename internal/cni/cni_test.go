package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types020 "github.com/containernetworking/cni/pkg/types/020"
	types040 "github.com/containernetworking/cni/pkg/types/040"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// recordedInputs are the configurations that a real Mesos gave a plugin.
func recordedInputs(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/cni-*.json")
	if err != nil || len(files) != 18 {
		t.Fatalf("%d recordings, want 18 (%v)", len(files), err)
	}
	var inputs []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var recording struct {
			PluginCalls []struct{ Stdin string } `json:"plugin_calls"`
			CNICalls    []struct{ Stdin string } `json:"cni_calls"`
		}
		if err := json.Unmarshal(data, &recording); err != nil {
			t.Fatal(err)
		}
		for _, c := range append(recording.PluginCalls, recording.CNICalls...) {
			inputs = append(inputs, c.Stdin)
		}
	}
	return inputs
}

func TestRecordedConfigurations(t *testing.T) {
	for _, stdin := range recordedInputs(t) {
		c, err := parseConfig([]byte(stdin))
		if err != nil {
			t.Errorf("%s: %v", stdin, err)
			continue
		}
		if !c.forMesos() || c.options.AgentSocket != portapi.DefaultSocket || c.addTimeout() != addBound {
			t.Errorf("%s: read as %+v", stdin, c)
		}
	}
}

func TestParseConfig(t *testing.T) {
	tests := []struct {
		name, stdin, wantErr string
		want                 options
	}{
		{"defaults", `{"name":"n"}`, "", options{portapi.DefaultSocket, portapi.DefaultDetachQueue, 20}},
		{"all keys", `{"name":"n","contrail":{"agent-socket":"/a","detach-queue":"/q","timeout":5}}`, "", options{"/a", "/q", 5}},
		{
			"keys of earlier plugins",
			`{"name":"n","contrail":{"vrouter-ip":"127.0.0.1","vrouter-port":9091,"config-dir":"/x","poll-timeout":15,"poll-retries":5,"mode":"mesos","vif-type":"veth","mtu":1500,"mesos-ip":"1.2.3.4","mesos-port":"6991","cluster-name":"c","log-level":"4"}}`,
			"",
			options{portapi.DefaultSocket, portapi.DefaultDetachQueue, 20},
		},
		{"not JSON", `{`, "network configuration", options{}},
		{"socket of another type", `{"contrail":{"agent-socket":7}}`, "agent-socket", options{}},
		{"relative socket", `{"contrail":{"agent-socket":"a.sock"}}`, `contrail.agent-socket "a.sock": want an absolute path`, options{}},
		{"relative queue", `{"contrail":{"detach-queue":""}}`, "contrail.detach-queue", options{}},
		{"too long", `{"contrail":{"timeout":21}}`, "contrail.timeout 21: want 1 to 20 seconds", options{}},
		{"no time", `{"contrail":{"timeout":0}}`, "contrail.timeout 0", options{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseConfig([]byte(tt.stdin))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || c.options != tt.want {
				t.Errorf("options %+v, %v; want %+v", c.options, err, tt.want)
			}
		})
	}
}

func TestHostInterfaces(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"a", "b", "05e50162-3dfc-4e4e-8c11-05e501623dfc.c06b"} {
		for _, ifname := range []string{"eth0", "eth1"} {
			for _, name := range hostInterfaces(id, ifname) {
				if len(name) != 15 || seen[name] {
					t.Errorf("%s of %s is called %q, want 15 characters of its own", ifname, id, name)
				}
				seen[name] = true
			}
		}
	}
}

func answerOf() *portapi.AttachResponse {
	return &portapi.AttachResponse{
		InterfaceID: "i", MAC: "02:00:00:00:00:03", MTU: 1468, NetworkName: []string{"d", "p", "blue"},
		Addresses: []portapi.Address{{Address: "10.32.0.3", PrefixLength: 20, Gateway: "10.32.0.1", DNSServer: "10.32.0.2"}},
	}
}

func resultIn(t *testing.T, stdin string) []byte {
	t.Helper()
	c, err := parseConfig([]byte(stdin))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newResult(c, answerOf(), "tap0", "02:11:11:11:11:11", "eth0", "/ns", true)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printResult(&out, c, r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestResultInEveryVersion reads each with the library's own types.
func TestResultInEveryVersion(t *testing.T) {
	const args = `"args":{"org.apache.mesos":{"network_info":{"name":"n"}}}`
	for _, version := range []string{"", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for _, mesos := range []bool{false, true} {
			stdin := `{"name":"n"`
			if version != "" {
				stdin += `,"cniVersion":"` + version + `"`
			}
			if mesos {
				stdin += "," + args
			}
			data := resultIn(t, stdin+"}")
			want := version
			if version == "" {
				want = "0.1.0"
			}
			address, got := readResult(t, want, data)
			if got != want || address != "10.32.0.3/20" {
				t.Errorf("version %q: address %s in version %s: %s", version, address, got, data)
			}
			old := want < "0.3"
			if has := bytes.Contains(data, []byte(`"ip4":`)); has != (old || mesos) {
				t.Errorf("version %q, Mesos %v: ip4 there: %v: %s", version, mesos, has, data)
			}
			if bytes.Contains(data, []byte(`"nameservers"`)) {
				t.Errorf("version %q: a resolver that nobody configured: %s", version, data)
			}
		}
	}
}

func readResult(t *testing.T, version string, data []byte) (address, got string) {
	t.Helper()
	switch {
	case version < "0.3":
		r, err := types020.NewResult(data)
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		old := r.(*types020.Result)
		return old.IP4.IP.String(), old.CNIVersion
	case version < "1":
		r, err := types040.NewResult(data)
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		mid := r.(*types040.Result)
		return mid.IPs[0].Address.String(), mid.CNIVersion
	default:
		r, err := current.NewResult(data)
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		now := r.(*current.Result)
		return now.IPs[0].Address.String(), now.CNIVersion
	}
}

func TestOperatorsResolverWins(t *testing.T) {
	data := resultIn(t, `{"name":"n","cniVersion":"1.0.0","dns":{"nameservers":["192.0.2.1"],"search":["x"]}}`)
	if !bytes.Contains(data, []byte(`"192.0.2.1"`)) || bytes.Contains(data, []byte(`"10.32.0.2"`)) {
		t.Errorf("result %s", data)
	}
}

// Mesos takes an address of each family.
func TestResultOfBothFamilies(t *testing.T) {
	answer := answerOf()
	answer.Addresses = append(answer.Addresses, portapi.Address{Address: "2001:db8::3", PrefixLength: 64, Gateway: "2001:db8::1"})
	c, err := parseConfig([]byte(`{"name":"n","cniVersion":"1.0.0","args":{"org.apache.mesos":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := newResult(c, answer, "tap0", "02:11:11:11:11:11", "eth0", "/ns", true)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := printResult(&out, c, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"ip4":{"ip":"10.32.0.3/20"`, `"ip6":{"ip":"2001:db8::3/64","gateway":"2001:db8::1","routes":[{"dst":"::/0","gw":"2001:db8::1"}]`,
		`"address":"2001:db8::3/64"`, `{"dst":"::/0","gw":"2001:db8::1"}`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("result lacks %s: %s", want, out.String())
		}
	}
}

// fakeAgent answers one request with the text.
func fakeAgent(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 64<<10)
		if _, err := conn.Read(buffer); err == nil {
			_, _ = conn.Write([]byte(answer))
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path
}

func TestAgentAnswers(t *testing.T) {
	tests := []struct {
		name, answer, want string
		code               uint
	}{
		{"refusal", "HTTP/1.0 400 Bad Request\r\n\r\n" + `{"kind":"invalid","message":"label x"}`, "label x", types.ErrInvalidNetworkConfig},
		{"conflict", "HTTP/1.0 409 Conflict\r\n\r\n" + `{"kind":"conflict","message":"gone"}`, "gone", codeConflict},
		{"exhausted", "HTTP/1.0 507 X\r\n\r\n" + `{"kind":"exhausted","message":"no address"}`, "no address", codeExhausted},
		{"unavailable", "HTTP/1.0 503 X\r\n\r\n" + `{"kind":"unavailable","message":"manager"}`, "manager", types.ErrTryAgainLater},
		{"not root", "HTTP/1.0 401 Unauthorized\r\n\r\nauthentication failed: user 7 is not root\n", "user 7 is not root", types.ErrInternal},
		{"nothing", "", "does not answer", types.ErrTryAgainLater},
		{"no status", "HTTP/1.0 abc\r\n\r\n{}", "does not answer", types.ErrTryAgainLater},
		{"not JSON", "HTTP/1.0 200 OK\r\n\r\n{", "does not answer", types.ErrTryAgainLater},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := agent{fakeAgent(t, tt.answer)}.call(ctx, portapi.PathAttach, portapi.AttachRequest{}, &portapi.AttachResponse{})
			var e *types.Error
			if !errors.As(cniError(err), &e) || e.Code != tt.code || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("error %v, want code %d and %q", err, tt.code, tt.want)
			}
		})
	}
}

func TestAgentIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = agent{path}.call(ctx, portapi.PathStatus, nil, &portapi.Status{})
	var away *awayError
	if !errors.As(err, &away) || !away.sent || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("error %v, want that it took too long", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, stdin := range recordedInputs(f) {
		f.Add([]byte(stdin))
	}
	f.Add([]byte(`{"name":"n","cniVersion":"1.0.0","contrail":{"agent-socket":"/a","timeout":1e0}}`))
	f.Fuzz(func(t *testing.T, stdin []byte) {
		c, err := parseConfig(stdin)
		if err != nil {
			var e *types.Error
			if !errors.As(err, &e) {
				t.Errorf("error %v has no code", err)
			}
			return
		}
		if d := c.addTimeout(); d < time.Second || d > addBound {
			t.Errorf("timeout %v", d)
		}
		r, err := newResult(c, answerOf(), "tap0", "", "eth0", "/ns", true)
		if err != nil {
			t.Fatal(err)
		}
		_ = printResult(&bytes.Buffer{}, c, r) // an unknown version is an error
	})
}

func FuzzSplitAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"))
	f.Fuzz(func(_ *testing.T, answer []byte) { _, _, _ = splitAnswer(answer) })
}
