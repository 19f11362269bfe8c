package master

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

// quantities are amounts of resources: scalars in thousandths, as Mesos counts
// them, and ranges. Empty amounts are not kept; order is that of first use.
// Values are immutable.
type quantities []quantity

type quantity struct {
	name  string
	milli int64
	spans []span // of ranges; sorted, disjoint, not adjacent
}

// span has both ends included.
type span struct{ begin, end uint64 }

// quantitiesOf reads resources; the error names the one that is wrong.
func quantitiesOf(resources []*mesosv1.Resource) (quantities, error) {
	var total quantities
	for _, r := range resources {
		q, err := quantityOf(r)
		if err != nil {
			return nil, err
		}
		total = total.plus(quantities{q})
	}
	return total, nil
}

func quantityOf(r *mesosv1.Resource) (quantity, error) {
	q := quantity{name: r.GetName()}
	switch r.GetType() {
	case mesosv1.Value_SCALAR:
		v := r.GetScalar().GetValue()
		if r.Scalar == nil || math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || v > math.MaxInt64/2000 {
			return q, told("Resource '%s:%s' is invalid: Invalid scalar resource: value <= 0", q.name, formatScalar(v))
		}
		q.milli = int64(math.Round(v * 1000))
	case mesosv1.Value_RANGES:
		for _, rg := range r.GetRanges().GetRange() {
			if rg.GetBegin() > rg.GetEnd() {
				return q, told("Resource '%s:[%d-%d]' is invalid: Invalid ranges resource: begin > end", q.name, rg.GetBegin(), rg.GetEnd())
			}
			q.spans = append(q.spans, span{rg.GetBegin(), rg.GetEnd()})
		}
		q.spans = normal(q.spans)
	default:
		return q, told("Resource '%s' is invalid: type %s is not supported", q.name, r.GetType())
	}
	return q, nil
}

// normal sorts spans and joins those that touch.
func normal(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.begin < b.begin:
			return -1
		case a.begin > b.begin:
			return 1
		}
		return 0
	})
	var joined []span
	for _, s := range spans {
		if last := len(joined) - 1; last >= 0 && (s.begin <= joined[last].end || s.begin-1 == joined[last].end) {
			joined[last].end = max(joined[last].end, s.end)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

func (q quantity) empty() bool { return q.milli == 0 && len(q.spans) == 0 }

func (qs quantities) of(name string) quantity {
	for _, q := range qs {
		if q.name == name {
			return q
		}
	}
	return quantity{name: name}
}

// plus adds; spans are united.
func (qs quantities) plus(others quantities) quantities {
	sum := slices.Clone(qs)
	for _, other := range others {
		i := slices.IndexFunc(sum, func(q quantity) bool { return q.name == other.name })
		if i < 0 {
			if !other.empty() {
				sum = append(sum, other)
			}
			continue
		}
		sum[i].milli += other.milli
		sum[i].spans = normal(append(slices.Clone(sum[i].spans), other.spans...))
	}
	return sum
}

// minus subtracts, but never below nothing.
func (qs quantities) minus(others quantities) quantities {
	var rest quantities
	for _, q := range qs {
		other := others.of(q.name)
		q.milli = max(0, q.milli-other.milli)
		q.spans = without(q.spans, other.spans)
		if !q.empty() {
			rest = append(rest, q)
		}
	}
	return rest
}

func without(spans, others []span) []span {
	for _, o := range others {
		var rest []span
		for _, s := range spans {
			if o.end < s.begin || o.begin > s.end {
				rest = append(rest, s)
				continue
			}
			if s.begin < o.begin {
				rest = append(rest, span{s.begin, o.begin - 1})
			}
			if s.end > o.end {
				rest = append(rest, span{o.end + 1, s.end})
			}
		}
		spans = rest
	}
	return spans
}

// contains tells whether others fit in.
func (qs quantities) contains(others quantities) bool {
	for _, other := range others {
		q := qs.of(other.name)
		if other.milli > q.milli || len(without(other.spans, q.spans)) > 0 {
			return false
		}
	}
	return true
}

// offerable tells whether it is worth offering.
func (qs quantities) offerable() bool {
	return qs.of("cpus").milli >= 10 || qs.of("mem").milli >= 32_000
}

// resources returns the message; role is the allocation's, none if empty, and
// withRole tells whether to name the reservation's ("*") too.
func (qs quantities) resources(role string, withRole bool) []*mesosv1.Resource {
	all := make([]*mesosv1.Resource, 0, len(qs))
	for _, q := range qs {
		r := &mesosv1.Resource{Name: proto.String(q.name)}
		if q.spans != nil {
			r.Type = mesosv1.Value_RANGES.Enum()
			r.Ranges = &mesosv1.Value_Ranges{}
			for _, s := range q.spans {
				r.Ranges.Range = append(r.Ranges.Range, &mesosv1.Value_Range{Begin: proto.Uint64(s.begin), End: proto.Uint64(s.end)})
			}
		} else {
			r.Type = mesosv1.Value_SCALAR.Enum()
			r.Scalar = &mesosv1.Value_Scalar{Value: proto.Float64(float64(q.milli) / 1000)}
		}
		if withRole {
			r.Role = proto.String("*")
		}
		if role != "" {
			r.AllocationInfo = &mesosv1.Resource_AllocationInfo{Role: proto.String(role)}
		}
		all = append(all, r)
	}
	return all
}

// scalars leaves out ranges.
func (qs quantities) scalars() quantities {
	return slices.DeleteFunc(slices.Clone(qs), func(q quantity) bool { return q.spans != nil })
}

// rangesFirst is the order of resources in offers.
func (qs quantities) rangesFirst() quantities {
	ordered := slices.Clone(qs)
	slices.SortStableFunc(ordered, func(a, b quantity) int {
		switch {
		case a.spans != nil && b.spans == nil:
			return -1
		case a.spans == nil && b.spans != nil:
			return 1
		}
		return 0
	})
	return ordered
}

// text is how Mesos names amounts in its messages.
func (qs quantities) text(role string) string {
	parts := make([]string, 0, len(qs))
	for _, q := range qs {
		value := formatScalar(float64(q.milli) / 1000)
		if q.spans != nil {
			value = formatSpans(q.spans)
		}
		parts = append(parts, fmt.Sprintf("%s(allocated: %s):%s", q.name, role, value))
	}
	if len(parts) == 0 {
		return "{}"
	}
	return strings.Join(parts, "; ")
}

func formatScalar(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func formatSpans(spans []span) string {
	parts := make([]string, len(spans))
	for i, s := range spans {
		parts[i] = fmt.Sprintf("%d-%d", s.begin, s.end)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
