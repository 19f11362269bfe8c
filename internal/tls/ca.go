// Package tls is the cluster's own certificate authority, and the mutual TLS
// that the cluster's processes speak with each other.
//
// Every process has a directory with ca.crt, tls.crt and tls.key. A leaf names
// one role and, for nodes, the node's UUID in a URI:
//
//	contrail:node:<uuid>    a node; it speaks for itself only
//	contrail:<component>    a component of the controller side
//
// The identity is taken from nowhere else: host names and addresses are not
// part of it, so that a node may move.
package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Roles of the controller side. A node's role is RoleNode.
const (
	RoleNode       = "node"
	RoleController = "controller"
	RoleManager    = "mesos-manager"
	RoleMaster     = "mesos-master"
	RoleMarathon   = "mesos-marathon"
	RoleRepo       = "repo"
	RoleAnalytics  = "analytics"
	RoleAdmin      = "admin"
)

const (
	caFile   = "ca.crt"
	certFile = "tls.crt"
	keyFile  = "tls.key"
	caKey    = "ca.key"

	caValidity = 10 * 365 * 24 * time.Hour
	// LeafValidity is how long a leaf is valid that is renewed by itself.
	LeafValidity = 30 * 24 * time.Hour
	// clockSkew is how far behind the issuer's clock a verifier's may be.
	clockSkew = 10 * time.Minute
)

// Authority signs leaves for one cluster.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenAuthority reads the authority kept in dir, and makes a new one if there
// is none. The key is readable by its owner only.
func OpenAuthority(dir string) (*Authority, error) {
	a, err := LoadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		a = &Authority{dir: dir}
		return a, a.create()
	}
	return a, err
}

// LoadAuthority reads the authority kept in dir. The error wraps
// fs.ErrNotExist where there is none.
func LoadAuthority(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	keyPEM, err := os.ReadFile(filepath.Join(dir, caKey))
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	certPEM, err := os.ReadFile(filepath.Join(dir, caFile))
	if err != nil {
		// Not that there is none: its key is here.
		return nil, fmt.Errorf("read authority: its key is there, its certificate is not: %v", err)
	}
	keyBlock, _ := pem.Decode(keyPEM)
	certBlock, _ := pem.Decode(certPEM)
	if keyBlock == nil || certBlock == nil {
		return nil, fmt.Errorf("read authority %s: not PEM", dir)
	}
	if a.key, err = x509.ParseECPrivateKey(keyBlock.Bytes); err != nil {
		return nil, fmt.Errorf("read authority %s: %w", dir, err)
	}
	if a.cert, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, fmt.Errorf("read authority %s: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) create() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("create authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "contrail cluster authority"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("create authority: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("create authority: %w", err)
	}
	a.key = key
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return fmt.Errorf("create authority: %w", err)
	}
	// The key is written last: a directory without it is made anew.
	if err := writePEM(filepath.Join(a.dir, caFile), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	return writeKey(filepath.Join(a.dir, caKey), key)
}

// Until is when the authority's own certificate ends.
func (a *Authority) Until() time.Time { return a.cert.NotAfter }

// Issue writes a leaf for role (and the node's UUID, for RoleNode) to dir with
// the authority's certificate beside it. An existing leaf that has more than a
// third of its life left, and the same identity, stays.
func (a *Authority) Issue(dir, role, node string) error {
	_, err := a.IssueFor(dir, Identity{Role: role, Node: node}, LeafValidity)
	return err
}

// IssueFor is Issue with a life of one's choice, which ends with the
// authority's. It returns when the leaf ends.
func (a *Authority) IssueFor(dir string, id Identity, life time.Duration) (until time.Time, err error) {
	if (id.Role == RoleNode) != (id.Node != "") {
		return until, fmt.Errorf("issue certificate %q: a node, and only a node, has a UUID", id.Role)
	}
	if until, ok := a.fresh(dir, id, life); ok {
		return until, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return until, fmt.Errorf("issue certificate %s: %w", id, err)
	}
	now := time.Now()
	until = now.Add(life).UTC().Truncate(time.Second)
	if end := a.cert.NotAfter; end.Before(until) {
		until = end
	}
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: id.String()},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{{Scheme: "contrail", Opaque: id.opaque()}},
		DNSNames:     id.dnsNames(),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return until, fmt.Errorf("issue certificate %s: %w", id, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return until, fmt.Errorf("issue certificate %s: %w", id, err)
	}
	if err := writePEM(filepath.Join(dir, caFile), "CERTIFICATE", a.cert.Raw, 0o644); err != nil {
		return until, err
	}
	// Readers take key and certificate together and try again if they do not match.
	if err := writeKey(filepath.Join(dir, keyFile), key); err != nil {
		return until, err
	}
	return until, writePEM(filepath.Join(dir, certFile), "CERTIFICATE", der, 0o644)
}

// fresh tells whether dir has a leaf that is to stay, and when that ends.
func (a *Authority) fresh(dir string, id Identity, life time.Duration) (until time.Time, ok bool) {
	pair, err := loadPair(dir)
	if err != nil || pair.Leaf.CheckSignatureFrom(a.cert) != nil {
		return until, false
	}
	have, err := identityOf(pair.Leaf)
	if err != nil || have != id {
		return until, false
	}
	if names := id.dnsNames(); len(names) > 0 && pair.Leaf.VerifyHostname(names[0]) != nil {
		return until, false // issued by an earlier version
	}
	until = pair.Leaf.NotAfter
	return until, time.Until(until) > life/3
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail on Linux
	}
	return n
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := renameio.WriteFile(path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writePEM(path, "EC PRIVATE KEY", der, 0o600)
}
