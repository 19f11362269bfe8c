// Package serve opens the listeners of a service and says who is calling.
//
// A service has one handler and up to five kinds of listeners:
//
//	unix socket   mode 0600; the peer's credentials are read from the kernel,
//	              and only root gets in
//	TLS           mutual, with a certificate of the cluster; who may do what is
//	              decided by the handler, from CallerOf
//	bearer        plain TCP, for loopback; every request carries the token of a
//	              file that only root can read
//	users         TLS, for people and their programs; a certificate of the
//	              cluster, or a token that the Authenticator knows
//	open          inherited from `contrail up`, for the host's loopback of a
//	              one-machine cluster; everyone is the administrator there,
//	              unless the Authenticator demands tokens
//
// There is no other: nothing answers without authentication.
package serve

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// pingAfter is how long an HTTP/2 connection may be silent before its peer is
// asked, and how long the peer may take to answer before it is given up.
const pingAfter = 5 * time.Second

// strangerTime is how long somebody without a token may take to send the rest
// of his request.
const strangerTime = 10 * time.Second

// Config says where a service listens. Zero fields are not opened.
type Config struct {
	// Unix is the path of a unix socket. A stale one is replaced.
	Unix string
	// TLS is a host:port; it needs Credentials.
	TLS         string
	Credentials *ctls.Credentials
	// Bearer is a host:port; requests carry the token in BearerFile, which is
	// made with a random token if it does not exist.
	Bearer     string
	BearerFile string
	// Users is a host:port for users; it needs Credentials and an Authenticator.
	Users string
	// UsersCert and UsersKey are files with the certificate that users see;
	// empty for that of Credentials.
	UsersCert, UsersKey string
	// Open are the numbers of inherited file descriptors that listen already.
	Open []int
	// Authenticator knows users; nil where a service has none.
	Authenticator Authenticator
	// Drain is how long connections are still served when the service stops:
	// each is closed by its next answer, so that clients which use theirs all
	// the time lose nothing.
	Drain time.Duration
}

// Caller is who sent a request.
type Caller struct {
	// Identity of the certificate; the administrator's for unix sockets, open
	// listeners and users who administer the cloud; RoleUser for other users.
	ctls.Identity
	// Via is "unix", "tls", "bearer", "users" or "open".
	Via string
	// From is the address and port of the client; empty for unix sockets.
	From string
	// User is who showed a token; nil for all others.
	User *User
}

// String is for logs and messages.
func (c Caller) String() string {
	if c.User != nil {
		return c.User.String()
	}
	return c.Identity.String()
}

type callerKey struct{}

// CallerOf returns the caller of a request that came through Serve.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// WithCaller returns a context with a caller, for calls inside a process.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// IsAdmin tells whether the caller may administer the cluster.
func (c Caller) IsAdmin() bool { return c.Role == ctls.RoleAdmin }

// Server is a handler with its listeners open.
type Server struct {
	log       *slog.Logger
	handler   http.Handler
	users     Authenticator
	token     string
	drain     time.Duration
	listeners []listener
	// refusals and panics bound the lines of the log about them.
	refusals, panics Limiter
}

type listener struct {
	net.Listener
	via string
}

// Listen opens all listeners of cfg, or none.
func Listen(log *slog.Logger, cfg Config, handler http.Handler) (*Server, error) {
	s := &Server{log: log, handler: handler, users: cfg.Authenticator, drain: cfg.Drain}
	if err := s.open(cfg); err != nil {
		s.close()
		return nil, err
	}
	if len(s.listeners) == 0 {
		return nil, errors.New("listen: no address given; see --listen-unix and --listen-tls")
	}
	return s, nil
}

