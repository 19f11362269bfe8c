package configapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// front is an API behind real listeners: one for users, one that is open, and
// a unix socket.
type front struct {
	*bench
	log                 *logBuffer
	users, open, socket string
	ca                  *ctls.Authority
	dir                 string
}

func newFront(t *testing.T, mode Mode) *front {
	t.Helper()
	f := &front{log: &logBuffer{}, dir: t.TempDir()}
	cfg := testConfig()
	cfg.Mode = mode
	f.bench = newBench(t, cfg)
	f.bench.api.log = slog.New(slog.NewTextHandler(f.log, nil))
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), 10)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(f.dir, "users.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, `users:
- {name: clara, password: %[1]q, roles: [cloud-admin]}
- {name: ada, password: %[1]q, projects: [{project: p1, roles: [admin]}]}
`, hash), 0o600); err != nil {
		t.Fatal(err)
	}
	service, err := auth.New(f.api.log, auth.Config{Users: file}, f.api, f.api.Demanded)
	if err != nil {
		t.Fatal(err)
	}
	if f.ca, err = ctls.OpenAuthority(filepath.Join(f.dir, "ca")); err != nil {
		t.Fatal(err)
	}
	f.listen(t, service)
	return f
}

func (f *front) credentials(t *testing.T, role string) *ctls.Credentials {
	t.Helper()
	dir := filepath.Join(f.dir, role)
	if err := f.ca.Issue(dir, role, ""); err != nil {
		t.Fatal(err)
	}
	c, err := ctls.LoadCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *front) listen(t *testing.T, service *auth.Service) {
	t.Helper()
	inherited, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := inherited.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	inherited.Close()
	fd, err := unix.Dup(int(file.Fd())) // the server closes it
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	f.open, f.users, f.socket = "http://"+inherited.Addr().String(), "https://"+free.Addr().String(), filepath.Join(f.dir, "s")
	server, err := serve.Listen(f.api.log, serve.Config{
		Unix: f.socket, Users: free.Addr().String(), Open: []int{fd},
		Credentials: f.credentials(t, ctls.RoleController), Authenticator: service,
	}, f.handler)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

// client of users; with a certificate where credentials are given.
func (f *front) client(t *testing.T, credentials *ctls.Credentials) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(f.dir, "ca", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	settings := ctls.UserClient(pool, ctls.RoleController)
	if credentials != nil {
		settings.GetClientCertificate = credentials.Client("").GetClientCertificate
	}
	transport := &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// ask sends a request, with a token if there is one.
func ask(t *testing.T, c *http.Client, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if scheme, rest, ok := strings.Cut(token, " "); ok {
		r.Header.Set(scheme, rest)
	} else if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (f *front) login(t *testing.T, at, user string) string {
	t.Helper()
	status, text := ask(t, f.client(t, nil), "POST", at+serve.LoginPath, "", `{"user": "`+user+`", "password": "correct horse"}`)
	var g auth.Grant
	if status != http.StatusOK || json.Unmarshal([]byte(text), &g) != nil {
		t.Fatalf("login of %s at %s: %d %s", user, at, status, text)
	}
	return g.Token
}

func TestUsersThroughListeners(t *testing.T) {
	f := newFront(t, NoAuth)
	ids := f.tenants()
	plain := f.client(t, nil)
	own, other := "/virtual-network/"+ids["p1/virtual-network"], "/virtual-network/"+ids["p2/virtual-network"]
	ada, clara := f.login(t, f.users, "ada"), f.login(t, f.open, "clara")
	check := func(what string, c *http.Client, method, url, token, body string, want int) string {
		t.Helper()
		status, text := ask(t, c, method, url, token, body)
		if status != want {
			t.Errorf("%s: %s %s: %d %s, want %d", what, method, url, status, text, want)
		}
		return text
	}
	// In no-auth the open listener is everybody's; that for users is not.
	check("no-auth", plain, "GET", f.open+other, "", "", 200)
	if text := check("no-auth", plain, "GET", f.users+own, "", "", 401); !strings.Contains(text, "contrail login") {
		t.Errorf("the answer does not say how to get a token: %s", text)
	}
	check("no-auth", plain, "GET", f.users+own, ada, "", 200)
	check("X-Auth-Token", plain, "GET", f.users+own, "X-Auth-Token "+ada, "", 200)
	check("no-auth", plain, "GET", f.users+other, ada, "", 404)
	check("a wrong token", plain, "GET", f.users+own, ada+"x", "", 401)
	check("mode", plain, "PUT", f.users+"/aaa-mode", ada, `{"aaa-mode": "no-auth"}`, 403)
	check("mode", plain, "PUT", f.users+"/aaa-mode", clara, `{"aaa-mode": "what"}`, 400)
	check("mode", plain, "PUT", f.users+"/aaa-mode", clara, `{"aaa-mode": "rbac"}`, 200)
	// From now on the open listener wants a token too.
	check("rbac", plain, "GET", f.open+own, "", "", 401)
	check("rbac", plain, "GET", f.open+own, ada, "", 200)
	check("rbac", plain, "GET", f.open+other, ada, "", 404)
	check("rbac", plain, "GET", f.open+other, clara, "", 200)
	check("rbac", plain, "GET", f.open+"/healthz", "", "", 200)
	// Components show their certificates; what is no component of ours shows none.
	check("certificate", f.client(t, f.credentials(t, ctls.RoleManager)), "GET", f.users+other, "", "", 200)
	check("certificate", f.client(t, f.credentials(t, ctls.RoleMarathon)), "GET", f.users+other, "", "", 403)
	check("cloud-admin", plain, "PUT", f.users+"/aaa-mode", clara, `{"aaa-mode": "cloud-admin"}`, 200)
	check("cloud-admin", plain, "GET", f.users+own, ada, "", 403)
	check("cloud-admin", plain, "GET", f.users+own, clara, "", 200)
	// Root on the unix socket is never locked out.
	if os.Getuid() == 0 {
		root := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", f.socket)
		}}}
		check("root", root, "PUT", "http://localhost/aaa-mode", "", `{"aaa-mode": "no-auth"}`, 200)
		check("root", plain, "GET", f.open+own, "", "", 200)
	}
}

func TestCertificateOfUsers(t *testing.T) {
	f := newFront(t, RBAC)
	if _, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(f.users); err == nil {
		t.Error("a certificate that nobody known has signed is accepted")
	}
	foreign, err := ctls.OpenAuthority(filepath.Join(f.dir, "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Issue(filepath.Join(f.dir, "stranger"), ctls.RoleAdmin, ""); err != nil {
		t.Fatal(err)
	}
	stranger, err := tls.LoadX509KeyPair(filepath.Join(f.dir, "stranger", "tls.crt"), filepath.Join(f.dir, "stranger", "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	c := f.client(t, nil)
	c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	if resp, err := c.Get(f.users + "/"); err == nil {
		resp.Body.Close()
		t.Errorf("a client's certificate of another authority: %s", resp.Status)
	}
}

func TestModeIsTheCluster(t *testing.T) {
	f := newFront(t, NoAuth)
	cfg := testConfig()
	cfg.Mode = RBAC // what another controller is started with does not matter
	other := openBench(t, f.prefix, cfg)
	if got := other.api.tenancy.Mode(); got != NoAuth {
		t.Errorf("mode at another controller is %s, want that of the cluster", got)
	}
	f.json("PUT", "/aaa-mode", `{"aaa-mode": "cloud-admin"}`)
	head, err := f.store.Head(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.api.catchUp(other.ctx(), head); err != nil {
		t.Fatal(err)
	}
	if got := other.api.tenancy.Mode(); got != AdminOnly {
		t.Errorf("mode at another controller is %s, want %s", got, AdminOnly)
	}
	// So are the keys of tokens.
	key, err := f.api.SigningKey(f.ctx())
	if err != nil {
		t.Fatal(err)
	}
	same, err := other.api.SigningKey(other.ctx())
	if err != nil || same.ID != key.ID || !bytes.Equal(same.Secret, key.Secret) {
		t.Errorf("another controller signs with %s (%v), this one with %s", same.ID, err, key.ID)
	}
	f.endRests() // as if a day had passed
	if _, ok := f.api.Key(f.ctx(), key.ID); ok {
		t.Error("a key outlives its lease")
	}
	if again, err := f.api.SigningKey(f.ctx()); err != nil || again.ID == key.ID {
		t.Errorf("after its end the key is %s, %v", again.ID, err)
	}
}

func TestAuditLog(t *testing.T) {
	f := newFront(t, RBAC)
	ids := f.tenants()
	vn := ids["p1/virtual-network"]
	ada := f.login(t, f.users, "ada")
	status, text := ask(t, f.client(t, nil), "PUT", f.users+"/virtual-network/"+vn, ada, `{"virtual-network": {"display_name": "not in the log"}}`)
	if status != 200 {
		t.Fatalf("update: %d %s", status, text)
	}
	f.attachedIn(ids["p1"])
	status, text = ask(t, f.client(t, nil), "PUT", f.users+"/virtual-network/"+vn, ada, `{"virtual-network": {"route_target_list": {"route_target": ["target:64512:1"]}}}`)
	if status != 403 {
		t.Errorf("route targets: %d %s", status, text)
	}
	blue := f.create("virtual-network", `{"fq_name": ["default-domain", "p1", "numbered"], "network_ipam_refs": [
		{"to": ["default-domain", "default-project", "default-network-ipam"], "attr": `+subnetBlue+`}]}`)
	status, text = ask(t, f.client(t, nil), "POST", f.users+"/virtual-network/"+blue+"/ip-alloc", ada, `{"count": 1}`)
	if status != 200 {
		t.Fatalf("ip-alloc: %d %s", status, text)
	}
	log := f.log.String()
	for _, want := range [][]string{
		{"msg=write", `who="user ada"`, "operation=ip-alloc", "allocate virtual-network/" + blue + " 10."},
		{"msg=write", `who="user ada"`, "via=users", "from=127.0.0.1:", "admin@default-domain:p1", "operation=update", "virtual-network/" + vn, "default-domain:p1:p1-virtual-network [display_name]", "revision=", "result=ok"},
		{"msg=write", "operation=attach", "node=00000000-0000-4000-8000-000000000001", "create instance-ip/"},
		{`msg="request refused"`, `who="user ada"`, "virtual-network.route_target_list", "result=denied"},
		{"msg=login", `who="user ada"`, "result=ok"},
	} {
		found := false
		for line := range strings.Lines(log) {
			missing := 0
			for _, part := range want {
				if !strings.Contains(line, part) {
					missing++
				}
			}
			found = found || missing == 0
		}
		if !found {
			t.Errorf("no line of the log has all of %q:\n%s", want, log)
		}
	}
	for _, secret := range []string{"not in the log", "correct horse", ada} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

func TestRulesOfProjects(t *testing.T) {
	b := newBench(t, testConfig())
	ids := b.tenants()
	vn := "/virtual-network/" + ids["p1/virtual-network"]
	rename := `{"virtual-network": {"display_name": %q}}`
	list := b.create("api-access-list", `{"fq_name": ["default-domain", "p1", "strict"], "parent_type": "project", "api_access_list_entries": {"rbac_rule": [
		{"rule_object": "virtual-network", "rule_field": "display_name", "rule_perms": [{"role_name": "admin", "role_crud": "RU"}]}]}}`)
	if status, text := b.callAs(member1, "PUT", vn, fmt.Sprintf(rename, "one")); status != 403 || !strings.Contains(text, "virtual-network.display_name") {
		t.Errorf("field that the project's list keeps from members: %d %s", status, text)
	}
	if status, text := b.callAs(admin1, "PUT", vn, fmt.Sprintf(rename, "two")); status != 200 {
		t.Errorf("field that the project's list gives to admins: %d %s", status, text)
	}
	// A project's list does not reach beyond it.
	if status, text := b.callAs(person("m2", "p2", "member"), "PUT", "/virtual-network/"+ids["p2/virtual-network"], fmt.Sprintf(rename, "three")); status != 200 {
		t.Errorf("in another project: %d %s", status, text)
	}
	b.json("DELETE", "/api-access-list/"+list, "")
	if status, text := b.callAs(member1, "PUT", vn, fmt.Sprintf(rename, "four")); status != 200 {
		t.Errorf("after the list is gone: %d %s", status, text)
	}
}
