package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// idp is a little issuer of OpenID Connect.
type idp struct {
	*httptest.Server
	keyQuestions atomic.Int64

	mu   sync.Mutex
	keys map[string]crypto.Signer
	down bool
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{keys: map[string]crypto.Signer{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256", "none", "HS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.keyQuestions.Add(1)
		json.NewEncoder(w).Encode(map[string]any{"keys": p.published()})
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) published() []map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	encode := func(n *big.Int, size int) string {
		return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, size)))
	}
	var list []map[string]string
	for id, k := range p.keys {
		switch k := k.(type) {
		case *rsa.PrivateKey:
			list = append(list, map[string]string{"kty": "RSA", "use": "sig", "kid": id, "alg": "RS256", "n": encode(k.N, k.Size()), "e": encode(big.NewInt(int64(k.E)), 3)})
		case *ecdsa.PrivateKey:
			list = append(list, map[string]string{"kty": "EC", "use": "sig", "kid": id, "crv": "P-256", "x": encode(k.X, 32), "y": encode(k.Y, 32)})
		}
	}
	return list
}

// add makes a key.
func (p *idp) add(t *testing.T, id string, curve bool) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	if curve {
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys[id] = k
	return k
}

// trusting is a service that trusts the issuer.
func (p *idp) trusting(t *testing.T) (*Service, *clock) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "oidc.yaml")
	config := fmt.Sprintf(`
issuer: %s
audience: contrail
username: email
leeway: 1m
roles:
- {claim: groups, value: operators, role: cloud-admin}
- {claim: realm_access.roles, value: auditors, role: global-read-only}
- {claim: groups, value: shop, role: admin, project: shop}
- {claim: groups, value: shop-members, role: member, project: shop}
`, p.URL)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil)), Config{OIDC: file}, newKeys(), func(*http.Request) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := &clock{at: time.Now()}
	s.now, s.issuer.now = c.now, c.now
	return s, c
}

func TestOpenIDConnect(t *testing.T) {
	p := newIDP(t)
	key, curve := p.add(t, "one", false), p.add(t, "two", true)
	s, now := p.trusting(t)
	base := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{
			"iss": p.URL, "aud": "contrail", "sub": "4711", "email": "ada@example.com",
			"iat": now.now().Unix(), "exp": now.now().Add(time.Hour).Unix(), "groups": []string{"operators", "shop", "shop-members"},
		}
		change(c)
		return c
	}
	kid := map[string]any{"kid": "one"}
	with := func(change func(jwt.MapClaims)) string {
		return signed(t, jwt.SigningMethodRS256, key, kid, base(change))
	}
	same := func(jwt.MapClaims) {}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(p.published())
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[name] = value } }
	for name, tc := range map[string]struct {
		token string
		ok    bool
	}{
		"good":                   {with(same), true},
		"other kind of key":      {signed(t, jwt.SigningMethodES256, curve, map[string]any{"kid": "two"}, base(same)), true},
		"several audiences":      {with(set("aud", []string{"x", "contrail"})), true},
		"other audience":         {with(set("aud", "other")), false},
		"other issuer":           {with(set("iss", "https://evil.example.com")), false},
		"our own issuer":         {with(set("iss", ourIssuer)), false},
		"expired":                {with(set("exp", now.now().Add(-2*time.Minute).Unix())), false},
		"expired in leeway":      {with(set("exp", now.now().Add(-30*time.Second).Unix())), true},
		"without an end":         {with(func(c jwt.MapClaims) { delete(c, "exp") }), false},
		"not yet":                {with(set("nbf", now.now().Add(2*time.Minute).Unix())), false},
		"not yet in leeway":      {with(set("nbf", now.now().Add(30*time.Second).Unix())), true},
		"from the future":        {with(set("iat", now.now().Add(time.Hour).Unix())), false},
		"no name":                {with(func(c jwt.MapClaims) { delete(c, "email") }), false},
		"name with a line":       {with(set("email", "a\nb")), false},
		"of another key":         {signed(t, jwt.SigningMethodRS256, stranger, kid, base(same)), false},
		"of an unknown key":      {signed(t, jwt.SigningMethodRS256, stranger, map[string]any{"kid": "zero"}, base(same)), false},
		"no algorithm":           {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, base(same)), false},
		"public key as a secret": {signed(t, jwt.SigningMethodHS256, public, kid, base(same)), false},
	} {
		u, err := s.Authenticate(httptest.NewRequest("GET", "/", nil), tc.token)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v %v, want ok %v", name, u, err, tc.ok)
			continue
		}
		if tc.ok && (u.Name != "ada@example.com" || u.Issuer != p.URL || !u.Has(serve.CloudAdmin) || len(u.Projects) != 1 ||
			!slices.Equal(u.Projects[0].Roles, []string{"admin", "member"})) {
			t.Errorf("%s: %+v", name, u)
		}
	}
	for groups, want := range map[string]string{`"auditors"`: serve.ReadOnly, `["x", "auditors"]`: serve.ReadOnly, `"xauditors"`: "", `[1]`: ""} {
		var value any
		if err := json.Unmarshal([]byte(groups), &value); err != nil {
			t.Fatal(err)
		}
		u, err := s.Authenticate(httptest.NewRequest("GET", "/", nil), with(func(c jwt.MapClaims) {
			delete(c, "groups")
			c["realm_access"] = map[string]any{"roles": value}
		}))
		if err != nil || u.Has(serve.ReadOnly) != (want != "") {
			t.Errorf("nested claim %s: %+v %v", groups, u, err)
		}
	}
}

