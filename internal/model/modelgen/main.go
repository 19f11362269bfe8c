// Command modelgen turns the description of the object model in api/model into
// Go types and tables (internal/model/*_gen.go) and into the reference page
// docs/reference/object-model.md.
//
//	api/model/*.yaml -> load -> check -> goFiles, page -> files
//
// It runs by `go generate ./internal/model`; a test compares what it would
// write with what is there.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	schema := flag.String("schema", "../../api/model", "directory of the YAML files")
	goDir := flag.String("go", ".", "directory of package model")
	page := flag.String("page", "../../docs/reference/object-model.md", "the reference page")
	flag.Parse()
	if err := run(*schema, *goDir, *page); err != nil {
		fmt.Fprintln(os.Stderr, "modelgen:", err)
		os.Exit(1)
	}
}

func run(schema, goDir, page string) error {
	m, err := load(os.DirFS(schema))
	if err != nil {
		return err
	}
	files, err := m.goFiles()
	if err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(goDir, "*_gen.go"))
	if err != nil {
		return err
	}
	for _, name := range stale {
		if _, kept := files[filepath.Base(name)]; !kept {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(goDir, name), text, 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(page), 0o755); err != nil {
		return err
	}
	return os.WriteFile(page, m.page(), 0o644)
}
