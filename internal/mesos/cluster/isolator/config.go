package isolator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// network is one configuration file of the operator.
type network struct {
	name   string
	plugin string // absolute path
	file   string
	config map[string]any
}

// networks reads the configuration directory. Every regular file counts,
// whatever its suffix; the first of a name wins; a file that cannot be used is
// logged and left out. Nothing is remembered: changes apply to the next launch.
func (c *CNI) networks() (map[string]network, error) {
	if c.config.ConfigDir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(c.config.ConfigDir)
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration directory: %w", err)
	}
	all := map[string]network{}
	for _, e := range entries {
		path := filepath.Join(c.config.ConfigDir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		n, err := c.readNetwork(path)
		if err != nil {
			c.log.Warn("CNI network configuration is left out", "file", path, "error", err)
			continue
		}
		if _, ok := all[n.name]; !ok {
			all[n.name] = n
		}
	}
	return all, nil
}

// maxConfig bounds a configuration file and what a plugin may print, in bytes.
const maxConfig = 1 << 20

func (c *CNI) readNetwork(path string) (network, error) {
	f, err := os.Open(path)
	if err != nil {
		return network{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return network{}, err
	}
	if len(data) > maxConfig {
		return network{}, fmt.Errorf("it is longer than %d bytes", maxConfig)
	}
	n, ipam, err := parseNetwork(data)
	if err != nil {
		return network{}, err
	}
	n.file = path
	if n.plugin, err = c.findPlugin(n.plugin); err != nil {
		return network{}, err
	}
	if ipam != "" {
		if _, err := c.findPlugin(ipam); err != nil {
			return network{}, err
		}
	}
	return n, nil
}

// parseNetwork checks what Mesos asks of a file: a name, a type, and, with an
// "ipam", its type. The plugin is the type here, not yet a path.
func parseNetwork(data []byte) (n network, ipam string, err error) {
	n.config, err = decodeObject(data)
	if err != nil {
		return network{}, "", err
	}
	var missing []string
	text := func(object map[string]any, key, label string) string {
		value, _ := object[key].(string)
		if value == "" {
			missing = append(missing, label)
		}
		return value
	}
	n.name = text(n.config, "name", "name")
	n.plugin = text(n.config, "type", "type")
	if value, ok := n.config["ipam"]; ok {
		object, _ := value.(map[string]any)
		ipam = text(object, "type", "ipam.type")
	}
	if len(missing) > 0 {
		return network{}, "", fmt.Errorf("missing required fields: %s", strings.Join(missing, ", "))
	}
	// The name becomes a directory beside the files of the container.
	if !filepath.IsLocal(n.name) || strings.ContainsAny(n.name, "/\x00") || len(n.name) > 255 ||
		slices.Contains([]string{".", nsFile, hostsFile, hostnameFile, resolvFile}, n.name) {
		return network{}, "", fmt.Errorf("name %q cannot be a directory name", n.name)
	}
	return n, ipam, nil
}

func decodeObject(data []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // numbers reach the plugin as the operator wrote them
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("it is no JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

func (c *CNI) findPlugin(name string) (string, error) {
	if strings.Contains(name, "/") {
		return "", fmt.Errorf("plugin %q: want a name, not a path", name)
	}
	for _, dir := range filepath.SplitList(c.config.PluginsDir) {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("plugin %q is not in %s", name, c.config.PluginsDir)
}

// input is what the plugin reads: the operator's file with the task's
// NetworkInfo added, keys sorted, on one line without an end.
func (n network) input(info []byte) ([]byte, error) {
	decoded, err := decodeObject(info)
	if err != nil {
		return nil, fmt.Errorf("decode network info: %w", err)
	}
	config := map[string]any{}
	for k, v := range n.config {
		config[k] = v
	}
	args := map[string]any{}
	if value, ok := n.config["args"]; ok {
		object, isObject := value.(map[string]any)
		if !isObject {
			return nil, fmt.Errorf("'args' in %s is no JSON object", n.file)
		}
		for k, v := range object {
			args[k] = v
		}
	}
	const own = "org.apache.mesos"
	if _, ok := args[own]; ok {
		return nil, fmt.Errorf("'args' in %s has '%s', which is for Mesos to set: remove it", n.file, own)
	}
	args[own] = map[string]any{"network_info": decoded}
	config["args"] = args
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(config); err != nil {
		return nil, fmt.Errorf("encode network configuration: %w", err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}
