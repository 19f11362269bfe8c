package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// The work of hashes; tests, which make many, take less.
var (
	// minCost is the least that the hash of a password must take.
	minCost = 10
	// hashCost is what Hash takes: about a quarter of a second.
	hashCost = 12
)

const (
	// longestPassword is what bcrypt looks at, in bytes.
	longestPassword = 72
	// longestUsersFile bounds the file of users, in bytes.
	longestUsersFile = 8 << 20
)

// Hash makes the entry's hash of a password.
func Hash(password []byte) (string, error) {
	switch {
	case len(password) < 8:
		return "", errors.New("the password has fewer than 8 characters; choose a longer one")
	case len(password) > longestPassword:
		return "", fmt.Errorf("the password has %d bytes; at most %d are possible", len(password), longestPassword)
	}
	hash, err := bcrypt.GenerateFromPassword(password, hashCost)
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return string(hash), nil
}

// fileEntry is one user as the file has him.
type fileEntry struct {
	Name     string        `yaml:"name"`
	Password string        `yaml:"password"`
	Roles    []string      `yaml:"roles"`
	Projects []fileProject `yaml:"projects"`
}

type fileProject struct {
	Project string   `yaml:"project"`
	Roles   []string `yaml:"roles"`
}

// localUser is a user with what he is checked by.
type localUser struct {
	serve.User
	hash []byte
	cost int
	// version changes with the password: tokens of another one are void.
	version string
}

// parseUsers reads a file of users.
func parseUsers(data []byte) (map[string]*localUser, error) {
	var file struct {
		Users []fileEntry `yaml:"users"`
	}
	if err := strictYAML(data, &file); err != nil {
		return nil, err
	}
	users := map[string]*localUser{}
	for i, e := range file.Users {
		u, err := e.check()
		if err != nil {
			return nil, fmt.Errorf("user %d: %w", i+1, err)
		}
		if users[u.Name] != nil {
			return nil, fmt.Errorf("user %d: name %q is there twice", i+1, u.Name)
		}
		users[u.Name] = u
	}
	return users, nil
}

// strictYAML decodes one document, in which nothing is unknown.
func strictYAML(data []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("more than one document; want one")
	}
	return nil
}

var (
	userName = regexp.MustCompile(`^[\pL\pN][\pL\pN._@+-]{0,63}$`)
	roleName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	uuidText = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func (e *fileEntry) check() (*localUser, error) {
	if !userName.MatchString(e.Name) {
		return nil, fmt.Errorf("name %q; use 1 to 64 letters, digits and ._@+-", short(e.Name))
	}
	cost, err := bcrypt.Cost([]byte(e.Password))
	switch {
	case err != nil:
		return nil, fmt.Errorf("password of %s is no bcrypt hash; make one with `contrail user hash`", e.Name)
	case cost < minCost:
		return nil, fmt.Errorf("password of %s is hashed with cost %d; want at least %d, as `contrail user hash` makes it", e.Name, cost, minCost)
	}
	sum := sha256.Sum256([]byte(e.Password))
	u := &localUser{
		User: serve.User{Name: e.Name, Roles: e.Roles}, hash: []byte(e.Password), cost: cost, version: hex.EncodeToString(sum[:8]),
	}
	for _, role := range e.Roles {
		if err := checkGlobalRole(role); err != nil {
			return nil, fmt.Errorf("roles of %s: %w", e.Name, err)
		}
	}
	for _, p := range e.Projects {
		m, err := membership(p.Project, p.Roles)
		if err != nil {
			return nil, fmt.Errorf("projects of %s: %w", e.Name, err)
		}
		if slices.ContainsFunc(u.Projects, func(have serve.Membership) bool { return have.Project == m.Project }) {
			return nil, fmt.Errorf("projects of %s: %s is there twice", e.Name, m.Project)
		}
		u.Projects = append(u.Projects, m)
	}
	return u, nil
}

func checkGlobalRole(role string) error {
	if role != serve.CloudAdmin && role != serve.ReadOnly {
		return fmt.Errorf("%q is no role in the whole cluster; want %s or %s, or roles in projects", short(role), serve.CloudAdmin, serve.ReadOnly)
	}
	return nil
}

// membership checks what somebody is in a project. A name without a domain is
// one of the default domain.
func membership(project string, roles []string) (serve.Membership, error) {
	m := serve.Membership{Project: project, Roles: roles}
	if len(roles) == 0 {
		return m, fmt.Errorf("no roles in %q; want admin, member or another that the api-access-lists name", short(project))
	}
	for _, role := range roles {
		if !roleName.MatchString(role) || role == serve.CloudAdmin || role == serve.ReadOnly {
			return m, fmt.Errorf("%q is no role in a project; want admin, member or another that the api-access-lists name", short(role))
		}
	}
	if uuidText.MatchString(project) {
		m.Project = strings.ToLower(project)
		return m, nil
	}
	parts := strings.Split(project, ":")
	if len(parts) == 1 {
		parts = []string{"default-domain", project}
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" || !utf8.ValidString(project) {
		return m, fmt.Errorf("%q is no project; want a UUID, or a name as in default-domain:shop", short(project))
	}
	m.Project = strings.Join(parts, ":")
	return m, nil
}

// short shortens a value for messages.
func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:61], "") + "..."
	}
	return s
}

// userFile is the file of local users, read again whenever it changes.
type userFile struct {
	log  *slog.Logger
	path string

	mu    sync.Mutex
	users map[string]*localUser
	seen  stamp
}

// stamp tells versions of a file apart.
type stamp struct {
	there    bool
	modified time.Time
	size     int64
	mode     fs.FileMode
}

// openUsers reads the file for the first time: a wrong one is an error, one
// that is not there has no users yet.
func openUsers(log *slog.Logger, path string) (*userFile, error) {
	f := &userFile{log: log, path: path}
	return f, f.refresh()
}

// current returns the users of the file as it is now.
func (f *userFile) current() map[string]*localUser {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		f.log.Error("file of users cannot be read; the old one stays in use", "error", err)
	}
	return f.users
}

// refresh reads the file if it has changed. Nobody is a user when it is gone.
func (f *userFile) refresh() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.seen.there {
			f.log.Warn("file of users is gone; nobody can log in", "file", f.path)
		}
		f.users, f.seen = nil, stamp{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	now := stamp{true, info.ModTime(), info.Size(), info.Mode()}
	if now == f.seen {
		return nil
	}
	f.seen = now // a wrong file is complained about once
	users, err := readUsers(f.path)
	if err != nil {
		return err
	}
	f.users = users
	f.log.Info("users read", "file", f.path, "users", len(users))
	return nil
}

func readUsers(path string) (map[string]*localUser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("users: %s has the mode %s; others may not read or write it: chmod 600 it", path, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(file, longestUsersFile+1))
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	if len(data) > longestUsersFile {
		return nil, fmt.Errorf("users: %s has more than %d bytes", path, longestUsersFile)
	}
	users, err := parseUsers(data)
	if err != nil {
		return nil, fmt.Errorf("users: %s: %w", path, err)
	}
	return users, nil
}
