package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
)

// The labels of a container's network that the manager reads. Labels of other
// names belong to others and are left alone.
const (
	labelNetworks = "networks"
	labelSubnets  = "network-subnets"
	labelProject  = "project-name"
	labelDomain   = "domain-name"

	// These change what a container may talk to, so ignoring them would be
	// worse than refusing them.
	labelSecurityGroups = "security-groups"
	labelFloatingIPs    = "floating-ips"
)

const (
	// maxName bounds domain, project and network names, in bytes.
	maxName = 255
	// maxList bounds a label that holds a list, in bytes.
	maxList = 1024
	// maxSubnets bounds the subnets of one label.
	maxSubnets = 16
	// shownValue is how much of a refused value an error repeats, in bytes.
	shownValue = 64
)

// Defaults are used where a container's labels say nothing.
type Defaults struct {
	Domain, Project, Network string
}

// networkConfiguration is the part of a CNI network configuration that the
// manager reads: Mesos's addition under args, and our own options.
type networkConfiguration struct {
	Args *struct {
		Mesos *struct {
			NetworkInfo *networkInfo `json:"network_info"`
		} `json:"org.apache.mesos"`
	} `json:"args"`
	Contrail *struct {
		ClusterName string `json:"cluster-name"`
	} `json:"contrail"`
}

// networkInfo is Mesos's NetworkInfo, as the framework sent it.
type networkInfo struct {
	IPAddresses []struct {
		Address string `json:"ip_address"`
	} `json:"ip_addresses"`
	Labels *struct {
		Labels []label `json:"labels"`
	} `json:"labels"`
}

// label may lack its value; it then counts as empty.
type label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func parseConfiguration(data []byte) (*networkConfiguration, error) {
	c := new(networkConfiguration)
	if len(strings.TrimSpace(string(data))) == 0 {
		return c, nil
	}
	err := json.Unmarshal(data, c)
	if wrongType := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrongType) {
		return nil, fmt.Errorf("network configuration: field %s is a JSON %s, want %s; see the CNI contract of the Mesos network/cni isolator",
			wrongType.Field, wrongType.Value, jsonKind(wrongType))
	}
	if err != nil {
		return nil, fmt.Errorf("network configuration is not JSON: %w; check the file in the agent's --network_cni_config_dir", err)
	}
	return c, nil
}

func jsonKind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "string":
		return "a string"
	case "slice":
		return "an array"
	default:
		return "an object"
	}
}

func (c *networkConfiguration) info() *networkInfo {
	if c.Args == nil || c.Args.Mesos == nil || c.Args.Mesos.NetworkInfo == nil {
		return new(networkInfo)
	}
	return c.Args.Mesos.NetworkInfo
}

// clusterName is the node that the configuration claims to belong to.
func (c *networkConfiguration) clusterName() string {
	if c.Contrail == nil {
		return ""
	}
	return c.Contrail.ClusterName
}

// request is what the container's network needs to be. Its errors name the
// label or field, the value and what to do.
func (c *networkConfiguration) request(defaults Defaults) (*configv1.NetworkRequest, error) {
	info := c.info()
	labels, err := readLabels(info)
	if err != nil {
		return nil, err
	}
	r := &configv1.NetworkRequest{CreateMissing: true}
	if r.Domain, err = labels.name(labelDomain); err != nil {
		return nil, err
	}
	if r.Project, err = labels.name(labelProject); err != nil {
		return nil, err
	}
	if err := labels.network(r); err != nil {
		return nil, err
	}
	if r.Subnets, err = labels.subnets(); err != nil {
		return nil, err
	}
	if r.Address, err = requestedAddress(info); err != nil {
		return nil, err
	}
	for _, key := range []string{labelSecurityGroups, labelFloatingIPs} {
		if v := labels[key]; v != "" {
			return nil, refuse(key, v, "is not supported by this version", "remove the label")
		}
	}
	r.Domain = orDefault(r.Domain, defaults.Domain)
	r.Project = orDefault(r.Project, defaults.Project)
	r.Network = orDefault(r.Network, defaults.Network)
	return r, nil
}

func orDefault(v, fallback string) string {
	if v == "" {
		return fallback
	}
	return v
}

// labelSet has the values of our labels, trimmed; absent and empty are the same.
type labelSet map[string]string

var ourLabels = []string{labelNetworks, labelSubnets, labelProject, labelDomain, labelSecurityGroups, labelFloatingIPs}

func readLabels(info *networkInfo) (labelSet, error) {
	set := labelSet{}
	if info.Labels == nil {
		return set, nil
	}
	for _, l := range info.Labels.Labels {
		if !slices.Contains(ourLabels, l.Key) {
			continue
		}
		value := strings.TrimSpace(l.Value)
		previous, again := set[l.Key]
		switch {
		case !again || previous == "":
			set[l.Key] = value
		case value == "":
		case l.Key == labelNetworks && value == previous:
			return nil, refuse(l.Key, value, "names the same network twice", "name it once")
		case l.Key == labelNetworks:
			return nil, severalNetworks(previous + "," + value)
		default:
			return nil, refuse(l.Key, value, "is the label's second value", "give the label once")
		}
	}
	return set, nil
}

func severalNetworks(value string) error {
	return refuse(labelNetworks, value, "names several networks, and an interface has one",
		"name one network, or give the container one entry in network_infos for each")
}

// name returns the value of a label that is one element of an fq_name.
func (s labelSet) name(key string) (string, error) {
	if s[key] == "" {
		return "", nil
	}
	return s[key], checkName(key, s[key])
}

