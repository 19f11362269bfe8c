package tls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// ServerForUsers returns a configuration for a listener that users connect to,
// who have no certificate; one that is shown has to be of this cluster. The
// server shows the certificate of certFile, or its own when that is empty.
// The files are read again when they change.
func (c *Credentials) ServerForUsers(certFile, keyFile string) (*tls.Config, error) {
	if (certFile == "") != (keyFile == "") {
		return nil, errors.New("the certificate for users and its key go together; give both files or none")
	}
	own := func() (*tls.Certificate, error) {
		pair, _, err := c.current()
		return pair, err
	}
	if certFile != "" {
		p := &pairFiles{cert: certFile, key: keyFile}
		if _, err := p.current(); err != nil {
			return nil, err
		}
		own = p.current
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, err := own()
			if err != nil {
				return nil, err
			}
			_, roots, err := c.current()
			if err != nil {
				return nil, err
			}
			return &tls.Config{
				MinVersion:   tls.VersionTLS12,
				NextProtos:   []string{"h2", "http/1.1"},
				Certificates: []tls.Certificate{*pair},
				ClientAuth:   tls.VerifyClientCertIfGiven,
				ClientCAs:    roots,
			}, nil
		},
	}, nil
}

// UserClient returns a configuration for users, who have no certificate. The
// server's is signed by roots and is of the host's name; one of the cluster
// names no host but one of the roles, which will do as well.
func UserClient(roots *x509.CertPool, roles ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// Verification is done here, in both ways.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("server sent no certificate")
			}
			leaf, options := state.PeerCertificates[0], x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range state.PeerCertificates[1:] {
				options.Intermediates.AddCert(cert)
			}
			if _, err := leaf.Verify(options); err != nil {
				return fmt.Errorf("server certificate: %w", err)
			}
			if id, err := identityOf(leaf); err == nil && slices.Contains(roles, id.Role) {
				return nil
			}
			if err := leaf.VerifyHostname(state.ServerName); err != nil {
				return fmt.Errorf("server certificate: %w", err)
			}
			return nil
		},
	}
}

// pairFiles is a certificate with its key in two files.
type pairFiles struct {
	cert, key string

	mu      sync.Mutex
	pair    *tls.Certificate
	stamp   time.Time
	checked time.Time
}

// current reads the files again when they have changed; a pair that cannot be
// read leaves the old one in use.
func (p *pairFiles) current() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pair != nil && time.Since(p.checked) < recheck {
		return p.pair, nil
	}
	p.checked = time.Now()
	info, err := os.Stat(p.cert)
	if err == nil && p.pair != nil && info.ModTime().Equal(p.stamp) {
		return p.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	switch {
	case err == nil:
		p.pair = &pair
		if info != nil {
			p.stamp = info.ModTime()
		}
	case p.pair == nil:
		return nil, fmt.Errorf("read certificate for users: %w", err)
	}
	return p.pair, nil
}
