package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// DefaultDomain is the domain of names that do not say one.
const DefaultDomain = "default-domain"

// Scope says which project short names mean.
type Scope struct {
	// Project is "project" or "domain:project".
	Project string
	// All lists objects of all projects.
	All bool
}

// project is the scope's project with its domain.
func (s Scope) project() []string {
	domain, project, ok := strings.Cut(s.Project, ":")
	if !ok {
		domain, project = DefaultDomain, s.Project
	}
	return []string{domain, project}
}

// candidates are the full names that a name can mean, the likeliest first.
func (s Scope) candidates(t *model.Type, name string) [][]string {
	parts := model.ParseFQ(t.Kind, name)
	possible := depths(t)
	var list [][]string
	add := func(prefix []string, inProject bool) {
		full := append(slices.Clone(prefix), parts...)
		is, ok := possible[len(full)]
		if ok && (!inProject || is) && !slices.ContainsFunc(list, func(have []string) bool { return slices.Equal(have, full) }) {
			list = append(list, full)
		}
	}
	whole := func() { add(nil, false) }
	if len(parts) > 2 {
		whole()
	}
	if s.Project != "" {
		add(s.project(), true)
	}
	if len(parts) == 2 && s.Project != "" { // project:name
		add([]string{DefaultDomain}, true)
	}
	whole()
	if t.Kind == model.KindProject || slices.Equal(t.Parents, []model.Kind{model.KindDomain}) {
		add([]string{DefaultDomain}, false)
	}
	if slices.Contains(t.Parents, model.KindGlobalSystemConfig) {
		add([]string{"default-global-system-config"}, false)
	}
	return list
}

// resolve returns UUID and candidates of the object that a name or UUID means.
func (c *Client) resolve(ctx context.Context, t *model.Type, s Scope, name string) (string, error) {
	if model.IsUUID(name) {
		return strings.ToLower(name), nil
	}
	if name == "" {
		return "", fmt.Errorf("%s: the name is empty", t.Kind)
	}
	candidates := s.candidates(t, name)
	if len(candidates) == 0 {
		return "", fmt.Errorf("%s %q: the name has %d parts; write %s", t.Kind, name, len(model.ParseFQ(t.Kind, name)), nameForm(t))
	}
	var tried []string
	for _, full := range candidates {
		id, err := c.idOf(ctx, t, full)
		if err == nil {
			return id, nil
		}
		if !isNotFound(err) {
			return "", err
		}
		tried = append(tried, model.FQString(full))
	}
	return "", fmt.Errorf("%s %s does not exist%s; `contrail get %s%s` lists what there is", t.Kind, tried[0], alsoTried(tried[1:]), t.Kind, everywhere(t))
}

func alsoTried(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", nor does " + strings.Join(names, ", nor ")
}

func everywhere(t *model.Type) string {
	if inProject(t) {
		return " -A"
	}
	return ""
}

// nameForm shows how full names of a type are written.
func nameForm(t *model.Type) string {
	var chain []string
	for kind := t.Kind; kind != "" && kind != model.KindConfigRoot && len(chain) < 8; {
		chain = append(chain, strings.ToUpper(string(kind)))
		parent, ok := model.TypeOf(string(kind))
		if !ok || len(parent.Parents) == 0 {
			break
		}
		kind = parent.Parents[0]
		if slices.Contains(parent.Parents, model.KindProject) {
			kind = model.KindProject
		}
	}
	slices.Reverse(chain)
	return strings.Join(chain, ":")
}
