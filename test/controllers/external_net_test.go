//go:build net

package controllers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/test/controllers"
)

// debianEtcd is the etcd of Debian 12, two releases behind ours.
func debianEtcd(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin/tools/debian-etcd"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if path, err = exec.LookPath("etcd"); err != nil {
		t.Fatalf("no etcd: run scripts/setup.sh")
	}
	return path
}

// TestNetExternalStore uses an etcd that the controller did not start.
func TestNetExternalStore(t *testing.T) {
	t.Run("as it comes", func(t *testing.T) {
		set, c := externalStore(t, "http", nil, nil)
		// It allows 128 operations: a write that needs more says what to do.
		var refs []string
		for i := range 130 {
			id := fmt.Sprintf("00000000-0000-4000-8003-%012d", i)
			status, text, err := c.do(http.MethodPost, "/network-policys", fmt.Sprintf(
				`{"network-policy": {"fq_name": ["default-domain", "default-project", "np%d"], "uuid": %q}}`, i, id))
			if err != nil || status != http.StatusOK {
				t.Fatalf("create policy: %d %s (%v)", status, text, err)
			}
			refs = append(refs, fmt.Sprintf(`{"uuid": %q, "attr": {"sequence": {"major": %d, "minor": 0}}}`, id, i))
		}
		status, text, err := c.do(http.MethodPost, "/virtual-networks", fmt.Sprintf(
			`{"virtual-network": {"fq_name": ["default-domain", "default-project", "big"], "network_policy_refs": [%s]}}`, strings.Join(refs, ",")))
		if err != nil || status != http.StatusRequestEntityTooLarge || !strings.Contains(text, "--max-txn-ops=1024") {
			t.Errorf("a big write: %d %s (%v), want 413 about --max-txn-ops", status, text, err)
		}
		out, err := set.Members[0].Command("db", "status", "--store", "http://127.0.0.1:2379")
		if err != nil || !strings.Contains(out, "leader") {
			t.Errorf("db status: %v\n%s", err, out)
		}
	})
	t.Run("with TLS", func(t *testing.T) {
		dir := t.TempDir()
		certificates(t, dir)
		ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		externalStore(t, "https",
			[]string{"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth", "--max-txn-ops", "1024"},
			[]string{"--store-cert", cert, "--store-key", key, "--store-ca", ca})
	})
}

// startEtcd runs Debian's etcd on the machine of a controller.
func startEtcd(t *testing.T, m *controllers.Controller, url string, args ...string) {
	t.Helper()
	m.StartProgram(exec.Command(debianEtcd(t), append([]string{
		"--data-dir", t.TempDir(), "--listen-client-urls", url, "--advertise-client-urls", url,
		"--logger", "zap", "--log-outputs", "/dev/null",
	}, args...)...))
}

// externalStore runs etcd and a controller on it, and tries them.
func externalStore(t *testing.T, scheme string, etcdArgs, controllerArgs []string) (*controllers.Set, *client) {
	t.Helper()
	set := controllers.New(t, root, "a")
	m := set.Members[0]
	startEtcd(t, m, scheme+"://127.0.0.1:2379", etcdArgs...)
	m.Alone = true
	m.Args = append([]string{"--store-endpoints", scheme + "://127.0.0.1:2379"}, controllerArgs...)
	m.Start()
	m.WaitReady()
	c := newClient(t, m)
	for range 20 {
		id := c.mustCreate(t)
		c.mustRead(t, id)
		if status, text, err := c.do(http.MethodDelete, "/virtual-network/"+id, ""); err != nil || status != http.StatusOK {
			t.Fatalf("delete: %d %s (%v)", status, text, err)
		}
	}
	if err := m.KillPart("store"); err == nil {
		t.Error("a controller with an external store runs one of its own")
	}
	return set, c
}

// certificates writes an authority and one certificate for both sides.
func certificates(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "store"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem": {Type: "CERTIFICATE", Bytes: der}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
