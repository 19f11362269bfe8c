package vrouter

import (
	"encoding/json"
	"strconv"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// bandwidth is the CNI capability of that name, and what the reference plugin of
// the same name takes in its configuration: rates in bits in a second, bursts in
// bits, ingress towards the container. 0 is as if it were not there.
type bandwidth struct {
	IngressRate  json.Number `json:"ingressRate"`
	IngressBurst json.Number `json:"ingressBurst"`
	EgressRate   json.Number `json:"egressRate"`
	EgressBurst  json.Number `json:"egressBurst"`
}

// limits are what a port may send and be sent.
type limits struct{ egress, ingress dataplane.Limit }

// parseLimits reads them from a network configuration. What the runtime says of a
// container comes before what the operator says of all: a runtime without
// capabilities, such as Mesos, leaves the latter.
func parseLimits(configuration []byte) (limits, error) {
	var network struct {
		bandwidth
		RuntimeConfig struct {
			Bandwidth *bandwidth `json:"bandwidth"`
		} `json:"runtimeConfig"`
	}
	if len(configuration) == 0 {
		return limits{}, nil
	}
	if err := json.Unmarshal(configuration, &network); err != nil {
		return limits{}, invalid("network configuration: %v", err)
	}
	if b := network.RuntimeConfig.Bandwidth; b != nil {
		return b.limits("runtimeConfig.bandwidth.")
	}
	return network.bandwidth.limits("")
}

// limits are the two of a bandwidth; errors name the fields after a prefix.
func (b bandwidth) limits(prefix string) (l limits, err error) {
	if l.egress, err = limit(prefix+"egress", b.EgressRate, b.EgressBurst); err != nil {
		return limits{}, err
	}
	if l.ingress, err = limit(prefix+"ingress", b.IngressRate, b.IngressBurst); err != nil {
		return limits{}, err
	}
	return l, nil
}

func limit(name string, rate, burst json.Number) (l dataplane.Limit, err error) {
	if l.Rate, err = bitsOf(name+"Rate", rate, dataplane.LeastRate, dataplane.MostRate, "bits in a second"); err != nil {
		return l, err
	}
	if l.Burst, err = bitsOf(name+"Burst", burst, 1, dataplane.MostBurst, "bits"); err != nil {
		return l, err
	}
	switch {
	case l.Rate == 0 && l.Burst != 0:
		return l, invalid("%sBurst is %d without a rate; set %sRate, in bits in a second, or leave out both", name, l.Burst, name)
	case l.Rate != 0 && l.Burst == 0:
		return l, invalid("%sRate is %d without a burst; set %sBurst, in bits", name, l.Rate, name)
	}
	return l, nil
}

// bitsOf is a number, or 0 for none.
func bitsOf(name string, n json.Number, least, most uint64, unit string) (uint64, error) {
	if n == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(n.String(), 10, 64)
	if err != nil || v != 0 && (v < least || v > most) {
		return 0, invalid("%s is %s: want %d to %d %s, or 0 for no limit", name, n, least, most, unit)
	}
	return v, nil
}
