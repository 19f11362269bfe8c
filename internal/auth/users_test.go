package auth

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

const (
	alice = "users:\n- name: alice\n  password: %s\n  roles: [cloud-admin]\n"
	bob   = "- name: bob\n  password: %s\n  projects:\n  - {project: shop, roles: [admin, member]}\n  - {project: 'default-domain:lab', roles: [member]}\n"
)

func TestParseUsers(t *testing.T) {
	weak, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	minCost = bcrypt.MinCost + 1
	defer func() { minCost = bcrypt.MinCost }()
	strong, err := bcrypt.GenerateFromPassword([]byte("correct horse"), minCost)
	if err != nil {
		t.Fatal(err)
	}
	hash := string(strong)
	entry := func(rest string) string { return "users:\n- name: alice\n  password: " + hash + "\n" + rest }
	for _, tc := range []struct{ file, want string }{
		{"", ""},
		{"users: []\n", ""},
		{fmt.Sprintf(alice+bob, hash, hash), ""},
		{entry("  projects:\n  - {project: 0B8E5F0E-1111-4222-8333-444455556666, roles: [operator]}\n"), ""},
		{"user: []\n", "field user not found"},
		{entry("  role: [cloud-admin]\n"), "field role not found"},
		{entry("  roles: [admin]\n"), `"admin" is no role in the whole cluster`},
		{entry("  projects:\n  - {project: shop, roles: [cloud-admin]}\n"), `"cloud-admin" is no role in a project`},
		{entry("  projects:\n  - {project: shop}\n"), `no roles in "shop"`},
		{entry("  projects:\n  - {project: 'a:b:c', roles: [admin]}\n"), `"a:b:c" is no project`},
		{entry("  projects:\n  - {project: '', roles: [admin]}\n"), `"" is no project`},
		{entry("  projects:\n  - {project: shop, roles: [admin]}\n  - {project: 'default-domain:shop', roles: [admin]}\n"), "is there twice"},
		{entry("- name: alice\n  password: " + hash + "\n"), `name "alice" is there twice`},
		{"users:\n- name: 'a b'\n  password: " + hash + "\n", `name "a b"`},
		{"users:\n- name: alice\n  password: secret\n", "is no bcrypt hash"},
		{"users:\n- name: alice\n  password: " + string(weak) + "\n", "hashed with cost 4"},
		{entry("---\nusers: []\n"), "more than one document"},
		{"users: 1\n", "cannot unmarshal"},
	} {
		_, err := parseUsers([]byte(tc.file))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.file, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %s", tc.file, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "$2") {
			t.Errorf("the error shows a hash: %v", err)
		}
	}
}

func TestHash(t *testing.T) {
	hash, err := Hash([]byte("correct horse"))
	if err != nil || bcrypt.CompareHashAndPassword([]byte(hash), []byte("correct horse")) != nil {
		t.Errorf("hash %q: %v", hash, err)
	}
	for _, password := range []string{"", "short", strings.Repeat("x", 73)} {
		if _, err := Hash([]byte(password)); err == nil {
			t.Errorf("a password of %d bytes has a hash", len(password))
		}
	}
}

func TestFileIsReadAgain(t *testing.T) {
	one, two := cheap(t, "correct horse"), cheap(t, "another one")
	f := newFixture(t, fmt.Sprintf(alice, one))
	token := f.token("alice", "correct horse", "")
	if u, err := f.who(token); err != nil || !u.Has("cloud-admin") {
		t.Fatalf("token: %v %v", u, err)
	}
	// Roles are those of now.
	f.write(fmt.Sprintf("users:\n- name: alice\n  password: %s\n  projects:\n  - {project: shop, roles: [member]}\n", one))
	if u, err := f.who(token); err != nil || u.Has("cloud-admin") || !slices.Equal(u.Projects[0].Roles, []string{"member"}) {
		t.Errorf("after the roles changed: %+v %v", u, err)
	}
	// A wrong file changes nothing, and is complained about once.
	f.write("users: [")
	for range 3 {
		if _, err := f.who(token); err != nil {
			t.Errorf("after a wrong file: %v", err)
		}
	}
	if n := strings.Count(f.log.String(), "the old one stays in use"); n != 1 {
		t.Errorf("%d complaints about a wrong file, want 1: %s", n, f.log)
	}
	// Another password makes old tokens void.
	f.write(fmt.Sprintf(alice, two))
	if _, err := f.who(token); err == nil {
		t.Error("the token outlives its password")
	}
	token = f.token("alice", "another one", "")
	// So does leaving.
	f.write(fmt.Sprintf("users:\n"+bob, one))
	if _, err := f.who(token); err == nil {
		t.Error("the token outlives its user")
	}
	// A file that others may read is wrong.
	if err := os.Chmod(f.file, 0o644); err != nil {
		t.Fatal(err)
	}
	f.write(fmt.Sprintf(alice, two))
	if err := os.Chmod(f.file, 0o644); err != nil {
		t.Fatal(err)
	}
	if f.users.current()["alice"] != nil {
		t.Error("a file that others may read is used")
	}
	if err := os.Remove(f.file); err != nil {
		t.Fatal(err)
	}
	if users := f.users.current(); len(users) != 0 {
		t.Errorf("%d users without a file", len(users))
	}
}

func TestWrongFileAtStart(t *testing.T) {
	f := newFixture(t, "users: []\n")
	for file, want := range map[string]string{"users: [": "did not find expected", "what: 1": "field what not found"} {
		f.write(file)
		if _, err := openUsers(f.Service.log, f.file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add([]byte("users:\n- name: a\n  password: x\n  roles: [cloud-admin]\n"))
	f.Add([]byte("users: &a [*a]"))
	f.Add([]byte("users:\n- {name: \"\\0\", projects: [{project: ':', roles: ['']}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		users, err := parseUsers(data)
		if err != nil {
			return
		}
		for name, u := range users {
			if u.Name != name || !userName.MatchString(name) || len(u.hash) == 0 {
				t.Errorf("user %q came out of %q", name, data)
			}
		}
	})
}