func TestIssuersKeysAreAskedFor(t *testing.T) {
	p := newIDP(t)
	key := p.add(t, "one", false)
	s, now := p.trusting(t)
	token := func(kid string, key crypto.Signer) string {
		return signed(t, jwt.SigningMethodRS256, key, map[string]any{"kid": kid}, jwt.MapClaims{
			"iss": p.URL, "aud": "contrail", "email": "ada@example.com", "iat": now.now().Unix(), "exp": now.now().Add(time.Hour).Unix(),
		})
	}
	ask := func(token string) error {
		_, err := s.Authenticate(httptest.NewRequest("GET", "/", nil), token)
		return err
	}
	if err := ask(token("one", key)); err != nil {
		t.Fatal(err)
	}
	// Strangers' keys do not make us ask again and again.
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if ask(token(fmt.Sprint("x", i), stranger)) == nil {
			t.Fatal("a stranger's token is valid")
		}
	}
	if n := p.keyQuestions.Load(); n > 2 {
		t.Errorf("the issuer was asked %d times for its keys", n)
	}
	// The issuer being away does not end what is known.
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	now.pass(refresh + time.Second)
	if err := ask(token("one", key)); err != nil {
		t.Errorf("while the issuer is away: %v", err)
	}
}

func TestIssuerAway(t *testing.T) {
	p := newIDP(t)
	key := p.add(t, "one", false)
	s, now := p.trusting(t)
	token := signed(t, jwt.SigningMethodRS256, key, map[string]any{"kid": "one"}, jwt.MapClaims{
		"iss": p.URL, "aud": "contrail", "email": "ada@example.com", "iat": now.now().Unix(), "exp": now.now().Add(time.Hour).Unix(),
	})
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	if _, err := s.Authenticate(httptest.NewRequest("GET", "/", nil), token); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("issuer away from the start: %v", err)
	}
}

func TestParseIssuer(t *testing.T) {
	good := "issuer: https://login.example.com\naudience: contrail\nroles:\n- {claim: groups, value: x, role: cloud-admin}\n"
	for file, want := range map[string]string{
		good: "",
		strings.Replace(good, "https://login.example.com", "http://login.example.com", 1):      "want https",
		strings.Replace(good, "https://login.example.com", "login", 1):                         "is no URL",
		strings.Replace(good, "https://login.example.com", "https://u:p@login.example.com", 1): "is no URL",
		strings.Replace(good, "audience: contrail\n", "", 1):                                   "audience is missing",
		strings.Replace(good, "cloud-admin", "admin", 1):                                       "is no role in the whole cluster",
		strings.Replace(good, "claim: groups, ", "", 1):                                        "claim and value are needed",
		strings.Replace(good, "role: cloud-admin", "role: cloud-admin, project: shop", 1):      "is no role in a project",
		strings.Replace(good, "role: cloud-admin", "role: admin, project: 'a:b:c'", 1):         "is no project",
		"issuer: https://login.example.com\naudience: contrail\n":                              "roles are missing",
		good + "leeway: 1h\n": "at most 5m",
		good + "key: 1\n":     "field key not found",
	} {
		_, err := parseIssuer([]byte(file))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

func FuzzParseIssuer(f *testing.F) {
	f.Add([]byte("issuer: https://login.example.com\naudience: contrail\nroles:\n- {claim: groups, value: x, role: cloud-admin}\n"))
	f.Add([]byte("issuer: 'https://%'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseIssuer(data); err == nil && (c.Audience == "" || len(c.Roles) == 0) {
			t.Errorf("%q is a configuration", data)
		}
	})
}
