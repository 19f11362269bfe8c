package auth

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// Config says where users are known from. All of it may be empty: nobody can
// log in then.
type Config struct {
	// Users is the file of local users. It may come to exist later.
	Users string
	// OIDC is the file that says which issuer of OpenID Connect is trusted.
	OIDC string
	// Life of a token; an hour when it is 0.
	Life time.Duration
}

// defaultLife of a token.
const defaultLife = time.Hour

// Service knows users. Its methods are safe for concurrent use.
type Service struct {
	log      *slog.Logger
	keys     Keys
	demanded func(*http.Request) bool
	users    *userFile
	issuer   *issuer
	life     time.Duration
	now      func() time.Time
	parser   *jwt.Parser
	throttle *throttle
	hashing  chan struct{}
	// seed is for absentCost.
	seed     maphash.Seed
	refusals serve.Limiter
}

var _ serve.Authenticator = (*Service)(nil)

// New reads the files. demanded tells whether the caller of an open listener
// has to show a token.
func New(log *slog.Logger, cfg Config, keys Keys, demanded func(*http.Request) bool) (*Service, error) {
	if cfg.Life == 0 {
		cfg.Life = defaultLife
	}
	if cfg.Life < time.Minute || cfg.Life > LongestLife {
		return nil, fmt.Errorf("life of tokens %s: want between 1m and %s", cfg.Life, LongestLife)
	}
	s := &Service{
		log: log, keys: keys, demanded: demanded, life: cfg.Life, now: time.Now,
		throttle: newThrottle(), hashing: make(chan struct{}, hashing), seed: maphash.MakeSeed(),
	}
	s.parser = newParser(func() time.Time { return s.now() })
	var err error
	if cfg.Users != "" {
		if s.users, err = openUsers(log, cfg.Users); err != nil {
			return nil, err
		}
	}
	if cfg.OIDC != "" {
		if s.issuer, err = openIssuer(log, cfg.OIDC); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends idle connections to the issuer.
func (s *Service) Close() {
	if s.issuer != nil {
		s.issuer.close()
	}
}

// Demanded implements serve.Authenticator.
func (s *Service) Demanded(r *http.Request) bool { return s.demanded(r) }

// Authenticate implements serve.Authenticator.
func (s *Service) Authenticate(r *http.Request, token string) (*serve.User, error) {
	if len(token) > longestToken || strings.Count(token, ".") != 2 {
		return nil, errToken
	}
	from, err := issuerOf(token)
	switch {
	case err != nil:
		return nil, err
	case from == ourIssuer:
		return s.verify(r.Context(), token)
	case s.issuer != nil && from == s.issuer.cfg.Issuer:
		return s.issuer.verify(r.Context(), token)
	default:
		return nil, errors.New("the token is of an issuer that is not trusted here")
	}
}
