package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// String says whom the selector chooses, as people read it.
func (s *Selector) String() string {
	var parts []string
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.Any, "any")
	add(s.Own, "own network")
	add(len(s.OwnOf) > 0, "own network, if %s", numbers("network", s.OwnOf, decimal))
	add(len(s.Networks) > 0, "%s", numbers("network", s.Networks, decimal))
	for _, p := range s.Prefixes {
		parts = append(parts, p.String())
	}
	add(len(s.Groups) > 0, "%s", numbers("group", s.Groups, decimal))
	add(len(s.Tags) > 0, "tags %s", strings.Join(texts(s.Tags, tagText), " and "))
	if parts == nil {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

func numbers(what string, list []uint32, text func(uint32) string) string {
	if len(list) > 1 {
		what += "s"
	}
	return what + " " + strings.Join(texts(list, text), " ")
}

func texts(list []uint32, text func(uint32) string) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = text(n)
	}
	return out
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// tagText is a tag's number as objects have it.
func tagText(n uint32) string { return fmt.Sprintf("0x%08x", n) }

// String is the protocol and the ports, as people read them.
func (s *Service) String() string {
	text := s.Protocol.String()
	for name, p := range protocols {
		// Of several names the shortest is the usual one.
		if p == s.Protocol && (text == p.String() || len(name) < len(text)) {
			text = name
		}
	}
	if s.Family != AnyFamily {
		text = fmt.Sprintf("IPv%d %s", s.Family, text)
	}
	src, dst := "from", "to"
	if s.Protocol.IsICMP() {
		src, dst = "type", "code"
	}
	if !slices.Equal(s.Src, anyPorts) {
		text += " " + src + " " + rangesText(s.Src)
	}
	if !slices.Equal(s.Dst, anyPorts) {
		text += " " + dst + " " + rangesText(s.Dst)
	}
	return text
}

func rangesText(list []Ports) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = strconv.Itoa(int(p.First))
		if p.Last != p.First {
			out[i] += "-" + strconv.Itoa(int(p.Last))
		}
	}
	return strings.Join(out, ",")
}

// String is what the action does.
func (a *Action) String() string {
	text := "pass"
	if a.Deny {
		text = "deny"
	}
	for _, more := range []struct {
		is   bool
		text string
	}{{a.Log, "log"}, {a.Alert, "alert"}, {a.MirrorTo != nil, "mirror"}, {a.Instance != "", "to " + a.Instance}, {a.QoS != "", "qos " + a.QoS}} {
		if more.is {
			text += ", " + more.text
		}
	}
	return text
}
