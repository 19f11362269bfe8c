package manager

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
)

func withLabels(t testing.TB, pairs ...string) []byte {
	t.Helper()
	labels := []label{}
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, label{pairs[i], pairs[i+1]})
	}
	data, err := json.Marshal(map[string]any{"args": map[string]any{"org.apache.mesos": map[string]any{
		"network_info": map[string]any{"name": "contrail", "labels": map[string]any{"labels": labels}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parseRequest(data []byte) (*configv1.NetworkRequest, error) {
	c, err := parseConfiguration(data)
	if err != nil {
		return nil, err
	}
	return c.request(defaults)
}

func wanted(domain, project, network string, subnets ...string) *configv1.NetworkRequest {
	return &configv1.NetworkRequest{Domain: domain, Project: project, Network: network, Subnets: subnets, CreateMissing: true}
}

func TestLabels(t *testing.T) {
	for name, c := range map[string]struct {
		labels []string
		want   *configv1.NetworkRequest
	}{
		"none":         {nil, wanted("default-domain", "mesos-default", "mesos-default-pod-task-network")},
		"network":      {[]string{"networks", "blue"}, wanted("default-domain", "mesos-default", "blue")},
		"fq_name":      {[]string{"networks", "d:p:blue"}, wanted("d", "p", "blue")},
		"fq_name same": {[]string{"networks", "d:p:blue", "project-name", "p", "domain-name", "d"}, wanted("d", "p", "blue")},
		"all":          {[]string{"networks", "blue", "project-name", "p", "domain-name", "d", "network-subnets", "10.1.0.0/16"}, wanted("d", "p", "blue", "10.1.0.0/16")},
		"subnets":      {[]string{"network-subnets", "10.1.0.0/16, 10.2.0.0/24"}, wanted("default-domain", "mesos-default", "mesos-default-pod-task-network", "10.1.0.0/16", "10.2.0.0/24")},
		"empty":        {[]string{"networks", "", "project-name", " ", "network-subnets", ""}, wanted("default-domain", "mesos-default", "mesos-default-pod-task-network")},
		"trimmed":      {[]string{"networks", " blue "}, wanted("default-domain", "mesos-default", "blue")},
		"of others":    {[]string{"tenant", "a:b/c", "tenant", "d", "networks", "blue"}, wanted("default-domain", "mesos-default", "blue")},
		"empty first":  {[]string{"networks", "", "networks", "blue"}, wanted("default-domain", "mesos-default", "blue")},
		"old names":    {[]string{"networks", "__public__", "floating-ips", ""}, wanted("default-domain", "mesos-default", "__public__")},
		"any script":   {[]string{"networks", "grün 2"}, wanted("default-domain", "mesos-default", "grün 2")},
		"longest name": {[]string{"networks", strings.Repeat("a", maxName)}, wanted("default-domain", "mesos-default", strings.Repeat("a", maxName))},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseRequest(withLabels(t, c.labels...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLabelsAbsent: every way in which runtimes say that there are no labels.
func TestLabelsAbsent(t *testing.T) {
	for _, conf := range []string{
		``, ` `, `null`, `{}`, `{"args":null}`, `{"args":{}}`, `{"args":{"org.apache.mesos":null}}`,
		`{"args":{"org.apache.mesos":{}}}`,
		`{"args":{"org.apache.mesos":{"network_info":null}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"labels":null}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"labels":{}}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":null}}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[]}}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[null,{},{"key":"networks"},{"key":"networks","value":null}]}}}}}`,
		`{"args":{"org.apache.mesos":{"network_info":{"ip_addresses":[null,{},{"protocol":"IPv4"},{"protocol":"IPv6"}]}}}}`,
	} {
		got, err := parseRequest([]byte(conf))
		if err != nil {
			t.Errorf("%s: %v", conf, err)
			continue
		}
		if diff := cmp.Diff(wanted(defaults.Domain, defaults.Project, defaults.Network), got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", conf, diff)
		}
	}
}

func TestBadLabels(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for name, c := range map[string]struct {
		labels []string
		says   []string
	}{
		"project with slash":  {[]string{"project-name", "a/b"}, []string{`label "project-name"`, `"a/b"`, `'/'`, "use letters"}},
		"project with colon":  {[]string{"project-name", "a:b"}, []string{`label "project-name"`, `':'`}},
		"project with pipe":   {[]string{"project-name", "a|b"}, []string{`'|'`}},
		"space at the end":    {[]string{"networks", "d:p :blue"}, []string{`' '`}},
		"no UTF-8":            {[]string{"networks", "a\xffb"}, []string{`label "networks"`, "illegal"}},
		"domain with newline": {[]string{"domain-name", "a\nb"}, []string{`label "domain-name"`, `"a\nb"`, `'\n'`}},
		"domain of dots":      {[]string{"domain-name", ".."}, []string{`label "domain-name"`, `".."`}},
		"two elements":        {[]string{"networks", "p:blue"}, []string{"write NETWORK or DOMAIN:PROJECT:NETWORK"}},
		"empty element":       {[]string{"networks", "d::blue"}, []string{"empty name"}},
		"twice":               {[]string{"networks", "blue,blue"}, []string{"same network twice (blue)", "name it once"}},
		"twice, spaced":       {[]string{"networks", "blue, red , blue"}, []string{"same network twice (blue)"}},
		"twice, two labels":   {[]string{"networks", "blue", "networks", "blue"}, []string{"same network twice"}},
		"several":             {[]string{"networks", "blue,red"}, []string{"several networks", "network_infos"}},
		"several labels":      {[]string{"networks", "blue", "networks", "red"}, []string{"several networks", `"blue,red"`}},
		"empty list element":  {[]string{"networks", "blue,"}, []string{"empty element"}},
		"project twice":       {[]string{"project-name", "a", "project-name", "b"}, []string{`label "project-name"`, `"b"`, "second value"}},
		"contradiction":       {[]string{"networks", "d:p:blue", "project-name", "q"}, []string{"contradicts", `"project-name"`, "(q)"}},
		"long network":        {[]string{"networks", long}, []string{`label "networks"`, "10000 bytes", "at most 1024"}},
		"long name":           {[]string{"networks", long[:300]}, []string{"300 bytes", "at most 255"}},
		"long project":        {[]string{"project-name", long}, []string{`label "project-name"`, "10000 bytes", "at most 255"}},
		"long domain":         {[]string{"domain-name", long}, []string{`label "domain-name"`, "10000 bytes"}},
		"long subnets":        {[]string{"network-subnets", long}, []string{`label "network-subnets"`, "10000 bytes"}},
		"no subnet":           {[]string{"network-subnets", "blue"}, []string{`label "network-subnets"`, `"blue"`, "is no subnet", "10.1.2.0/24"}},
		"subnet too long":     {[]string{"network-subnets", "10.0.0.0/33"}, []string{"is no subnet"}},
		"host bits":           {[]string{"network-subnets", "10.1.2.3/24"}, []string{"did you mean 10.1.2.0/24?"}},
		"IPv4 as IPv6":        {[]string{"network-subnets", "::ffff:10.0.0.0/120"}, []string{"write it as IPv4"}},
		"overlap":             {[]string{"network-subnets", "10.0.0.0/8,10.1.0.0/16"}, []string{"overlapping", "10.0.0.0/8", "10.1.0.0/16"}},
		"empty subnet":        {[]string{"network-subnets", "10.0.0.0/8,"}, []string{"is no subnet"}},
		"many subnets":        {[]string{"network-subnets", strings.Repeat("10.0.0.0/8,", 20)}, []string{"21 subnets", "at most 16"}},
		"security groups":     {[]string{"security-groups", "default"}, []string{`label "security-groups"`, "not supported"}},
		"floating ips":        {[]string{"floating-ips", "d:p:n:pool"}, []string{`label "floating-ips"`, "not supported"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseRequest(withLabels(t, c.labels...))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if len(err.Error()) > 400 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestRequestedAddress(t *testing.T) {
	conf := func(entries string) []byte {
		return []byte(`{"args":{"org.apache.mesos":{"network_info":{"ip_addresses":[` + entries + `]}}}}`)
	}
	got, err := parseRequest(conf(`{"protocol":"IPv4"},{"ip_address":"10.1.2.3","protocol":"IPv4"},{"ip_address":"10.1.2.3"}`))
	if err != nil || got.Address != "10.1.2.3" {
		t.Errorf("got %v, %v", got, err)
	}
	for entries, says := range map[string]string{
		`{"ip_address":"10.1.2.3/24"}`:                              "without prefix length",
		`{"ip_address":"::ffff:10.1.2.3","protocol":"IPv6"}`:        "no address of a network",
		`{"ip_address":"10.1.2.3"},{"ip_address":"10.1.2.4"}`:       "second address",
		`{"ip_address":"` + strings.Repeat("1", 5000) + `"}`:        "no IP address",
		`{"ip_address":["10.1.2.3"]}`:                               "ip_address",
		`"10.1.2.3"`:                                                "want an object",
		`{"ip_address":"10.1.2.3"},{"ip_address":{"a":"10.2.3.4"}}`: "want a string",
	} {
		if _, err := parseRequest(conf(entries)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.80s: got %v, want %q", entries, err, says)
		}
	}
}

func FuzzNetworkRequest(f *testing.F) {
	f.Add(withLabels(f, "networks", "d:p:blue", "network-subnets", "10.0.0.0/8"))
	f.Add(withLabels(f, "networks", "blue,blue", "project-name", "\xff"))
	f.Add([]byte(`{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"networks"}]}}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
			return
		}
		for _, name := range []string{r.Domain, r.Project, r.Network} {
			if err := checkName("", name); err != nil {
				t.Errorf("accepted name %q: %v", name, err)
			}
		}
		if len(r.Subnets) > maxSubnets || !utf8.ValidString(r.Address) {
			t.Errorf("accepted %v", r)
		}
	})
}

func FuzzCNIInfo(f *testing.F) {
	f.Add([]byte(`{"cid":"a","cmd":"ADD","args":"{\"name\":\"contrail\"}"}`))
	f.Add([]byte(`{"cid":"a","cmd":"add","name":"contrail","contrail":{"cluster-name":"n"},"args":{"org.apache.mesos":{}}}`))
	f.Add([]byte(`{"args":""}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		info, err := parseCNIInfo(data)
		if err != nil {
			return
		}
		_ = info.configuration.clusterName()
		_, _ = info.configuration.request(defaults)
	})
}
