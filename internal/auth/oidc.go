package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// issuerConfig is the file that says which issuer is trusted.
type issuerConfig struct {
	// Issuer is the URL that tokens name.
	Issuer string `yaml:"issuer"`
	// Audience must be among those of a token.
	Audience string `yaml:"audience"`
	// Username is the claim with the user's name; "sub" when it is empty.
	Username string `yaml:"username"`
	// CA is a file with the certificates that the issuer's may be signed by.
	CA string `yaml:"ca"`
	// Leeway is how far the issuer's clock may be from ours; 30s when empty.
	Leeway string `yaml:"leeway"`
	// Roles turn claims into roles.
	Roles []claimRole `yaml:"roles"`

	leeway time.Duration
}

// claimRole gives a role to those whose claim has a value.
type claimRole struct {
	// Claim is a name, or names of nested claims as in "realm_access.roles".
	Claim string `yaml:"claim"`
	// Value that the claim is, or has among others.
	Value string `yaml:"value"`
	// Role in the whole cluster, or in Project.
	Role    string `yaml:"role"`
	Project string `yaml:"project"`
}

func parseIssuer(data []byte) (*issuerConfig, error) {
	c := &issuerConfig{}
	if err := strictYAML(data, c); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("issuer %q is no URL; want it as the tokens have it, such as https://login.example.com/realms/net", short(c.Issuer))
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil, fmt.Errorf("issuer %q: want https", short(c.Issuer))
	case c.Audience == "":
		return nil, errors.New("audience is missing; give the client id that tokens for this cluster are made for")
	case len(c.Roles) == 0:
		return nil, errors.New("roles are missing; without them nobody may do anything")
	}
	if c.Username == "" {
		c.Username = "sub"
	}
	c.leeway = leeway
	if c.Leeway != "" {
		if c.leeway, err = time.ParseDuration(c.Leeway); err != nil || c.leeway < 0 || c.leeway > 5*time.Minute {
			return nil, fmt.Errorf("leeway %q: want a time of at most 5m, such as 30s", short(c.Leeway))
		}
	}
	for i := range c.Roles {
		if err := c.Roles[i].check(); err != nil {
			return nil, fmt.Errorf("roles %d: %w", i+1, err)
		}
	}
	return c, nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (r *claimRole) check() error {
	if r.Claim == "" || r.Value == "" {
		return errors.New("claim and value are needed")
	}
	if r.Project == "" {
		return checkGlobalRole(r.Role)
	}
	m, err := membership(r.Project, []string{r.Role})
	r.Project = m.Project
	return err
}

const (
	// refresh is how often the issuer is asked anew for where its keys are.
	refresh = 15 * time.Minute
	// retry is how long after a failure it is asked again, and the least time
	// between two questions for keys: a stranger's tokens do not make us a
	// nuisance to the issuer.
	retry = 5 * time.Second
	// fetchTimeout bounds one question to the issuer.
	fetchTimeout = 10 * time.Second
	// longestFetch bounds what is read of its answer, in bytes.
	longestFetch = 1 << 20
)

// algorithms that tokens may be signed by: only such with public keys.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// issuer checks tokens of OpenID Connect.
type issuer struct {
	log    *slog.Logger
	cfg    *issuerConfig
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
	asked    time.Time
	failed   error
}

func openIssuer(log *slog.Logger, path string) (*issuer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("OpenID Connect: %w", err)
	}
	cfg, err := parseIssuer(data)
	if err != nil {
		return nil, fmt.Errorf("OpenID Connect: %s: %w", path, err)
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("OpenID Connect: ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OpenID Connect: ca: %s holds no certificate", cfg.CA)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	client := &http.Client{Timeout: fetchTimeout, Transport: &calm{next: transport, seen: map[string]*remembered{}}}
	return &issuer{log: log, cfg: cfg, client: client, now: time.Now}, nil
}

func (i *issuer) close() { i.client.CloseIdleConnections() }

