package cli

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/contrail-mesos/contrail/internal/model"
)

// ManifestOf makes a manifest of a name and of settings such as
// virtual_network_properties.forwarding_mode=l3. Values are YAML, so that lists
// and structures can be written: network_policy_refs=[web].
func ManifestOf(t *model.Type, name, parentType string, settings []string, s Scope) (*Manifest, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	addPair(root, "kind", scalar(string(t.Kind)))
	addPair(root, "name", scalar(name))
	if parentType != "" {
		addPair(root, "parent_type", scalar(parentType))
	}
	for _, setting := range settings {
		path, text, ok := strings.Cut(setting, "=")
		if !ok || path == "" {
			return nil, fmt.Errorf("--set %q: want path=value, such as display_name=Blue", setting)
		}
		var value yaml.Node
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("--set %s: %s; quote the value", setting, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		n := scalar("")
		if value.Kind == yaml.DocumentNode {
			n = value.Content[0]
		}
		if err := setPath(root, strings.Split(path, "."), n); err != nil {
			return nil, fmt.Errorf("--set %s: %w", setting, err)
		}
	}
	return readManifest("", root, s)
}

// setPath puts a value at a path, making the mappings on the way.
func setPath(n *yaml.Node, path []string, value *yaml.Node) error {
	if path[0] == "" {
		return fmt.Errorf("the path has an empty part")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != path[0] {
			continue
		}
		if len(path) == 1 {
			return fmt.Errorf("%s is set twice", path[0])
		}
		if n.Content[i+1].Kind != yaml.MappingNode {
			return fmt.Errorf("%s is set as a whole already", path[0])
		}
		return setPath(n.Content[i+1], path[1:], value)
	}
	if len(path) == 1 {
		addPair(n, path[0], value)
		return nil
	}
	inner := &yaml.Node{Kind: yaml.MappingNode}
	addPair(n, path[0], inner)
	return setPath(inner, path[1:], value)
}
