package serve

import (
	"net/http"
	"slices"
	"strings"
)

// RoleUser is the role of callers who showed a token and do not administer the
// cluster. No certificate has it: what they may do is decided for each object.
const RoleUser = "user"

// Roles of users in the whole cluster.
const (
	// CloudAdmin may do everything.
	CloudAdmin = "cloud-admin"
	// ReadOnly may read everything and change nothing.
	ReadOnly = "global-read-only"
)

// User is a person or a program that showed a token.
type User struct {
	Name string
	// Issuer vouches for the user; empty for one of the file of local users.
	Issuer string
	// Roles in the whole cluster.
	Roles []string
	// Projects in which the user has roles.
	Projects []Membership
}

// Membership is what a user is in one project.
type Membership struct {
	// Project is a UUID, or a name as in "default-domain:shop".
	Project string
	Roles   []string
}

// Has tells whether the user has a role in the whole cluster.
func (u *User) Has(role string) bool { return u != nil && slices.Contains(u.Roles, role) }

func (u *User) String() string {
	if u.Issuer != "" {
		return "user " + u.Name + " of " + u.Issuer
	}
	return "user " + u.Name
}

// Authenticator knows users by their tokens. Its methods are safe for
// concurrent use.
type Authenticator interface {
	// Authenticate returns the user whose token it is. The error is for the
	// user, and says nothing about others.
	Authenticate(r *http.Request, token string) (*User, error)
	// Demanded tells whether the caller of an open listener has to show a token,
	// as callers of listeners for users always have to.
	Demanded(r *http.Request) bool
	// Login answers requests for LoginPath, whose callers have no token yet.
	Login() http.Handler
}

// LoginPath is where users get tokens.
const LoginPath = "/login"

// tokenOf is the token of a request, in either form that clients use.
func tokenOf(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return r.Header.Get("X-Auth-Token")
}
