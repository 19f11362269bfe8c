package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// Fabric tells what leaves nodes without a tunnel.
func (v *VRouter) Fabric(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"KIND", "NAME", "TASKS USE", "TO", "PROBLEM"}
	return tableOf(ctx, v, w, vrouterapi.PathFabric, q, output, titles, func(_ string, a vrouterapi.Fabric) (rows [][]string, left int) {
		rows = append(rows, []string{"node", a.Address, "-", "ports " + a.Ports, or(a.Problem)})
		for _, s := range a.Services {
			var to []string
			for _, t := range s.To {
				to = append(to, fmt.Sprintf("%s:%d", t, s.ToPort))
			}
			name := s.Name
			if s.DNSName != "" {
				name += " (" + s.DNSName + ")"
			}
			rows = append(rows, []string{"link-local", name, fmt.Sprintf("%s:%d", s.Address, s.Port), or(strings.Join(to, ",")), or(s.Problem)})
		}
		for _, p := range a.SNAT {
			rows = append(rows, []string{"SNAT", or(p.Port), fmt.Sprintf("vif %d", p.Vif), "outside", "-"})
		}
		return rows, 0
	})
}
