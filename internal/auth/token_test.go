package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// signed makes a token of one's own.
func signed(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, c jwt.Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	for name, value := range header {
		token.Header[name] = value
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokens(t *testing.T) {
	f := newFixture(t, fmt.Sprintf(alice, cheap(t, "correct horse")))
	good := f.token("alice", "correct horse", "")
	version := f.users.current()["alice"].version
	key, _ := f.keys.Key(t.Context(), "one")
	claimsOf := func(change func(*claims)) *claims {
		c := &claims{Version: version, RegisteredClaims: jwt.RegisteredClaims{
			Issuer: ourIssuer, Audience: jwt.ClaimStrings{ourAudience}, Subject: "alice",
			IssuedAt: jwt.NewNumericDate(f.clock.now()), ExpiresAt: jwt.NewNumericDate(f.clock.now().Add(time.Hour)),
		}}
		change(c)
		return c
	}
	kid := map[string]any{"kid": "one"}
	with := func(change func(*claims)) string {
		return signed(t, jwt.SigningMethodHS256, key.Secret, kid, claimsOf(change))
	}
	same := func(*claims) {}
	parts := strings.Split(good, ".")
	bare := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"one"}`))
	for name, tc := range map[string]struct {
		token string
		ok    bool
	}{
		"good":                {good, true},
		"by hand":             {with(same), true},
		"expired":             {with(func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(f.clock.now().Add(-time.Minute)) }), false},
		"expired in leeway":   {with(func(c *claims) { c.ExpiresAt = jwt.NewNumericDate(f.clock.now().Add(-leeway / 2)) }), true},
		"without an end":      {with(func(c *claims) { c.ExpiresAt = nil }), false},
		"from the future":     {with(func(c *claims) { c.IssuedAt = jwt.NewNumericDate(f.clock.now().Add(time.Hour)) }), false},
		"other audience":      {with(func(c *claims) { c.Audience = jwt.ClaimStrings{"other"} }), false},
		"no audience":         {with(func(c *claims) { c.Audience = nil }), false},
		"other issuer":        {with(func(c *claims) { c.Issuer = "other" }), false},
		"no issuer":           {with(func(c *claims) { c.Issuer = "" }), false},
		"other user":          {with(func(c *claims) { c.Subject = "mallory" }), false},
		"other password":      {with(func(c *claims) { c.Version = "" }), false},
		"other project":       {with(func(c *claims) { c.Project = "default-domain:shop" }), false},
		"other key":           {signed(t, jwt.SigningMethodHS256, []byte("wrong"), kid, claimsOf(same)), false},
		"unknown key":         {signed(t, jwt.SigningMethodHS256, key.Secret, map[string]any{"kid": "two"}, claimsOf(same)), false},
		"no key":              {signed(t, jwt.SigningMethodHS256, key.Secret, nil, claimsOf(same)), false},
		"key is a number":     {signed(t, jwt.SigningMethodHS256, key.Secret, map[string]any{"kid": 1}, claimsOf(same)), false},
		"other algorithm":     {signed(t, jwt.SigningMethodHS512, key.Secret, kid, claimsOf(same)), false},
		"no algorithm":        {signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid, claimsOf(same)), false},
		"signature taken off": {parts[0] + "." + parts[1] + ".", false},
		"header replaced":     {bare + "." + parts[1] + ".", false},
		"signature of others": {parts[0] + "." + parts[1] + "." + strings.Split(with(func(c *claims) { c.Subject = "x" }), ".")[2], false},
		"empty":               {"", false},
		"dots":                {"..", false},
		"long":                {strings.Repeat("a", longestToken) + ".b.c", false},
	} {
		u, err := f.who(tc.token)
		if (err == nil) != tc.ok || tc.ok && u.Name != "alice" {
			t.Errorf("%s: %v %v, want ok %v", name, u, err, tc.ok)
		}
		if err != nil && tc.token != "" && strings.Contains(err.Error(), tc.token) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	f.clock.pass(time.Hour + time.Minute)
	if _, err := f.who(good); err != errExpired {
		t.Errorf("after its time: %v, want %v", err, errExpired)
	}
}

func TestKeysAreReplaced(t *testing.T) {
	f := newFixture(t, fmt.Sprintf(alice, cheap(t, "correct horse")))
	old := f.token("alice", "correct horse", "")
	f.keys.rotate("two")
	if _, err := f.who(old); err != nil {
		t.Errorf("token of the key before: %v", err)
	}
	if _, err := f.who(f.token("alice", "correct horse", "")); err != nil {
		t.Errorf("token of the new key: %v", err)
	}
	f.keys.forget("one")
	if _, err := f.who(old); err == nil {
		t.Error("token of a key that is gone is valid")
	}
}

func TestProjectOfToken(t *testing.T) {
	f := newFixture(t, fmt.Sprintf("users:\n"+bob, cheap(t, "correct horse")))
	u, err := f.who(f.token("bob", "correct horse", "lab"))
	if err != nil || len(u.Projects) != 1 || u.Projects[0].Project != "default-domain:lab" {
		t.Errorf("token for lab: %+v %v", u, err)
	}
	if status, text, _ := f.login("192.0.2.1:1", `{"user": "bob", "password": "correct horse", "project": "other"}`); status != http.StatusUnauthorized {
		t.Errorf("token for another project: %d %s", status, text)
	}
}

func TestLogin(t *testing.T) {
	f := newFixture(t, fmt.Sprintf(alice, cheap(t, "correct horse")))
	for _, tc := range []struct {
		body   string
		status int
	}{
		{`{"user": "alice", "password": "correct horse"}`, 200},
		{`{"user": "alice", "password": "wrong"}`, 401},
		{`{"user": "mallory", "password": "correct horse"}`, 401},
		{`{"user": "alice", "password": ""}`, 400},
		{`{"user": "alice"}`, 400},
		{`{"user": "alice", "password": "correct horse", "admin": true}`, 400},
		{`{"user": "alice", "password": "correct horse"}{}`, 400},
		{`[]`, 400},
		{``, 400},
		{`{"user": "alice", "password": "` + strings.Repeat("x", longestLogin) + `"}`, 400},
	} {
		status, text, header := f.login("192.0.2.1:4711", tc.body)
		if status != tc.status {
			t.Errorf("%.80s: %d %s, want %d", tc.body, status, text, tc.status)
		}
		if header.Get("Cache-Control") != "no-store" {
			t.Errorf("%.80s: the answer may be cached", tc.body)
		}
	}
	for _, secret := range []string{"correct horse", "wrong", "mallory", "$2a$"} {
		if strings.Contains(f.log.String(), secret) {
			t.Errorf("the log has %q: %s", secret, f.log)
		}
	}
}

func TestGuessingIsSlow(t *testing.T) {
	f := newFixture(t, fmt.Sprintf(alice, cheap(t, "correct horse")))
	wrong, right := `{"user": "alice", "password": "wrong"}`, `{"user": "alice", "password": "correct horse"}`
	looked := 0
	for range 100 {
		if status, _, _ := f.login("192.0.2.9:1", wrong); status == http.StatusUnauthorized {
			looked++
		}
		f.clock.pass(time.Second)
	}
	if looked > 12 {
		t.Errorf("%d of 100 guesses in 100 s were looked at", looked)
	}
	status, _, header := f.login("192.0.2.9:1", right)
	if status != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("while guesses are slowed: %d, Retry-After %q", status, header.Get("Retry-After"))
	}
	// Others are not kept from logging in.
	if status, text, _ := f.login("192.0.2.10:1", right); status != 200 {
		t.Errorf("from elsewhere: %d %s", status, text)
	}
	f.clock.pass(forgetAfter)
	if status, text, _ := f.login("192.0.2.9:1", right); status != 200 {
		t.Errorf("after a while: %d %s", status, text)
	}
	// Many names from one place, and one name from many.
	blocked := 0
	for i := range 60 {
		if status, _, _ := f.login("198.51.100.1:1", fmt.Sprintf(`{"user": "u%d", "password": "wrong"}`, i)); status == http.StatusTooManyRequests {
			blocked++
		}
	}
	if blocked < 30 {
		t.Errorf("%d of 60 guesses of names from one place were stopped", blocked)
	}
}

func TestThrottleForgets(t *testing.T) {
	th, now := newThrottle(), time.Now()
	for i := range 3 * mostFailures {
		th.begin(fmt.Sprint("u", i), fmt.Sprint(i), now)
	}
	if n := len(th.entries); n > mostFailures {
		t.Errorf("%d entries, want at most %d", n, mostFailures)
	}
}

func TestSourceOf(t *testing.T) {
	for from, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"[fe80::1%eth0]:1": "fe80::/64", "": "", "x": "x",
	} {
		if got := sourceOf(from); got != want {
			t.Errorf("%q: %q, want %q", from, got, want)
		}
	}
}

func FuzzAuthenticate(f *testing.F) {
	fix := newFixture(f, "users: []\n")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJjb250cmFpbCJ9.")
	f.Add("..")
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"one"}`))
	for _, c := range []any{map[string]any{"iss": ourIssuer}, []int{1}, map[string]any{"iss": ourIssuer, "exp": 1e300, "aud": 1}} {
		data, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(header + "." + base64.RawURLEncoding.EncodeToString(data) + ".c2ln")
	}
	f.Fuzz(func(t *testing.T, token string) {
		if u, err := fix.who(token); err == nil {
			t.Errorf("%q is a token of %v", token, u)
		}
	})
}
