package marathon

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

func (a *App) validateConstraints(invalid *violations) {
	for i, c := range a.Constraints {
		path := fmt.Sprintf("/constraints(%d)", i)
		if len(c) < 2 || len(c) > 3 || c[0] == "" {
			invalid.add(path, "must have a field, an operator and perhaps a value")
			continue
		}
		value, given := "", len(c) == 3
		if given {
			value = c[2]
		}
		switch c[1] {
		case "UNIQUE":
			if given {
				invalid.add(path, "Value specified but not used")
			}
		case "CLUSTER":
		case "GROUP_BY", "MAX_PER":
			if n, err := strconv.Atoi(value); (given || c[1] == "MAX_PER") && (err != nil || n < 1) {
				invalid.add(path, "Value must be a positive number")
			}
		case "LIKE", "UNLIKE":
			if _, err := regexp.Compile(value); !given || err != nil {
				invalid.add(path, "Value must be a regular expression")
			}
		case "IS":
			if !given {
				invalid.add(path, "Missing value")
			}
		default:
			invalid.add(path, "Operator must be one of UNIQUE, CLUSTER, GROUP_BY, LIKE, UNLIKE, MAX_PER, IS")
		}
	}
}

// place is where an instance runs or may run: the values of constraint fields.
type place struct {
	Host       string            `json:"host"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

func (p place) value(field string) (string, bool) {
	if field == "hostname" || field == "@hostname" {
		return p.Host, true
	}
	v, ok := p.Attributes[field]
	return v, ok
}

func placeOf(o *mesosv1.Offer) place {
	p := place{Host: o.GetHostname(), Attributes: map[string]string{}}
	for _, a := range o.GetAttributes() {
		switch {
		case a.Text != nil:
			p.Attributes[a.GetName()] = a.GetText().GetValue()
		case a.Scalar != nil:
			p.Attributes[a.GetName()] = strconv.FormatFloat(a.GetScalar().GetValue(), 'g', -1, 64)
		}
	}
	return p
}

// fits tells whether the constraints allow one more instance at p beside others.
func (a *App) fits(p place, others []place) bool {
	return !slices.ContainsFunc(a.Constraints, func(c []string) bool { return !meets(c, p, others) })
}

func meets(c []string, p place, others []place) bool {
	value, has := p.value(c[0])
	argument := ""
	if len(c) == 3 {
		argument = c[2]
	}
	counts := map[string]int{}
	for _, other := range others {
		if v, ok := other.value(c[0]); ok {
			counts[v]++
		}
	}
	switch c[1] {
	case "LIKE", "UNLIKE":
		pattern, err := regexp.Compile("^(?:" + argument + ")$")
		matches := err == nil && has && pattern.MatchString(value)
		return matches == (c[1] == "LIKE")
	case "IS":
		return has && value == argument
	}
	if !has {
		return false
	}
	switch c[1] {
	case "UNIQUE":
		return counts[value] == 0
	case "CLUSTER":
		if argument != "" {
			return value == argument
		}
		return len(counts) == 0 || counts[value] > 0
	case "MAX_PER":
		most, err := strconv.Atoi(argument)
		return err == nil && counts[value] < most
	default: // GROUP_BY: no value gets ahead of the others
		groups, _ := strconv.Atoi(cmp.Or(argument, "0"))
		least := -1
		for _, n := range counts {
			if least < 0 || n < least {
				least = n
			}
		}
		if counts[value] == 0 || len(counts) == 0 {
			return true
		}
		return len(counts) >= groups && counts[value] <= least
	}
}
