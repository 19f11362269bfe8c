package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// known are the addresses of the other members, kept in a file: a controller
// whose own member is dead finds the others although nobody has named them.
type known struct {
	file string
	// named are the endpoints of the configuration, which come first.
	named   []string
	learned []string
}

// maxKnown bounds the file; an address has some 50 bytes.
const maxKnown = 64 << 10

// openKnown reads the file; none is that of a process that has learned nothing.
func openKnown(file string, named []string) (*known, error) {
	k := &known{file: file, named: named}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil && len(text) > maxKnown {
		err = fmt.Errorf("it has %d bytes, want at most %d", len(text), maxKnown)
	}
	if err == nil {
		k.learned, err = parseKnown(text)
	}
	if err != nil {
		return k, fmt.Errorf("read the store's members from %s: %w", file, err)
	}
	return k, nil
}

// parseKnown reads one URL in each line.
func parseKnown(text []byte) ([]string, error) {
	var list []string
	for line := range bytes.Lines(text) {
		address := string(bytes.TrimSpace(line))
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" {
			return nil, fmt.Errorf("%q: want a URL such as https://192.0.2.1:2379", address)
		}
		list = append(list, address)
	}
	return list, nil
}

// endpoints are all, the nearest first.
func (k *known) endpoints() []string {
	all := slices.Clone(k.named)
	for _, e := range k.learned {
		if !slices.Contains(all, e) {
			all = append(all, e)
		}
	}
	return all
}

// learnMembers asks the store where the other members are, and keeps it.
func (s *Store) learnMembers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	var others []string
	for _, m := range list.Members {
		if m.Name != s.writer && !m.IsLearner {
			others = append(others, m.ClientURLs...)
		}
	}
	slices.Sort(others)
	others = slices.Compact(others)
	k := s.members
	if slices.Equal(others, k.learned) {
		return nil
	}
	text := ""
	if len(others) > 0 {
		text = strings.Join(others, "\n") + "\n"
	}
	// What is kept must be what the next start takes.
	if _, err := parseKnown([]byte(text)); err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	if err := renameio.WriteFile(k.file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep the store's members: %w", err)
	}
	k.learned = others
	s.client.SetEndpoints(k.endpoints()...)
	s.log.Info("the store's other members are known", "addresses", others)
	return nil
}
