package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Client returns an HTTP client for a service and the base URL to use with it.
// address is "unix:PATH" or "HOST:PORT"; the latter is TLS with credentials,
// and the server must have one of the roles. HTTP/2 is used where stream is
// set (RPC streams need it), else what both sides like best.
func Client(address string, credentials *ctls.Credentials, stream bool, roles ...string) (*http.Client, string, error) {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		if stream {
			transport.Protocols = new(http.Protocols)
			transport.Protocols.SetUnencryptedHTTP2(true)
		}
		return &http.Client{Transport: transport}, "http://localhost", nil
	}
	if credentials == nil {
		return nil, "", fmt.Errorf("connect to %s: no credentials; see --tls-dir", address)
	}
	transport.DialContext = dialer.DialContext
	transport.TLSClientConfig = credentials.Client("", roles...)
	if stream {
		transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second}
	}
	return &http.Client{Transport: transport}, "https://" + address, nil
}
