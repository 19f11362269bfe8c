package agent

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Version of Mesos whose contract this agent keeps.
const Version = "1.12.0"

// Config of an agent.
type Config struct {
	// Master is host:port or unix:PATH.
	Master string
	// Credentials are the node's; nil only where Master is a unix socket.
	Credentials *ctls.Credentials
	// Hostname, IP and Port are how frameworks know the agent.
	Hostname, IP string
	Port         int
	// WorkDir is kept over reboots, RuntimeDir need not be.
	WorkDir, RuntimeDir string
	// Socket of the executor API; the agent's server listens there.
	Socket string
	// Registry is host:port or a directory; see package image.
	Registry string
	// NetworkConfigDir and NetworkPluginsDir; see package isolator.
	NetworkConfigDir, NetworkPluginsDir string
	// PluginPath is PATH for CNI plugins.
	PluginPath string
	// CgroupsRoot is relative to the root of each hierarchy.
	CgroupsRoot string
	// CPUQuota makes CPU shares also the most a container gets.
	CPUQuota bool
	// Resources and Attributes offered.
	Resources  []*mesosv1.Resource
	Attributes []*mesosv1.Attribute
	// Executor runs package executor: the path of a program, and its arguments.
	Executor []string
	// RegistrationTimeout is how long an executor may take to subscribe; 0
	// means 1 minute. ReregistrationTimeout is the same after a restart of the
	// agent; 0 means 15 s.
	RegistrationTimeout, ReregistrationTimeout time.Duration
	// SandboxesKept is how many sandboxes of ended containers stay.
	SandboxesKept int
	// Flags as given, for GET_FLAGS.
	Flags map[string]string
}

// ParseResources reads "cpus:4;mem:2048;disk:10240;ports:[31000-32000]".
func ParseResources(text string) ([]*mesosv1.Resource, error) {
	var all []*mesosv1.Resource
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("resource %q: want name:value", part)
		}
		if seen[name] {
			return nil, fmt.Errorf("resource %q is given twice", name)
		}
		seen[name] = true
		r := &mesosv1.Resource{Name: proto.String(name)}
		if strings.HasPrefix(value, "[") {
			ranges, err := parseRanges(value)
			if err != nil {
				return nil, fmt.Errorf("resource %q: %w", name, err)
			}
			r.Type, r.Ranges = mesosv1.Value_RANGES.Enum(), ranges
		} else {
			scalar, err := strconv.ParseFloat(value, 64)
			if err != nil || scalar < 0 || math.IsInf(scalar, 0) || math.IsNaN(scalar) {
				return nil, fmt.Errorf("resource %q: %q is neither a number from 0 nor ranges like [1-2,5-9]", name, value)
			}
			r.Type, r.Scalar = mesosv1.Value_SCALAR.Enum(), &mesosv1.Value_Scalar{Value: proto.Float64(scalar)}
		}
		all = append(all, r)
	}
	return all, nil
}

func parseRanges(text string) (*mesosv1.Value_Ranges, error) {
	inner, ok := strings.CutSuffix(strings.TrimPrefix(text, "["), "]")
	if !ok {
		return nil, fmt.Errorf("%q has no closing bracket", text)
	}
	ranges := &mesosv1.Value_Ranges{}
	for part := range strings.SplitSeq(inner, ",") {
		low, high, ok := strings.Cut(strings.TrimSpace(part), "-")
		begin, err1 := strconv.ParseUint(low, 10, 64)
		end, err2 := strconv.ParseUint(high, 10, 64)
		if !ok || err1 != nil || err2 != nil || begin > end {
			return nil, fmt.Errorf("%q is no range like 31000-32000", part)
		}
		ranges.Range = append(ranges.Range, &mesosv1.Value_Range{Begin: proto.Uint64(begin), End: proto.Uint64(end)})
	}
	slices.SortFunc(ranges.Range, func(a, b *mesosv1.Value_Range) int {
		return int(min(1, max(-1, int64(a.GetBegin())-int64(b.GetBegin()))))
	})
	return ranges, nil
}

// ParseAttributes reads "rack:r1;level:3".
func ParseAttributes(text string) ([]*mesosv1.Attribute, error) {
	var all []*mesosv1.Attribute
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("attribute %q: want name:value", part)
		}
		a := &mesosv1.Attribute{Name: proto.String(name)}
		if scalar, err := strconv.ParseFloat(value, 64); err == nil && !math.IsInf(scalar, 0) && !math.IsNaN(scalar) {
			a.Type, a.Scalar = mesosv1.Value_SCALAR.Enum(), &mesosv1.Value_Scalar{Value: proto.Float64(scalar)}
		} else {
			a.Type, a.Text = mesosv1.Value_TEXT.Enum(), &mesosv1.Value_Text{Value: proto.String(value)}
		}
		all = append(all, a)
	}
	return all, nil
}
