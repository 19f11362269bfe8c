package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// CompletionTimeout is how long a shell waits for words at most.
	CompletionTimeout = 700 * time.Millisecond
	// mostWords is how many names are offered.
	mostWords = 500
)

var errEnough = errors.New("enough words")

// CompleteTypes are the types that begin with what was typed: names and, where
// they are meant, short names.
func CompleteTypes(prefix string) []string {
	var words []string
	for _, t := range model.Types() {
		if strings.HasPrefix(string(t.Kind), prefix) {
			words = append(words, string(t.Kind)+"\t"+t.Doc)
		}
	}
	if len(words) == 0 {
		for short, kind := range shortNames {
			if strings.HasPrefix(short, prefix) {
				words = append(words, short+"\t"+string(kind))
			}
		}
		slices.Sort(words)
	}
	return words
}

// CompleteNames are the names of objects of a type that begin with what was
// typed: short ones of the project, or full ones once a colon is typed. On any
// failure there are none: a shell is no place for errors.
func (c *Client) CompleteNames(ctx context.Context, word string, s Scope, prefix string) []string {
	t, err := FindType(word)
	if err != nil {
		return nil
	}
	full := strings.Contains(prefix, ":")
	s.All = false
	g := Get{Type: t, Scope: s}
	g.Scope.All = full || !hasProjects(t)
	var words []string
	err = c.eachSelected(ctx, g, []string{"fq_name"}, func(o object) error {
		name := model.FQString(o.name())
		if !full {
			name = s.display(t, o.name())
		}
		if strings.HasPrefix(name, prefix) {
			words = append(words, name)
		}
		if len(words) >= mostWords {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil
	}
	slices.Sort(words)
	return words
}

// CompleteFields are the paths of a type that begin with what was typed, each
// with a suffix such as "="; after the suffix the values that there may be.
func CompleteFields(word, prefix, suffix string) []string {
	t, err := FindType(word)
	if err != nil {
		return nil
	}
	var words []string
	if path, begun, ok := strings.Cut(prefix, suffix); ok && suffix != "" {
		e, err := explainPath(t, path)
		if err != nil {
			return nil
		}
		for _, value := range e.choices {
			if strings.HasPrefix(value, begun) {
				words = append(words, path+suffix+value)
			}
		}
		return words
	}
	for _, path := range pathsBelow(t, prefix) {
		words = append(words, path+suffix)
	}
	return words
}

// CompletePaths are types, and after a dot paths of a type, for explain.
func CompletePaths(prefix string) []string {
	word, rest, inside := strings.Cut(prefix, ".")
	if !inside {
		return CompleteTypes(prefix)
	}
	t, err := FindType(word)
	if err != nil {
		return nil
	}
	var words []string
	for _, path := range pathsBelow(t, rest) {
		words = append(words, word+"."+path)
	}
	return words
}

// pathsBelow are the properties, references and fields whose path begins with
// the prefix, one step further.
func pathsBelow(t *model.Type, prefix string) []string {
	names := strings.Split(prefix, ".")
	var all []string
	before := strings.Join(names[:len(names)-1], ".")
	if before == "" {
		for _, p := range t.Properties {
			all = append(all, p.Name)
		}
		for _, r := range t.References {
			all = append(all, r.JSONName())
		}
	} else if e, err := explainPath(t, before); err == nil {
		for _, f := range e.Fields {
			all = append(all, before+"."+f.Name)
		}
	}
	all = slices.DeleteFunc(all, func(path string) bool { return !strings.HasPrefix(path, prefix) })
	slices.Sort(all)
	return all
}
