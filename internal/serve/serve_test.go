package serve

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// whoami answers with the caller.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	c := CallerOf(r.Context())
	fmt.Fprintf(w, "%s via %s", c.Identity, c.Via)
})

func start(t *testing.T, cfg Config) {
	t.Helper()
	s, err := Listen(slog.New(slog.DiscardHandler), cfg, whoami)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func get(t *testing.T, client *http.Client, url, token string) (int, string) {
	t.Helper()
	defer client.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "a.sock")
	start(t, Config{Unix: path})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if os.Getuid() != 0 {
		t.Skip("only root gets in, and this is another user")
	}
	for _, stream := range []bool{false, true} {
		client, base, err := Client("unix:"+path, nil, stream)
		if err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, client, base, ""); code != 200 || body != "admin via unix" {
			t.Errorf("stream %v: %d %q", stream, code, body)
		}
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, Config{Unix: path})
}

func TestTLS(t *testing.T) {
	ca, err := ctls.OpenAuthority(filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	credentials := func(role string) *ctls.Credentials {
		dir := filepath.Join(t.TempDir(), role)
		if err := ca.Issue(dir, role, ""); err != nil {
			t.Fatal(err)
		}
		c, err := ctls.LoadCredentials(dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	address := freeAddress(t)
	start(t, Config{TLS: address, Credentials: credentials(ctls.RoleMaster)})
	for _, stream := range []bool{false, true} {
		client, base, err := Client(address, credentials(ctls.RoleMarathon), stream, ctls.RoleMaster)
		if err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, client, base, ""); code != 200 || body != "mesos-marathon via tls" {
			t.Errorf("stream %v: %d %q", stream, code, body)
		}
	}
	client, base, err := Client(address, credentials(ctls.RoleMarathon), false, ctls.RoleManager)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(base); err == nil {
		t.Error("a server of another role was accepted")
	}
	client.CloseIdleConnections()
}

func TestBearer(t *testing.T) {
	address, file := freeAddress(t), filepath.Join(t.TempDir(), "token")
	start(t, Config{Bearer: address, BearerFile: file})
	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		token string
		code  int
	}{{strings.TrimSpace(string(token)), 200}, {"", 401}, {"x", 401}} {
		if code, _ := get(t, &http.Client{Transport: &http.Transport{}}, "http://"+address, tc.token); code != tc.code {
			t.Errorf("token %q: %d, want %d", tc.token, code, tc.code)
		}
	}
}

func TestInherited(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	// The descriptor becomes the server's, which closes it: f must not, later,
	// when the number is another's.
	inherited, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	start(t, Config{Open: []int{inherited}})
	if code, body := get(t, &http.Client{Transport: &http.Transport{}}, "http://"+l.Addr().String(), ""); code != 200 || body != "admin via open" {
		t.Errorf("%d %q", code, body)
	}
}

func TestNoAddress(t *testing.T) {
	if _, err := Listen(slog.New(slog.DiscardHandler), Config{}, whoami); err == nil {
		t.Error("a service without listeners started")
	}
}
