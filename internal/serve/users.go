package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// listenUsers opens the listener for people and their programs.
func listenUsers(cfg *Config) (net.Listener, error) {
	if cfg.Credentials == nil || cfg.Authenticator == nil {
		return nil, fmt.Errorf("listen on %s: users need the server's credentials and somebody who knows users; see --tls-dir", cfg.Users)
	}
	settings, err := cfg.Credentials.ServerForUsers(cfg.UsersCert, cfg.UsersKey)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Users, err)
	}
	l, err := net.Listen("tcp", cfg.Users)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Users, err)
	}
	return tls.NewListener(l, settings), nil
}

// needsToken tells whether only a token says who sent the request.
func (s *Server) needsToken(via string, r *http.Request) bool {
	switch via {
	case "users":
		return len(r.TLS.VerifiedChains) == 0
	case "open":
		return s.users != nil && s.users.Demanded(r)
	default:
		return false
	}
}

var errNoToken = errors.New("no token; get one with `contrail login` and send it as `Authorization: Bearer TOKEN`")

// identifyUser finds out whose token a request carries.
func (s *Server) identifyUser(c *Caller, r *http.Request) error {
	token := tokenOf(r)
	if token == "" {
		return errNoToken
	}
	var err error
	if c.User, err = s.users.Authenticate(r, token); err != nil {
		return fmt.Errorf("%w; get a new token with `contrail login`", err)
	}
	c.Role = RoleUser
	if c.User.Has(CloudAdmin) {
		c.Role = ctls.RoleAdmin
	}
	return nil
}

// noteRefusal logs a request that came without a valid token or certificate.
func (s *Server) noteRefusal(c Caller, r *http.Request, why error) {
	if silent, ok := s.refusals.Admit(time.Now()); ok {
		s.log.Warn("request refused", "status", http.StatusUnauthorized, "who", "unknown", "via", c.Via, "from", c.From,
			"method", r.Method, "path", r.URL.Path, "error", why, "not_logged", silent)
	}
}
