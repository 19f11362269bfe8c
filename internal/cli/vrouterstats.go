package cli

import (
	"context"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// rates are made of what was counted at the last look.
type rates struct {
	now  func() time.Time
	last map[string]counted
}

type counted struct {
	at time.Time
	vrouterapi.Counters
}

// ShowRates has Stats tell how much passes in a second, from one look to the next.
func (v *VRouter) ShowRates() { v.rates = &rates{time.Now, map[string]counted{}} }

// of are packets in a second: from the container, to it, and dropped.
func (r *rates) of(what string, c vrouterapi.Counters) []string {
	now := counted{r.now(), c}
	before, known := r.last[what]
	r.last[what] = now
	passed := now.at.Sub(before.at).Seconds()
	rate := func(before, now uint64) string {
		if !known || passed <= 0 || now < before { // another port has the interface index
			return "-"
		}
		return strconv.FormatFloat(float64(now-before)/passed, 'f', 0, 64)
	}
	rx, tx := "-", "-"
	if c.Passed != nil && before.Passed != nil {
		rx, tx = rate(before.FromPackets, c.FromPackets), rate(before.ToPackets, c.ToPackets)
	}
	return []string{rx, tx, rate(before.DropsPackets, c.DropsPackets)}
}

// Stats lists what passed the ports.
func (v *VRouter) Stats(ctx context.Context, w io.Writer, q url.Values, output Output) error {
	titles := []string{"VIF", "DEVICE", "NETWORK", "RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES", "DROPS", "DROPPED BYTES"}
	if v.rates != nil {
		titles = append(titles, "RX/S", "TX/S", "DROPS/S")
	}
	return tableOf(ctx, v, w, vrouterapi.PathStats, q, output, titles, func(node string, a vrouterapi.Stats) (rows [][]string, left int) {
		cells := func(c vrouterapi.Counters, head ...string) {
			passed := []string{"-", "-", "-", "-"}
			if c.Passed != nil {
				passed = []string{number(c.FromPackets), number(c.FromBytes), number(c.ToPackets), number(c.ToBytes)}
			}
			row := append(append(head, passed...), number(c.DropsPackets), number(c.DropsBytes))
			if v.rates != nil {
				row = append(row, v.rates.of(node+" "+head[0], c)...)
			}
			rows = append(rows, row)
		}
		for _, s := range a.Stats {
			cells(s.Counters, strconv.Itoa(s.Vif), or(s.Device), or(s.Network))
		}
		cells(a.Totals, "total", "", "")
		return rows, 0
	})
}
