package configapi

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/contrail-mesos/contrail/internal/model"
)

// longestName is the length of one element of an fq name, in bytes.
const longestName = 255

// checkName refuses names that no object may have. Only names of route targets
// contain colons.
func checkName(kind model.Kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty")
	case len(name) > longestName:
		return fmt.Errorf("name %q has %d bytes; at most %d are possible", brief(name), len(name), longestName)
	case !utf8.ValidString(name):
		return fmt.Errorf("name has one of invalid chars: %q is not UTF-8", brief(name))
	case kind != model.KindRouteTarget && strings.Contains(name, ":"):
		return fmt.Errorf("name has one of invalid chars :, which separates the parts of full names, in %q", brief(name))
	}
	for _, r := range name {
		if unicode.IsControl(r) || r == utf8.RuneError || r == 0xfffe || r == 0xffff {
			return fmt.Errorf("name has one of invalid chars: %q in %q", r, brief(name))
		}
	}
	return nil
}

// checkLabel refuses names that a workload's labels may not bring into being.
// Objects that exist may be called what an administrator likes.
func checkLabel(name string) error {
	for i, r := range name {
		inside := r == ' ' && i > 0 && !strings.HasSuffix(name, " ")
		if !inside && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.+@", r) {
			return fmt.Errorf("%q contains %q; use letters, digits and -_.+@", brief(name), r)
		}
	}
	if name == "." || name == ".." {
		return fmt.Errorf("%q is no name; use letters, digits and -_.+@", name)
	}
	return nil
}

// brief shortens a value for messages.
func brief(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:61], "") + "..."
}
