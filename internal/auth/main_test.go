package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/contrail-mesos/contrail/internal/serve"
)

func TestMain(m *testing.M) {
	minCost, hashCost = bcrypt.MinCost, bcrypt.MinCost
	goleak.VerifyTestMain(m)
}

// fixedKeys are keys that tests change by hand.
type fixedKeys struct {
	mu      sync.Mutex
	keys    map[string]Key
	signing string
}

func newKeys() *fixedKeys {
	k := &fixedKeys{keys: map[string]Key{}}
	k.rotate("one")
	return k
}

func (k *fixedKeys) rotate(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id], k.signing = Key{id, []byte("secret of " + id + strings.Repeat(".", 32))}, id
}

func (k *fixedKeys) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, id)
}

func (k *fixedKeys) Key(_ context.Context, id string) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, ok := k.keys[id]
	return key, ok
}

func (k *fixedKeys) SigningKey(ctx context.Context) (Key, error) {
	key, _ := k.Key(ctx, k.signing)
	return key, nil
}

// clock is one that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// fixture is a service with a file of users, a clock and a log.
type fixture struct {
	testing.TB
	*Service
	clock *clock
	keys  *fixedKeys
	file  string
	log   *bytes.Buffer
}

// cheap is a hash that takes little time.
func cheap(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), minCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func newFixture(t testing.TB, users string) *fixture {
	t.Helper()
	f := &fixture{TB: t, clock: &clock{at: time.Now()}, keys: newKeys(), file: filepath.Join(t.TempDir(), "users.yaml"), log: &bytes.Buffer{}}
	f.write(users)
	s, err := New(slog.New(slog.NewTextHandler(f.log, nil)), Config{Users: f.file}, f.keys, func(*http.Request) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	s.now = f.clock.now
	f.Service = s
	return f
}

// write replaces the file of users. Each version has a time of its own.
func (f *fixture) write(users string) {
	f.Helper()
	if err := os.WriteFile(f.file, []byte(users), 0o600); err != nil {
		f.Fatal(err)
	}
	f.clock.pass(time.Second)
	if err := os.Chtimes(f.file, f.clock.now(), f.clock.now()); err != nil {
		f.Fatal(err)
	}
}

// login sends credentials from an address.
func (f *fixture) login(from, body string) (int, string, http.Header) {
	f.Helper()
	r := httptest.NewRequest("POST", serve.LoginPath, strings.NewReader(body))
	r = r.WithContext(serve.WithCaller(r.Context(), serve.Caller{Via: "users", From: from}))
	w := httptest.NewRecorder()
	f.Login().ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// token is that of a login that must succeed.
func (f *fixture) token(user, password, project string) string {
	f.Helper()
	body, err := json.Marshal(Credentials{user, password, project})
	if err != nil {
		f.Fatal(err)
	}
	status, text, _ := f.login("192.0.2.1:4711", string(body))
	if status != http.StatusOK {
		f.Fatalf("login of %s: %d %s", user, status, text)
	}
	var g Grant
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		f.Fatal(err)
	}
	return g.Token
}

// who authenticates a token.
func (f *fixture) who(token string) (*serve.User, error) {
	return f.Authenticate(httptest.NewRequest("GET", "/", nil), token)
}