// current returns the verifier, asking the issuer where its keys are when it
// is time to. Meanwhile others use the old one.
func (i *issuer) current(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	old, failed, age := i.verifier, i.failed, i.now().Sub(i.asked)
	due := age >= retry && (old == nil || failed != nil || age >= refresh) || old == nil && failed == nil
	if due {
		i.asked = i.now()
	}
	i.mu.Unlock()
	if !due {
		if old == nil {
			return nil, failed
		}
		return old, nil
	}
	// The keys are asked for later, too: not for as long as this request.
	client := oidc.ClientContext(context.WithoutCancel(ctx), i.client)
	provider, err := oidc.NewProvider(client, i.cfg.Issuer)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		i.failed = errors.New("the issuer of the token does not answer; try again")
		i.log.Warn("issuer of OpenID Connect does not answer", "issuer", i.cfg.Issuer, "error", err)
		if i.verifier == nil {
			return nil, i.failed
		}
		return i.verifier, nil // its keys may still be known
	}
	i.failed = nil
	i.verifier = provider.VerifierContext(client, &oidc.Config{
		ClientID: i.cfg.Audience, SupportedSigningAlgs: algorithms, SkipExpiryCheck: true, // with leeway, see verify
	})
	return i.verifier, nil
}

// verify returns the user of a token of the issuer.
func (i *issuer) verify(ctx context.Context, token string) (*serve.User, error) {
	verifier, err := i.current(ctx)
	if err != nil {
		return nil, err
	}
	checked, err := verifier.Verify(ctx, token)
	if err != nil {
		i.log.Debug("token of the issuer is not valid", "error", err)
		return nil, errToken
	}
	var c map[string]any
	if err := checked.Claims(&c); err != nil {
		return nil, errToken
	}
	now := i.now()
	switch {
	case checked.Expiry.IsZero() || !now.Before(checked.Expiry.Add(i.cfg.leeway)):
		return nil, errExpired
	case now.Add(i.cfg.leeway).Before(numericDate(c["nbf"])), now.Add(i.cfg.leeway).Before(checked.IssuedAt):
		return nil, errors.New("the token is not valid yet")
	}
	name, _ := claim(c, i.cfg.Username).(string)
	if !userName.MatchString(name) && !isPrintable(name) {
		return nil, fmt.Errorf("the token has no user name in its claim %s", i.cfg.Username)
	}
	u := &serve.User{Name: name, Issuer: i.cfg.Issuer}
	for _, r := range i.cfg.Roles {
		if has(claim(c, r.Claim), r.Value) {
			r.give(u)
		}
	}
	return u, nil
}

// isPrintable tells whether an issuer's name for a user can be logged.
func isPrintable(name string) bool {
	return name != "" && len(name) <= 255 && strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) < 0
}

func numericDate(v any) time.Time {
	n, ok := v.(float64)
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(n), 0)
}

// give adds the role to a user.
func (r *claimRole) give(u *serve.User) {
	if r.Project == "" {
		if !slices.Contains(u.Roles, r.Role) {
			u.Roles = append(u.Roles, r.Role)
		}
		return
	}
	for i := range u.Projects {
		if m := &u.Projects[i]; m.Project == r.Project {
			if !slices.Contains(m.Roles, r.Role) {
				m.Roles = append(m.Roles, r.Role)
			}
			return
		}
	}
	u.Projects = append(u.Projects, serve.Membership{Project: r.Project, Roles: []string{r.Role}})
}

// claim finds a claim by its name, or by the names of those it is nested in.
func claim(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v // names that are URLs have dots, too
	}
	first, rest, ok := strings.Cut(path, ".")
	if !ok {
		return nil
	}
	inner, ok := claims[first].(map[string]any)
	if !ok {
		return nil
	}
	return claim(inner, rest)
}

// has tells whether a claim is a value, or has it among others.
func has(claim any, value string) bool {
	switch c := claim.(type) {
	case string:
		return c == value
	case []any:
		return slices.ContainsFunc(c, func(v any) bool { return v == value })
	default:
		return false
	}
}

// calm asks for the same thing again only after a while, and bounds answers.
type calm struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]*remembered
}

type remembered struct {
	at     time.Time
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper.
func (c *calm) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := r.URL.String()
	m := c.seen[key]
	if m == nil || time.Since(m.at) >= retry {
		resp, err := c.next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, longestFetch))
		if err != nil {
			return nil, err
		}
		m = &remembered{time.Now(), resp.StatusCode, resp.Header, body}
		c.seen[key] = m
	}
	return &http.Response{
		Status: http.StatusText(m.status), StatusCode: m.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: m.header.Clone(), Body: io.NopCloser(bytes.NewReader(m.body)), ContentLength: int64(len(m.body)), Request: r,
	}, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (c *calm) CloseIdleConnections() {
	if t, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
