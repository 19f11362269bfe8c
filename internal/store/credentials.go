package store

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// mixedCredentials speak TLS on TCP and nothing on unix sockets, which only
// root can open: one client has this machine's member and the others.
type mixedCredentials struct {
	credentials.TransportCredentials // TLS
	local                            credentials.TransportCredentials
}

func newMixedCredentials(config *tls.Config) credentials.TransportCredentials {
	return &mixedCredentials{credentials.NewTLS(config), insecure.NewCredentials()}
}

// ClientHandshake secures a connection as its network demands.
func (m *mixedCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.RemoteAddr().Network() == "unix" {
		return m.local.ClientHandshake(ctx, authority, conn)
	}
	return m.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

// Clone returns a copy.
func (m *mixedCredentials) Clone() credentials.TransportCredentials {
	return &mixedCredentials{m.TransportCredentials.Clone(), m.local.Clone()}
}