func (s *Server) open(cfg Config) error {
	if cfg.Unix != "" {
		l, err := listenUnix(cfg.Unix)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, listener{l, "unix"})
	}
	if cfg.TLS != "" {
		if cfg.Credentials == nil {
			return fmt.Errorf("listen on %s: no credentials; see --tls-dir", cfg.TLS)
		}
		l, err := net.Listen("tcp", cfg.TLS)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", cfg.TLS, err)
		}
		s.listeners = append(s.listeners, listener{newHandshakes(s.log, l, cfg.Credentials.Server()), "tls"})
	}
	if cfg.Bearer != "" {
		token, err := bearerToken(cfg.BearerFile)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", cfg.Bearer)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", cfg.Bearer, err)
		}
		s.token = token
		s.listeners = append(s.listeners, listener{l, "bearer"})
	}
	if cfg.Users != "" {
		l, err := listenUsers(&cfg)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, listener{l, "users"})
	}
	for _, fd := range cfg.Open {
		f := os.NewFile(uintptr(fd), "inherited-"+strconv.Itoa(fd))
		if f == nil {
			return fmt.Errorf("inherited listener %d: no such descriptor", fd)
		}
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("inherited listener %d: %w", fd, err)
		}
		s.listeners = append(s.listeners, listener{l, "open"})
	}
	return nil
}

func (s *Server) close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// listenUnix makes the socket under another name, with its mode, and renames
// it: it is never reachable by others, and a stale one goes in the same step.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temporary, 0o600), os.Rename(temporary, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// Run serves until ctx ends. Then streams end, other requests are answered, and
// with Drain connections are closed by their answers first.
func (s *Server) Run(ctx context.Context) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // unix sockets carry RPC streams too
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	d := &drain{streams: ctx}
	ends := make(chan error, len(s.listeners))
	servers := make([]*http.Server, len(s.listeners))
	for i, l := range s.listeners {
		servers[i] = &http.Server{
			Handler:           d.handler(s.bounded(s.authenticated(l.via))),
			ConnContext:       rememberConn,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       5 * time.Minute,
			MaxHeaderBytes:    64 << 10,
			Protocols:         &protocols,
			// A peer that is gone without a word does not hold its streams for long.
			HTTP2:       &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
			BaseContext: func(net.Listener) context.Context { return requests },
			ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		go func() { ends <- servers[i].Serve(l.Listener) }()
	}
	var first error
	select {
	case <-ctx.Done():
		d.closing.Store(true)
		time.Sleep(s.drain)
	case first = <-ends:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var stopped sync.WaitGroup
	for _, server := range servers {
		stopped.Go(func() {
			if server.Shutdown(stop) != nil {
				cancelRequests()
				server.Close()
			}
		})
	}
	stopped.Wait()
	return first
}

type connKey struct{}

func rememberConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func (s *Server) authenticated(via string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := Caller{Via: via}
		if via != "unix" {
			caller.From = r.RemoteAddr
		}
		if s.users != nil && r.URL.Path == LoginPath {
			s.users.Login().ServeHTTP(w, r.WithContext(WithCaller(r.Context(), caller)))
			return
		}
		var err error
		if s.needsToken(via, r) {
			err = s.identifyUser(&caller, r)
		} else {
			caller.Identity, err = s.identify(via, r)
		}
		if err != nil {
			s.noteRefusal(caller, r, err)
			// What is left of the body is waited for by nobody.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(strangerTime))
			if s.users != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="contrail"`)
			}
			http.Error(w, "authentication failed: "+err.Error(), http.StatusUnauthorized)
			return
		}
		s.handler.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), caller)))
	})
}

func (s *Server) identify(via string, r *http.Request) (ctls.Identity, error) {
	admin := ctls.Identity{Role: ctls.RoleAdmin}
	switch via {
	case "open":
		return admin, nil
	case "tls", "users":
		return ctls.PeerIdentity(r.TLS)
	case "bearer":
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
			return ctls.Identity{}, errors.New("no valid bearer token in the Authorization header")
		}
		return admin, nil
	default:
		conn, ok := r.Context().Value(connKey{}).(*net.UnixConn)
		if !ok {
			return ctls.Identity{}, errors.New("not a unix socket")
		}
		uid, err := peerUID(conn)
		if err != nil {
			return ctls.Identity{}, err
		}
		if uid != 0 {
			return ctls.Identity{}, fmt.Errorf("user %d is not root", uid)
		}
		return admin, nil
	}
}

// bearerToken reads the token from path, and makes one if there is none.
func bearerToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(rand.Text() + "\n")
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), renameio.WriteFile(path, data, 0o600))
	}
	if err != nil {
		return "", fmt.Errorf("bearer token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("bearer token: %s is empty; remove it to have a new one made", path)
	}
	return token, nil
}

func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer credentials: %w", err)
	}
	return cred.Uid, nil
}
