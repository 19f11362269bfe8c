package container

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Spec is everything that container-init needs to know. It travels as JSON.
type Spec struct {
	// ID of the container: a UUID, or UUIDs joined by dots for nested ones.
	ID string `json:"id"`
	// NetNS is the path of an nsfs mount; empty means the caller's namespace.
	NetNS string `json:"net_ns,omitempty"`
	// Hostname inside; empty leaves the caller's.
	Hostname string `json:"hostname,omitempty"`
	// Root is the root file system; nil means the host's.
	Root *Root `json:"root,omitempty"`
	// Binds are mounted in order.
	Binds []Bind `json:"binds,omitempty"`
	// Command to run.
	Command Command `json:"command"`
	// Cgroup is entered by the command, not by PID 1.
	Cgroup Entry `json:"cgroup"`
	// KeepCapabilities leaves root inside as powerful as outside.
	KeepCapabilities bool `json:"keep_capabilities,omitempty"`
	// NoNewPrivileges makes set-user-id programs inside powerless.
	NoNewPrivileges bool `json:"no_new_privileges,omitempty"`
}

// Root is a stack of directories, mounted with overlayfs.
type Root struct {
	// Target is an empty directory to mount on.
	Target string `json:"target"`
	// LayersDir holds the layers; Layers are names in it, lowest first.
	LayersDir string   `json:"layers_dir"`
	Layers    []string `json:"layers"`
	// Upper takes what the container writes; Work is overlayfs's own.
	Upper string `json:"upper"`
	Work  string `json:"work"`
}

// Bind shows a file or directory of the host inside.
type Bind struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Inert forbids devices, set-user-id programs and execution below Target.
	Inert bool `json:"inert,omitempty"`
}

// Command is what the container runs.
type Command struct {
	// Path of the program; without a slash it is looked up in PATH of Env.
	Path string `json:"path"`
	// Args includes argv[0].
	Args []string `json:"args"`
	// Env is KEY=VALUE.
	Env []string `json:"env"`
	// Dir is made, with an image, if it does not exist.
	Dir string `json:"dir"`
	// UID and GID inside; there are no user namespaces.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// maxLayers keeps the options of the overlay mount within one page: a layer's
// name has 64 characters and a separator.
const maxLayers = 55

// Validate says what is missing.
func (s *Spec) Validate() error {
	switch {
	case s.ID == "" || strings.ContainsAny(s.ID, "/\x00"):
		return fmt.Errorf("container id %q is no file name", s.ID)
	case s.Command.Path == "":
		return errors.New("container has no command")
	case len(s.Command.Args) == 0:
		return errors.New("command has no argv[0]")
	case !filepath.IsAbs(s.Command.Dir):
		return fmt.Errorf("working directory %q is not absolute", s.Command.Dir)
	}
	for _, b := range s.Binds {
		if !filepath.IsAbs(b.Source) || !filepath.IsAbs(b.Target) {
			return fmt.Errorf("bind %q on %q: both must be absolute paths", b.Source, b.Target)
		}
	}
	if s.Root == nil {
		return nil
	}
	if len(s.Root.Layers) > maxLayers {
		return fmt.Errorf("image has %d layers, at most %d can be mounted: squash it", len(s.Root.Layers), maxLayers)
	}
	for _, path := range append([]string{s.Root.Upper, s.Root.Work}, s.Root.Layers...) {
		if strings.ContainsAny(path, ",:\\") {
			return fmt.Errorf("overlay directory %q: comma, colon and backslash cannot be mounted", path)
		}
	}
	return nil
}

// Status is how a command ended.
type Status struct {
	// Code is the exit code, where Signal is 0.
	Code int `json:"code"`
	// Signal that ended it, or 0.
	Signal int `json:"signal"`
}

// report is what container-init says about its command: one when it runs (or
// cannot), one when it has ended.
type report struct {
	Error  string  `json:"error,omitempty"`
	Status *Status `json:"status,omitempty"`
}
