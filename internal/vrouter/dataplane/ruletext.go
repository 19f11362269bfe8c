package dataplane

import (
	"fmt"
	"strconv"
	"strings"
)

// Match says which connections the rule is about, as people read it.
func (r *Rule) Match() string {
	text := r.Src.String() + " -> " + r.Dst.String() + ", " + r.serviceText()
	if len(r.SameTags) > 0 {
		text += fmt.Sprintf(", same tags of types %v", r.SameTags)
	}
	return text
}

func (r *Rule) serviceText() string {
	text := "any protocol"
	if name := map[int16]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}[r.Protocol]; name != "" {
		text = name
	} else if r.Protocol != AnyProtocol {
		text = fmt.Sprintf("protocol %d", r.Protocol)
	}
	if r.Family != 0 {
		text = fmt.Sprintf("IPv%d %s", r.Family, text)
	}
	src, dst := " from ", " to "
	if r.isICMP() {
		src, dst = " type ", " code "
	}
	if !anyPorts(r.SrcPorts) {
		text += src + portsText(r.SrcPorts)
	}
	if !anyPorts(r.DstPorts) {
		text += dst + portsText(r.DstPorts)
	}
	return text
}

func portsText(list []PortRange) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = strconv.Itoa(int(p.First))
		if p.Last != p.First {
			parts[i] += "-" + strconv.Itoa(int(p.Last))
		}
	}
	return strings.Join(parts, ",")
}

// String says whom the selector chooses.
func (s *Selector) String() string {
	var parts []string
	add := func(is bool, format string, args ...any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(s.Any, "any")
	add(s.Own, "own network")
	add(len(s.OwnOf) > 0, "own network of %v", s.OwnOf)
	add(len(s.Networks) > 0, "networks %v", s.Networks)
	for _, p := range s.Prefixes {
		parts = append(parts, p.String())
	}
	add(len(s.Groups) > 0, "groups %v", s.Groups)
	add(len(s.Tags) > 0, "tags %#x", s.Tags)
	if parts == nil {
		return "nobody"
	}
	return strings.Join(parts, " or ")
}
