package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// Flows lists the flows, both directions of each.
func (v *VRouter) Flows(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"PROTO", "SOURCE", "DESTINATION", "VIF", "VRF", "TO", "NAT", "STATE", "PACKETS", "BYTES", "AGE", "IDLE", "GENERATION"}
	return tableOf(ctx, v, w, vrouterapi.PathFlows, q, output, titles, func(_ string, a vrouterapi.Flows) (rows [][]string, left int) {
		for _, f := range a.Flows {
			state := f.State
			if f.Forward != nil {
				rows = append(rows, append([]string{f.Protocol}, flowCells(f.Protocol, f.Forward, state)...))
				state = "answers"
			} else {
				state = "answers only"
			}
			if f.Reverse != nil {
				rows = append(rows, append([]string{f.Protocol}, flowCells(f.Protocol, f.Reverse, state)...))
			}
		}
		return rows, a.Left
	})
}

func flowCells(protocol string, d *vrouterapi.Direction, state string) []string {
	if !d.Current {
		state += ", outdated"
	}
	hop := hopCells(d.NextHop)
	to := strings.Join(without(hop[1:], "-"), " ")
	if d.NextHop.Type == "discard" {
		to = "not decided"
	}
	return []string{
		flowEnd(protocol, d.Source, d.SourcePort, "id"), flowEnd(protocol, d.Destination, d.DestinationPort, "type"), strconv.Itoa(d.Vif), orNone(d.VRF),
		to, natText(d.NAT), state, number(d.Packets), number(d.Bytes), spanOf(d.AgeSeconds), spanOf(d.IdleSeconds),
		fmt.Sprintf("%d/%d", d.Generation, d.PolicyGeneration),
	}
}

// flowEnd is an address with its port, or with what ICMP has in its place.
func flowEnd(protocol, address string, port uint16, icmp string) string {
	switch {
	case strings.HasPrefix(protocol, "icmp"):
		return fmt.Sprintf("%s %s %d", address, icmp, port)
	case port == 0:
		return address
	}
	return net.JoinHostPort(address, strconv.Itoa(int(port)))
}

func natText(n *vrouterapi.NAT) string {
	if n == nil {
		return "-"
	}
	var parts []string
	for _, part := range []struct {
		what, address string
		port          uint16
	}{{"from", n.Source, n.SourcePort}, {"to", n.Destination, n.DestinationPort}} {
		text := part.address
		if part.port != 0 {
			text += ":" + strconv.Itoa(int(part.port))
		}
		if text != "" {
			parts = append(parts, part.what+" "+text)
		}
	}
	return strings.Join(parts, " ")
}

func spanOf(seconds float64) string { return span(time.Duration(seconds * float64(time.Second))) }

func without(list []string, word string) []string {
	var rest []string
	for _, s := range list {
		if s != word {
			rest = append(rest, s)
		}
	}
	return rest
}
