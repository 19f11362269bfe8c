package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/contrail-mesos/contrail/internal/serve"
)

const (
	// ourIssuer and ourAudience are in our own tokens.
	ourIssuer   = "contrail"
	ourAudience = "contrail-config"
	// longestToken bounds what is looked at, in bytes.
	longestToken = 16 << 10
	// leeway is how far apart two machines' clocks may be.
	leeway = 30 * time.Second
	// LongestLife bounds the life of a token: keys are kept as long.
	LongestLife = 24 * time.Hour
)

// claims of our own tokens.
type claims struct {
	jwt.RegisteredClaims
	// Version is that of the user's password.
	Version string `json:"ver"`
	// Project restricts the token to the roles in one project.
	Project string `json:"prj,omitempty"`
}

// errToken is all that a stranger learns about his token.
var (
	errToken   = errors.New("the token is not valid")
	errExpired = errors.New("the token has expired")
)

// sign makes a token for a user.
func (s *Service) sign(ctx context.Context, u *localUser, project string, now time.Time) (token string, expires time.Time, err error) {
	key, err := s.keys.SigningKey(ctx)
	if err != nil {
		return "", expires, fmt.Errorf("key for tokens: %w", err)
	}
	expires = now.Add(s.life).Truncate(time.Second)
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: ourIssuer, Audience: jwt.ClaimStrings{ourAudience}, Subject: u.Name, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Version: u.version, Project: project,
	})
	t.Header["kid"] = key.ID
	token, err = t.SignedString(key.Secret)
	return token, expires, err
}

// verify returns the user of one of our tokens, with the roles that he has now.
func (s *Service) verify(ctx context.Context, token string) (*serve.User, error) {
	var c claims
	_, err := s.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, ok := t.Header["kid"].(string)
		if !ok {
			return nil, errToken
		}
		key, ok := s.keys.Key(ctx, id)
		if !ok || len(key.Secret) == 0 {
			return nil, errToken
		}
		return key.Secret, nil
	})
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, errExpired
	case err != nil:
		return nil, errToken
	}
	u := s.users.current()[c.Subject]
	if u == nil || u.version != c.Version {
		return nil, errToken
	}
	return u.within(c.Project)
}

// within is the user with the roles that he has in one project, or with all of
// them when project is empty.
func (u *localUser) within(project string) (*serve.User, error) {
	out := u.User
	if project == "" {
		return &out, nil
	}
	out.Roles, out.Projects = nil, nil
	for _, m := range u.Projects {
		if m.Project == project {
			out.Projects = []serve.Membership{m}
			return &out, nil
		}
	}
	return nil, errToken
}

func newParser(now func() time.Time) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithIssuer(ourIssuer), jwt.WithAudience(ourAudience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(now),
	)
}

// issuerOf reads who a token says that it is from. Nothing of it is checked yet.
func issuerOf(token string) (string, error) {
	var c jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		return "", errToken
	}
	return c.Issuer, nil
}
