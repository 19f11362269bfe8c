package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// lineError is an error with the line that it is about.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

// lineOf adds the line of an element of a list to an error.
func (m *Manifest) lineOf(err error, key string, i int) error {
	if n := m.find(key, i); n != nil {
		return &lineError{n.Line, err}
	}
	return err
}

// find is the node of element i of a list.
func (m *Manifest) find(key string, i int) *yaml.Node {
	return m.findPath(fmt.Sprintf("%s[%d]", key, i))
}

// findPath is the node at a path such as a.b[0].c, or the last that exists on
// the way there; nil for none.
func (m *Manifest) findPath(path string) *yaml.Node {
	n := m.node
	var last *yaml.Node
	for _, step := range steps(path) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		var next *yaml.Node
		switch {
		case step.key == "" && n.Kind == yaml.SequenceNode && step.index < len(n.Content):
			next = n.Content[step.index]
			last = next
		case step.key != "" && n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step.key {
					last, next = n.Content[i], n.Content[i+1]
				}
			}
		}
		if next == nil {
			return last
		}
		n = next
	}
	return last
}

// step of a path: a key, or an index when the key is empty.
type step struct {
	key   string
	index int
}

func steps(path string) []step {
	var list []step
	for _, part := range strings.Split(path, ".") {
		key, rest, _ := strings.Cut(part, "[")
		if key != "" {
			list = append(list, step{key: key})
		}
		for rest != "" {
			number, after, _ := strings.Cut(rest, "]")
			i, err := strconv.Atoi(number)
			if err != nil || i < 0 {
				return list
			}
			list = append(list, step{index: i})
			_, rest, _ = strings.Cut(after, "[")
		}
	}
	return list
}

// converter makes values like those of JSON of YAML. Keys that occur twice,
// values that JSON does not have, and files that aliases blow up are errors.
type converter struct {
	file string
	left int
}

func newConverter(file string) *converter { return &converter{file: file, left: mostValues} }

func (c *converter) fail(n *yaml.Node, format string, args ...any) error {
	return at(lineOf(c.file, n.Line), fmt.Errorf(format, args...))
}

func (c *converter) value(n *yaml.Node, depth int) (any, error) {
	if c.left--; c.left < 0 {
		return nil, c.fail(n, "aliases make more than %d values of the file", mostValues)
	}
	if depth > deepest {
		return nil, c.fail(n, "values are more than %d deep inside of each other", deepest)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias, depth+1)
	case yaml.MappingNode:
		return c.mapping(n, depth)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := c.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
		return c.scalar(n)
	}
	return nil, c.fail(n, "this is no value")
}

func (c *converter) mapping(n *yaml.Node, depth int) (map[string]any, error) {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			return nil, c.fail(key, "the key %s is no text; quote it", brief(key.Value))
		}
		if !utf8.ValidString(key.Value) {
			return nil, c.fail(key, "the key %q is not UTF-8", key.Value)
		}
		if _, twice := out[key.Value]; twice {
			return nil, c.fail(key, "the key %q is there twice", key.Value)
		}
		v, err := c.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		out[key.Value] = v
	}
	return out, nil
}

func (c *converter) scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return nil, c.fail(n, "%q is neither true nor false", n.Value)
		}
		return b, nil
	case "!!int":
		return c.integer(n)
	case "!!float":
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, c.fail(n, "%q is no number", n.Value)
		}
		return f, nil
	case "!!str", "!!timestamp":
		if !utf8.ValidString(n.Value) {
			return nil, c.fail(n, "%q is not UTF-8", n.Value)
		}
		return n.Value, nil
	}
	return nil, c.fail(n, "values of type %s are not possible; quote text", n.Tag)
}

// integer reads all that YAML takes for an integer: 10, 0x1f, 0o17, 1_000.
func (c *converter) integer(n *yaml.Node) (any, error) {
	text := strings.ReplaceAll(n.Value, "_", "")
	if i, err := strconv.ParseInt(strings.TrimPrefix(text, "+"), 0, 64); err == nil {
		return json.Number(strconv.FormatInt(i, 10)), nil
	}
	if u, err := strconv.ParseUint(strings.TrimPrefix(text, "+"), 0, 64); err == nil {
		return json.Number(strconv.FormatUint(u, 10)), nil
	}
	return nil, c.fail(n, "%s is no whole number that fits; quote it if it is text", n.Value)
}
