package control

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// A port's health is what its node's agent says of the checks that the graph
// has for it. A port with a check that fails has no routes, as one that is down;
// what the agent says of other checks, as of one that was removed while it was
// away, says nothing.

// check is a health check of an attachment.
type check struct {
	id, name string
	at       compile.CheckedInterface
	probe    *compile.Probe
}

// failure is a health check that the agent says has failed.
type failure struct{ check, reason string }

const (
	// maxFailures and maxReason bound what is kept of an agent's word.
	maxFailures = 32
	maxReason   = 200
)

// failuresOf reads an agent's word. What is cut off must not leave half a character:
// other control nodes are told in strings, which are nothing but UTF-8.
func failuresOf(list []*controlv1.FailedCheck) []failure {
	var failing []failure
	for _, f := range list[:min(len(list), maxFailures)] {
		if reason := f.GetReason(); model.IsUUID(f.GetCheckId()) {
			failing = append(failing, failure{f.GetCheckId(), strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")})
		}
	}
	return failing
}

func failedChecks(failing []failure) []*controlv1.FailedCheck {
	var list []*controlv1.FailedCheck
	for _, f := range failing {
		list = append(list, &controlv1.FailedCheck{CheckId: f.check, Reason: f.reason})
	}
	return list
}

// failingOf are the failures that count: of checks that the attachment has.
func (a *attachment) failingOf(said []failure) []failure {
	var failing []failure
	for _, f := range said {
		if slices.ContainsFunc(a.checks, func(c check) bool { return c.id == f.check }) {
			failing = append(failing, f)
		}
	}
	return failing
}

// readChecks reads the health checks of an interface: those that it refers to,
// and those of the service that it is one of.
func (f *facts) readChecks(v *model.View, a *attachment) {
	add := func(id string) {
		h := f.compiler.HealthCheck(id)
		if h == nil {
			return
		}
		if at, ok := h.Of(a.Interface); ok && !slices.ContainsFunc(a.checks, func(c check) bool { return c.id == id }) {
			a.checks = append(a.checks, check{id, h.From.Name, at, h.Probe})
		}
	}
	for r := range v.ReferenceSeq(a.Interface, model.KindServiceHealthCheck) {
		add(r.To.UUID)
	}
	for r := range v.ReferenceSeq(a.Interface, model.KindPortTuple) {
		tuple, ok := v.Find(r.To.UUID)
		if !ok {
			continue
		}
		for back := range v.BackReferenceSeq(tuple.GetMeta().ParentUUID, model.KindServiceHealthCheck) {
			add(back.From.UUID)
		}
	}
	slices.SortFunc(a.checks, func(x, y check) int { return cmp.Compare(x.id, y.id) })
}

// readChecked reads the interfaces that changes of health checks concern.
func (f *facts) readChecked(v *model.View, u *update, changes map[string]compile.Change[compile.HealthCheck]) {
	for _, change := range changes {
		before, after := change.Before, change.After
		if before == nil {
			before = &compile.HealthCheck{}
		}
		if after == nil {
			after = &compile.HealthCheck{}
		}
		// Many interfaces may have it, and come and go one by one.
		same := before.From == after.From && reflect.DeepEqual(before.Probe, after.Probe)
		for _, pair := range [][2]*compile.HealthCheck{{before, after}, {after, before}} {
			for _, c := range pair[0].Interfaces {
				if other, has := pair[1].Of(c.UUID); !same || !has || other != c {
					f.readAttachment(v, u, c.UUID)
				}
			}
		}
	}
}

var probeKinds = map[compile.ProbeKind]controlv1.HealthCheck_Kind{
	compile.PingProbe: controlv1.HealthCheck_KIND_PING,
	compile.TCPProbe:  controlv1.HealthCheck_KIND_TCP,
	compile.HTTPProbe: controlv1.HealthCheck_KIND_HTTP,
}

func checkMessages(checks []check) []*controlv1.HealthCheck {
	list := make([]*controlv1.HealthCheck, len(checks))
	for i, c := range checks {
		list[i] = &controlv1.HealthCheck{
			Id: c.id, Name: c.name, Kind: probeKinds[c.probe.Kind], Address: c.at.Address.String(), Source: c.at.Source.String(),
			DelayUs: uint64(c.probe.Delay.Microseconds()), TimeoutUs: uint64(c.probe.Timeout.Microseconds()), Retries: c.probe.Retries,
			Port: uint32(c.probe.Port), Method: c.probe.Method, Url: c.probe.URL, Codes: portRanges(c.probe.Codes),
		}
	}
	return list
}

// ShownCheck is a health check of a port, as its node's agent has it.
type ShownCheck struct {
	Check     string `json:"check"`
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Interface string `json:"interface"`
	Address   string `json:"address"`
	Network   string `json:"network"`
	Node      string `json:"node"`
	// Failing, for the Reason; what is not known to fail passes.
	Failing bool   `json:"failing"`
	Reason  string `json:"reason,omitempty"`
}

func (t *tables) showHealth() []ShownCheck {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := []ShownCheck{}
	for _, p := range t.ports {
		for _, c := range p.checks {
			x := ShownCheck{
				Check: c.id, Name: c.name, Kind: string(c.probe.Kind), Interface: p.Interface, Address: c.at.Address.String(),
				Network: p.networkName, Node: p.Node,
			}
			if n := t.nodes[p.Node]; n != nil && n.record != nil {
				x.Node = n.record.Name
			}
			if at := slices.IndexFunc(p.failing, func(f failure) bool { return f.check == c.id }); at >= 0 {
				x.Failing, x.Reason = true, p.failing[at].reason
			}
			shown = append(shown, x)
		}
	}
	slices.SortFunc(shown, func(a, b ShownCheck) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Interface, b.Interface))
	})
	return shown
}