// network reads one network name, alone or as DOMAIN:PROJECT:NETWORK.
func (s labelSet) network(r *configv1.NetworkRequest) error {
	value := s[labelNetworks]
	if value == "" {
		return nil
	}
	if len(value) > maxList {
		return tooLong(labelNetworks, value, maxList)
	}
	if strings.Contains(value, ",") {
		return checkNetworkList(value)
	}
	parts := strings.Split(value, ":")
	if len(parts) != 1 && len(parts) != 3 {
		return refuse(labelNetworks, value, "is no network", "write NETWORK or DOMAIN:PROJECT:NETWORK")
	}
	for _, part := range parts {
		if err := checkName(labelNetworks, part); err != nil {
			return err
		}
	}
	r.Network = parts[len(parts)-1]
	if len(parts) == 1 {
		return nil
	}
	for _, given := range []struct{ key, label, name string }{
		{labelDomain, r.Domain, parts[0]}, {labelProject, r.Project, parts[1]},
	} {
		if given.label != "" && given.label != given.name {
			return refuse(labelNetworks, value, fmt.Sprintf("contradicts label %q (%s)", given.key, cut(given.label)), "let both say the same, or give one of them")
		}
	}
	r.Domain, r.Project = parts[0], parts[1]
	return nil
}

func checkNetworkList(value string) error {
	names := strings.Split(value, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
		if names[i] == "" {
			return refuse(labelNetworks, value, "has an empty element", "name one network")
		}
		if slices.Contains(names[:i], names[i]) {
			return refuse(labelNetworks, value, fmt.Sprintf("names the same network twice (%s)", cut(names[i])), "name it once")
		}
	}
	return severalNetworks(value)
}

// subnets reads a list of IPv4 networks in CIDR form, separated by commas.
func (s labelSet) subnets() ([]string, error) {
	value := s[labelSubnets]
	if value == "" {
		return nil, nil
	}
	if len(value) > maxList {
		return nil, tooLong(labelSubnets, value, maxList)
	}
	elements := strings.Split(value, ",")
	if len(elements) > maxSubnets {
		return nil, refuse(labelSubnets, value, fmt.Sprintf("has %d subnets", len(elements)), fmt.Sprintf("give at most %d", maxSubnets))
	}
	var prefixes []netip.Prefix
	var out []string
	for _, element := range elements {
		p, err := parseSubnet(strings.TrimSpace(element))
		if err != nil {
			return nil, err
		}
		for _, other := range prefixes {
			if p.Overlaps(other) {
				return nil, refuse(labelSubnets, value, fmt.Sprintf("has overlapping subnets %s and %s", other, p), "separate them or leave one out")
			}
		}
		prefixes = append(prefixes, p)
		out = append(out, p.String())
	}
	return out, nil
}

func parseSubnet(element string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(element)
	switch {
	case err != nil:
		return p, refuse(labelSubnets, element, "is no subnet", "write ADDRESS/LENGTH such as 10.1.2.0/24, several separated by commas")
	case p.Addr().Is4In6():
		return p, refuse(labelSubnets, element, "is IPv4 in the form of IPv6", "write it as IPv4")
	case p != p.Masked():
		return p, refuse(labelSubnets, element, "has bits set beyond its prefix length", "did you mean "+p.Masked().String()+"?")
	}
	return p, nil
}

// requestedAddress is the one address that a framework asks for, or "".
func requestedAddress(info *networkInfo) (string, error) {
	const field = "ip_addresses[].ip_address"
	var found string
	for _, entry := range info.IPAddresses {
		if entry.Address == "" {
			continue
		}
		a, err := netip.ParseAddr(entry.Address)
		switch {
		case err != nil:
			return "", refuseField(field, entry.Address, "is no IP address", "write it without prefix length, or leave it out")
		case a.Is4In6() || a.Zone() != "":
			return "", refuseField(field, entry.Address, "is no address of a network", "write it as 10.1.2.3 or 2001:db8::3, or leave it out")
		case found != "" && found != a.String():
			return "", refuseField(field, entry.Address, "is the second address", "ask for one; the network chooses that of the other family")
		}
		found = a.String()
	}
	return found, nil
}

const nameCharacters = "use letters, digits and -_.+@"

// checkName accepts what the configuration API lets a label bring into being:
// letters and digits of any script, "-_.+@", and spaces inside.
func checkName(key, value string) error {
	if value == "" {
		return refuse(key, value, "has an empty name", "name it, or leave the label out")
	}
	if len(value) > maxName {
		return tooLong(key, value, maxName)
	}
	if !utf8.ValidString(value) {
		return refuse(key, value, "is not UTF-8", nameCharacters)
	}
	for i, r := range value {
		inside := r == ' ' && i > 0 && !strings.HasSuffix(value, " ")
		if !inside && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.+@", r) {
			return refuse(key, value, fmt.Sprintf("has the illegal character %q", r), nameCharacters)
		}
	}
	if value == "." || value == ".." {
		return refuse(key, value, "is no name", nameCharacters)
	}
	return nil
}

func tooLong(key, value string, limit int) error {
	return refuse(key, value, fmt.Sprintf("has %d bytes", len(value)), fmt.Sprintf("use at most %d", limit))
}

func refuse(key, value, problem, next string) error {
	return refuseField(fmt.Sprintf("label %q", key), value, problem, next)
}

func refuseField(field, value, problem, next string) error {
	return fmt.Errorf("%s: %q %s; %s", field, cut(value), problem, next)
}

// cut shortens a value for a message, at a character's boundary.
func cut(value string) string {
	if len(value) <= shownValue {
		return value
	}
	end := shownValue
	for end > 0 && !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end] + "…"
}
