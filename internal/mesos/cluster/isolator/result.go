package isolator

//lint:file-ignore ST1005 texts that reach users are those of Mesos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// Result is what a plugin said about one network, as far as Mesos reads it:
// the form of CNI 0.1 and 0.2. Newer forms carry nothing for Mesos.
type Result struct {
	// Network and Interface it is about.
	Network, Interface string
	// IP4 is an address without, IP6 one with its prefix length, as Mesos
	// shows them; empty where there is none.
	IP4, IP6 string
	// DNS of the network.
	DNS DNS
}

// DNS as in a CNI result.
type DNS struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// parseResult reads what ADD printed. The texts are those of Mesos.
func parseResult(text []byte) (Result, error) {
	// The codec knows how Mesos words a syntax error.
	if err := codec.UnmarshalJSON(text, &mesosv1.Labels{}); err != nil {
		if reason, ok := strings.CutPrefix(err.Error(), "Failed to parse body into JSON: "); ok {
			return Result{}, fmt.Errorf("JSON parse failed: %s", reason)
		}
	}
	var raw struct {
		IP4, IP6 *struct{ IP *string }
		DNS      DNS
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return Result{}, fmt.Errorf("Protobuf parse failed: %w", err)
	}
	r := Result{DNS: raw.DNS}
	if raw.IP4 != nil {
		prefix, err := address(raw.IP4.IP, "ip4")
		if err != nil {
			return Result{}, err
		}
		r.IP4 = prefix.Addr().String()
	}
	if raw.IP6 != nil {
		prefix, err := address(raw.IP6.IP, "ip6")
		if err != nil {
			return Result{}, err
		}
		r.IP6 = prefix.String()
	}
	return r, nil
}

func address(text *string, field string) (netip.Prefix, error) {
	if text == nil {
		return netip.Prefix{}, fmt.Errorf("Protobuf parse failed: Missing required fields: %s.ip", field)
	}
	prefix, err := netip.ParsePrefix(*text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s.ip %q is no address with prefix length", field, *text)
	}
	if prefix.Addr().Is4() != (field == "ip4") {
		return netip.Prefix{}, fmt.Errorf("%s.ip %q is of the other family", field, *text)
	}
	return prefix, nil
}

// hostsText is /etc/hosts of a container.
func hostsText(hostname string, results []Result) string {
	text := "127.0.0.1 localhost\n"
	for _, r := range results {
		if r.IP4 != "" {
			return text + r.IP4 + " " + hostname + "\n"
		}
	}
	return text
}

// resolvText is /etc/resolv.conf, or "" where no network has a name server and
// the host's applies.
func resolvText(results []Result) (string, error) {
	var all DNS
	for _, r := range results {
		if len(r.DNS.Nameservers) == 0 {
			continue
		}
		all.Nameservers = append(all.Nameservers, r.DNS.Nameservers...)
		all.Search = append(all.Search, r.DNS.Search...)
		all.Options = append(all.Options, r.DNS.Options...)
		if r.DNS.Domain != "" {
			all.Domain = r.DNS.Domain
		}
	}
	if len(all.Nameservers) == 0 {
		return "", nil
	}
	var b strings.Builder
	if all.Domain != "" {
		fmt.Fprintf(&b, "domain %s\n", all.Domain)
	}
	if len(all.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(all.Search, " "))
	}
	if len(all.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(all.Options, " "))
	}
	for _, n := range all.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", n)
	}
	lines := strings.Count(b.String(), "\n")
	want := len(all.Nameservers)
	for _, set := range []bool{all.Domain != "", len(all.Search) > 0, len(all.Options) > 0} {
		if set {
			want++
		}
	}
	if lines != want {
		return "", errors.New("a line break is in the dns of a CNI result")
	}
	return b.String(), nil
}
