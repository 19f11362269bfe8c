package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// Rules lists the rules of policy sets with what they have decided.
func (v *VRouter) Rules(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VIFS", "SET", "RULE", "MATCH", "VERDICT", "COUNT"}
	return tableOf(ctx, v, w, vrouterapi.PathRules, q, output, titles, func(_ string, a vrouterapi.Rules) (rows [][]string, left int) {
		for _, r := range a.Rules {
			verdict := "deny"
			if r.Pass {
				verdict = "pass"
			}
			count := "-"
			if r.Count != nil {
				count = number(*r.Count)
			}
			rows = append(rows, []string{vifsText(r.Vifs), r.Kind, ruleName(r), or(r.Match), verdict, count})
		}
		return rows, a.Left
	})
}

// ruleName is how people know a rule.
func ruleName(r vrouterapi.Rule) string {
	switch {
	case r.Error != "":
		return r.Error
	case r.Place == 0:
		return "none matches"
	case r.Owner == "":
		return "implied"
	case r.OwnerPlace > 0:
		return fmt.Sprintf("%s rule %d", r.Owner, r.OwnerPlace)
	case strings.HasPrefix(r.Owner, "firewall-rule "):
		return r.Owner
	}
	return "follows from " + r.Owner
}

// vifsText are the first of many interfaces.
func vifsText(vifs []int) string {
	const most = 4
	var parts []string
	for _, n := range vifs[:min(len(vifs), most)] {
		parts = append(parts, strconv.Itoa(n))
	}
	text := strings.Join(parts, ",")
	if len(vifs) > most {
		text += fmt.Sprintf(",+%d", len(vifs)-most)
	}
	return text
}
