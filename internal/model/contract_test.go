package model

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The schema has exactly what clients know: every type, property, reference,
// attribute, structure and field, and no other. It may restrict values where
// the contract leaves them open, but allows nothing that the contract forbids.
func TestSchemaIsTheContract(t *testing.T) {
	file, err := os.Open("testdata/contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := contract{T: t, seen: map[string]bool{}, simple: map[string]Value{}}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 0 && words[0] != "#" {
			for i := range words {
				if words[i] == "-" {
					words[i] = ""
				}
			}
			c.line(append(words, make([]string, 8)...))
		}
	}
	c.nothingElse()
}

type contract struct {
	*testing.T
	seen map[string]bool
	// simple are the restricted types as the values that use them show them.
	simple map[string]Value
}

func (c *contract) line(w []string) {
	c.seen[strings.Join([]string{w[0], w[1]}, " ")] = true
	owner, name, _ := strings.Cut(w[1], ".")
	switch w[0] {
	case "object":
		typ, ok := TypeOf(w[1])
		if !ok {
			c.Errorf("no type %s", w[1])
			return
		}
		var parents []string
		for _, p := range typ.Parents {
			parents = append(parents, p.Name())
		}
		slices.Sort(parents)
		if got := strings.Join(parents, ","); got != w[2] {
			c.Errorf("%s: parents %s, want %s", w[1], got, w[2])
		}
	case "property":
		typ, _ := TypeOf(owner)
		p, ok := typ.Property(name)
		if !ok {
			c.Errorf("no property %s", w[1])
			return
		}
		c.value(w[1], &p.Value, w[2])
		if p.Ops != w[3] || p.Collection != w[4] || p.Presence != w[5] || w[6] != "" && strings.Trim(p.Value.Default, `"`) != w[6] {
			c.Errorf("%s: %s %s %s %s, want %q", w[1], p.Ops, p.Collection, p.Presence, p.Value.Default, w[3:7])
		}
	case "reference":
		c.seen["reference "+w[1]+" "+w[2]] = true
		typ, _ := TypeOf(w[1])
		r, ok := typ.Reference(KindOfName(w[2]))
		if !ok || r.Attr != w[3] || r.Presence != w[4] {
			c.Errorf("reference %s -> %s: %+v, want %q", w[1], w[2], r, w[3:5])
		}
	case "struct":
		if linked().structs[w[1]] == nil {
			c.Errorf("no structure %s", w[1])
		}
	case "field":
		f, ok := linked().structs[owner].fields[name]
		if !ok {
			c.Errorf("no field %s", w[1])
			return
		}
		c.value(w[1], &f.Value, w[2])
		if f.Presence != w[3] && !(f.Mandatory && w[3] == "required") {
			c.Errorf("%s: presence %q, want %q", w[1], f.Presence, w[3])
		}
		c.enum(w[1], f.Value.Enum, w[4])
	case "type":
		v, used := c.simple[w[1]]
		if !used {
			c.simple[w[1]] = Value{}
			return // checked when its first user was, or nothing uses it
		}
		base := strings.Trim(w[2], "[]")
		if v.Type != base || base != w[2] && !v.List || bound(v.Minimum) != w[3] && w[3] != "" || bound(v.Maximum) != w[4] && w[4] != "" {
			c.Errorf("type %s: %+v, want %q", w[1], v, w[2:5])
		}
		c.enum(w[1], v.Enum, strings.ReplaceAll(w[5], "_", " "))
	}
}

func (c *contract) value(where string, v *Value, want string) {
	name := strings.Trim(want, "[]")
	if v.Named != "" {
		if v.Named != name {
			c.Errorf("%s: type %s, want %s", where, v.Named, want)
		}
		c.simple[name] = *v
		return
	}
	if v.Type != name || v.List != (name != want) {
		c.Errorf("%s: type %s, list %t, want %s", where, v.Type, v.List, want)
	}
}

func (c *contract) enum(where string, have []string, want string) {
	if want == "" {
		return
	}
	if got := strings.ReplaceAll(strings.Join(have, "|"), "_", " "); got != want {
		c.Errorf("%s: enum %s, want %s", where, got, want)
	}
}

func bound(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func (c *contract) nothingElse() {
	if len(c.seen) < 1000 {
		c.Errorf("the list has only %d names", len(c.seen))
	}
	for _, typ := range Types() {
		if !c.seen["object "+typ.Name] {
			c.Errorf("type %s is not in the contract", typ.Name)
		}
		for _, p := range typ.Properties {
			if _, common := commonNames[p.Name]; !common && !c.seen["property "+typ.Name+"."+p.Name] {
				c.Errorf("property %s.%s is not in the contract", typ.Name, p.Name)
			}
		}
		for _, r := range typ.References {
			if r.Target != KindTag && !c.seen["reference "+typ.Name+" "+r.Target.Name()] {
				c.Errorf("reference %s -> %s is not in the contract", typ.Name, r.Target)
			}
		}
	}
	for name, st := range linked().structs {
		if !c.seen["struct "+name] {
			c.Errorf("structure %s is not in the contract", name)
		}
		for _, f := range st.Fields {
			if !c.seen["field "+name+"."+f.Name] {
				c.Errorf("field %s.%s is not in the contract", name, f.Name)
			}
		}
	}
}

// commonNames are what every object has.
var commonNames = map[string]bool{
	"uuid": true, "fq_name": true, "parent_type": true, "parent_uuid": true, "id_perms": true,
	"perms2": true, "display_name": true, "annotations": true, "configuration_version": true,
}
