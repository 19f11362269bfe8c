package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// Credentials are what a user sends to LoginPath.
type Credentials struct {
	User     string `json:"user"`
	Password string `json:"password"`
	// Project restricts the token to the roles in one project.
	Project string `json:"project,omitempty"`
}

// Grant is the answer to Credentials.
type Grant struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
	User    string    `json:"user"`
}

const (
	longestLogin = 8 << 10
	// loginTime is how long a client may take to send it.
	loginTime = 10 * time.Second
	// hashing is how many passwords are looked at at the same time: each takes
	// a processor for a quarter of a second.
	hashing = 2
	// waiting is how long a login may wait for its turn.
	waiting = 5 * time.Second
)

// Login implements serve.Authenticator.
func (s *Service) Login() http.Handler { return http.HandlerFunc(s.login) }

func (s *Service) login(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, `send {"user": …, "password": …} with POST, or use `+"`contrail login`", http.StatusMethodNotAllowed)
		return
	}
	// The whole of it has to be there soon, or never.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(loginTime))
	var c Credentials
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestLogin))
	d.DisallowUnknownFields()
	err := d.Decode(&c)
	if err == nil && d.Decode(new(any)) != io.EOF {
		err = errors.New("more than one value")
	}
	if err == nil {
		_ = control.SetReadDeadline(time.Time{})
	}
	if err != nil || c.User == "" || c.Password == "" {
		// What was sent is not repeated: it may be a password.
		http.Error(w, `the body is not of the form {"user": …, "password": …, "project": …}`, http.StatusBadRequest)
		return
	}
	grant, err := s.admit(r.Context(), &c)
	var late *tooSoon
	switch {
	case errors.As(err, &late):
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(late.wait.Seconds()))))
		http.Error(w, late.Error(), http.StatusTooManyRequests)
	case errors.Is(err, errPassword) || errors.Is(err, errNoProject):
		http.Error(w, err.Error(), http.StatusUnauthorized)
	case err != nil:
		s.log.Error("cannot make a token", "error", err)
		http.Error(w, "cannot make a token now; try again", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_ = json.NewEncoder(w).Encode(grant) // the client is gone if it fails
	}
}

var (
	errPassword  = errors.New("user or password is wrong")
	errNoProject = errors.New("you have no role in that project")
)

// tooSoon is an attempt after too many wrong ones.
type tooSoon struct{ wait time.Duration }

func (t *tooSoon) Error() string {
	return fmt.Sprintf("too many wrong passwords; try again in %s", t.wait.Round(time.Second)+time.Second)
}

// admit makes a token for who knows his password.
func (s *Service) admit(ctx context.Context, c *Credentials) (*Grant, error) {
	caller := serve.CallerOf(ctx)
	from := sourceOf(caller.From)
	name := c.User
	if !userName.MatchString(name) {
		name = "" // it is nobody's, and may be anything
	}
	if caller.Via != "unix" {
		if wait := s.throttle.begin(name, from, s.now()); wait > 0 {
			s.noteLogin(caller, name, "too soon")
			return nil, &tooSoon{wait}
		}
	}
	u := s.users.current()[name]
	ok, err := s.compare(ctx, u, c.User, c.Password)
	if err != nil {
		return nil, err
	}
	if !ok {
		s.noteLogin(caller, name, "denied")
		return nil, errPassword
	}
	s.throttle.ok(name, from)
	project := c.Project
	if project != "" && !strings.Contains(project, ":") && !uuidText.MatchString(project) {
		project = "default-domain:" + project
	}
	if _, err := u.within(project); err != nil {
		return nil, errNoProject
	}
	token, expires, err := s.sign(ctx, u, project, s.now())
	if err != nil {
		return nil, err
	}
	s.log.Info("login", "who", u.String(), "via", caller.Via, "from", caller.From, "expires", expires, "result", "ok")
	return &Grant{Token: token, Expires: expires, User: u.Name}, nil
}

// compare tells whether it is the user's password, and takes as long when the
// user does not exist.
func (s *Service) compare(ctx context.Context, u *localUser, name, password string) (bool, error) {
	turn := time.NewTimer(waiting)
	defer turn.Stop()
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-turn.C:
		return false, &tooSoon{waiting}
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if u == nil {
		_, err := bcrypt.GenerateFromPassword([]byte(password)[:min(len(password), longestPassword)], s.absentCost(name))
		return false, err
	}
	// Longer ones are refused by Hash; bcrypt would look at their beginning.
	return bcrypt.CompareHashAndPassword(u.hash, []byte(password)) == nil && len(password) <= longestPassword, nil
}

// absentCost is the cost of the password of a user who does not exist. Files
// may have hashes of several costs: it is that of one of the users, and always
// the same for a name, so that the time of an answer says nothing about it.
func (s *Service) absentCost(name string) int {
	users := s.users.current()
	if len(users) == 0 {
		return hashCost
	}
	names := slices.Sorted(maps.Keys(users))
	return users[names[maphash.String(s.seed, name)%uint64(len(names))]].cost
}

// noteLogin logs a login that failed. Names that do not exist are not named:
// people type passwords there.
func (s *Service) noteLogin(c serve.Caller, name, result string) {
	silent, ok := s.refusals.Admit(s.now())
	if !ok {
		return
	}
	if s.users.current()[name] == nil {
		name = "unknown"
	}
	s.log.Warn("login", "who", "user "+name, "via", c.Via, "from", c.From, "result", result, "not_logged", silent)
}

// sourceOf is what of a client's address counts: who has an IPv6 address has
// the whole /64.
func sourceOf(from string) string {
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		return from
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
