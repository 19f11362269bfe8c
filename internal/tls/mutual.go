package tls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Identity is whom a certificate names.
type Identity struct {
	// Role is one of the Role constants.
	Role string
	// Node is the UUID of a node, empty for every other role.
	Node string
}

func (id Identity) String() string {
	if id.Role == RoleNode {
		return "node " + id.Node
	}
	return id.Role
}

func (id Identity) opaque() string {
	if id.Role == RoleNode {
		return RoleNode + ":" + id.Node
	}
	return id.Role
}

// DNSName is the name that the certificates of a controller-side role have
// besides their identity, for libraries that check names only.
func DNSName(role string) string { return role + ".contrail.internal" }

func (id Identity) dnsNames() []string {
	if id.Role == RoleNode {
		return nil
	}
	return []string{DNSName(id.Role)}
}

func identityOf(cert *x509.Certificate) (Identity, error) {
	for _, u := range cert.URIs {
		if u.Scheme != "contrail" {
			continue
		}
		role, node, isNode := strings.Cut(u.Opaque, ":")
		if role == "" || isNode != (role == RoleNode) || isNode && node == "" {
			return Identity{}, fmt.Errorf("certificate names %q, which is no identity", u)
		}
		return Identity{Role: role, Node: node}, nil
	}
	return Identity{}, errors.New("certificate has no contrail identity")
}

// PeerIdentity is the identity of the verified peer of a connection.
func PeerIdentity(state *tls.ConnectionState) (Identity, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return Identity{}, errors.New("peer has no verified certificate")
	}
	return identityOf(state.VerifiedChains[0][0])
}

// Credentials are one process's key pair and trust. They follow the files: a
// renewed certificate is used from the next handshake on. Safe for concurrent
// use.
type Credentials struct {
	dir string

	mu      sync.Mutex
	pair    *tls.Certificate
	roots   *x509.CertPool
	stamp   time.Time
	checked time.Time
}

// recheck bounds how often the files are looked at.
const recheck = 5 * time.Second

// LoadCredentials reads ca.crt, tls.crt and tls.key of dir.
func LoadCredentials(dir string) (*Credentials, error) {
	c := &Credentials{dir: dir}
	if _, _, err := c.current(); err != nil {
		return nil, err
	}
	return c, nil
}

// Files are the paths of the authority's certificate, of this process's and of
// its key, for libraries that read them by themselves.
func (c *Credentials) Files() (ca, cert, key string) {
	return filepath.Join(c.dir, caFile), filepath.Join(c.dir, certFile), filepath.Join(c.dir, keyFile)
}

// Identity of this process.
func (c *Credentials) Identity() (Identity, error) {
	pair, _, err := c.current()
	if err != nil {
		return Identity{}, err
	}
	return identityOf(pair.Leaf)
}

// Server returns a configuration that demands a certificate of this cluster.
// Who may do what is the service's decision, by PeerIdentity.
func (c *Credentials) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, roots, err := c.current()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				NextProtos:   []string{"h2", "http/1.1"},
				Certificates: []tls.Certificate{*pair},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    roots,
			}, nil
		},
	}
}

// Client returns a configuration that accepts servers with one of the roles,
// and, where node is not empty, only that node.
func (c *Credentials) Client(node string, roles ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, _, err := c.current()
			return pair, err
		},
		// The identity replaces the host name, so verification is done here.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return c.verifyServer(state, node, roles)
		},
	}
}

func (c *Credentials) verifyServer(state tls.ConnectionState, node string, roles []string) error {
	_, roots, err := c.current()
	if err != nil {
		return err
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("server sent no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates}); err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	id, err := identityOf(leaf)
	if err != nil {
		return err
	}
	if !slices.Contains(roles, id.Role) || node != "" && id.Node != node {
		return fmt.Errorf("server is %s, want %s %s", id, strings.Join(roles, " or "), node)
	}
	return nil
}

func (c *Credentials) current() (*tls.Certificate, *x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair != nil && time.Since(c.checked) < recheck {
		return c.pair, c.roots, nil
	}
	c.checked = time.Now()
	info, err := os.Stat(filepath.Join(c.dir, certFile))
	if err == nil && c.pair != nil && info.ModTime().Equal(c.stamp) {
		return c.pair, c.roots, nil
	}
	pair, roots, err := load(c.dir)
	if err != nil {
		if c.pair != nil {
			return c.pair, c.roots, nil // being rewritten: the old pair still holds
		}
		return nil, nil, err
	}
	c.pair, c.roots = pair, roots
	if info != nil {
		c.stamp = info.ModTime()
	}
	return pair, roots, nil
}

func load(dir string) (*tls.Certificate, *x509.CertPool, error) {
	pair, err := loadPair(dir)
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read credentials: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, fmt.Errorf("read credentials: %s holds no certificate", filepath.Join(dir, caFile))
	}
	return pair, roots, nil
}

func loadPair(dir string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
	}
	return &pair, nil
}
