package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func loadModel(t *testing.T) *model {
	t.Helper()
	m, err := load(os.DirFS("../../../api/model"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	m := loadModel(t)
	files, err := m.goFiles()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{filepath.Join("../../../docs/reference/object-model.md"): m.page()}
	for name, text := range files {
		want[filepath.Join("..", name)] = text
	}
	for name, text := range want {
		have, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(have, text) {
			t.Errorf("%s is out of date: run go generate ./internal/model", name)
		}
	}
	there, err := filepath.Glob("../*_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if want[name] == nil {
			t.Errorf("%s is not generated any more: run go generate ./internal/model", name)
		}
	}
}

func TestRunWritesAndRemovesFiles(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "old_gen.go")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "docs", "page.md")
	if err := run("../../../api/model", dir, page); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the stale file is still there")
	}
	for _, name := range []string{page, filepath.Join(dir, "kinds_gen.go"), filepath.Join(dir, "networking_gen.go")} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if err := run(dir+"/docs", dir, page); err == nil {
		t.Error("generated from nothing")
	}
}

// What is wrong in the description is found before anything is written.
func TestLoadNamesMistakes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "objects:\n  a: {effect: none, colour: blue}", "field colour not found"},
		{"unknown facet", "types:\n  T: {type: string, maxlength: 3}", "field maxlength not found"},
		{"no effect", "objects:\n  a: {}", `object a: effect is "", want none, full or a list of names`},
		{"effect of nothing", "objects:\n  a: {effect: [b]}", "object a: effect names unknown b"},
		{"unknown parent", "objects:\n  a: {effect: none, parents: [b]}", "object a: unknown parent b"},
		{"unknown target", "objects:\n  a: {effect: none, references: {b: {}}}", "a -> b: unknown target"},
		{"attribute is no struct", "objects:\n  a: {effect: none, references: {a: {attr: T}}}\ntypes:\n  T: {type: string}", "a -> a: attr T is no struct"},
		{"unknown type", "objects:\n  a: {effect: none, properties: {p: {type: T}}}", `a.p: unknown type "T"`},
		{"unknown ops", "objects:\n  a: {effect: none, properties: {p: {type: string, ops: X}}}", `a.p: ops "X"`},
		{"unknown collection", "objects:\n  a: {effect: none, properties: {p: {type: string, collection: set}}}", `a.p: collection "set"`},
		{"unknown presence", "types:\n  T: {type: string, presence: maybe}", `T: presence "maybe"`},
		{"unknown format", "types:\n  T: {type: string, format: colour}", `T: format "colour"`},
		{"effect of a field", "types:\n  T: {fields: {f: {type: string, effect: full}}}", `T.f: effect "full"`},
		{"type and fields", "types:\n  T: {type: string, fields: {f: {type: string}}}", "type T: wants either type or fields"},
		{"twice", "objects:\n  a: {effect: none}\n  a: {effect: none}", "already defined"},
		{"two documents", "objects: {}\n---\nobjects: {}", "more than one YAML document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(fstest.MapFS{"a.yaml": &fstest.MapFile{Data: []byte(c.text)}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestLoadFindsWhatTwoFilesDescribe(t *testing.T) {
	for _, text := range []string{
		"objects:\n  a: {effect: none}",
		"types:\n  T: {type: string}",
		"common:\n  properties: {p: {type: string}}",
	} {
		file := &fstest.MapFile{Data: []byte(text)}
		_, err := load(fstest.MapFS{"a.yaml": file, "b.yaml": file})
		if err == nil || !strings.Contains(err.Error(), "described twice") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestGoNames(t *testing.T) {
	for name, want := range map[string]string{
		"virtual_network":              "VirtualNetwork",
		"virtual_DNS_record":           "VirtualDNSRecord",
		"instance_ip":                  "InstanceIP",
		"network_ipam_mgmt":            "NetworkIPAMMgmt",
		"ip_prefix_len":                "IPPrefixLen",
		"delayUsecs":                   "DelayUsecs",
		"virtual_network_network_id":   "VirtualNetworkNetworkID",
		"type_":                        "Type",
		"e2_service_provider":          "E2ServiceProvider",
		"physical_router_dataplane_ip": "PhysicalRouterDataplaneIP",
	} {
		if got := goName(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestGoNamesMustDiffer(t *testing.T) {
	m := &model{
		objects: map[string]object{"subnet": {Effect: effect{word: "none"}}},
		types:   map[string]typ{"Subnet": {Fields: map[string]field{}}},
	}
	if _, err := m.goFiles(); err == nil || !strings.Contains(err.Error(), "Subnet") {
		t.Errorf("got %v", err)
	}
}

func TestEveryFileSaysWhatItIsFor(t *testing.T) {
	fsys := os.DirFS("../../../api/model")
	names, err := fs.Glob(fsys, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, []byte("# ")) {
			t.Errorf("%s has no comment at its head", name)
		}
	}
	for name, o := range loadModel(t).objects {
		if o.Doc == "" {
			t.Errorf("object %s has no doc", name)
		}
	}
}

func TestPageShowsEveryFormat(t *testing.T) {
	page := string(loadModel(t).page())
	for _, f := range formats[1:] {
		if !strings.Contains(page, "| `"+f+"` |") {
			t.Errorf("the page has no example of the format %s", f)
		}
	}
}
