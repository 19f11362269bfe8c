package vrouter

import (
	"context"
	"maps"
	"time"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// portPolicy is the policy of a port, with the sets that it names.
type portPolicy struct {
	dataplane.Policy
	sets map[dataplane.SetID]*dataplane.Set
}

// policyTarget makes policies of ports real.
type policyTarget struct{ plane Dataplane }

func (t policyTarget) List(context.Context) (map[int]portPolicy, error) {
	known, err := t.plane.KnownPolicies()
	all := make(map[int]portPolicy, len(known))
	for ifindex, p := range known {
		all[ifindex] = portPolicy{Policy: p}
	}
	return all, err
}

func (t policyTarget) Put(ctx context.Context, ifindex int, p portPolicy) error {
	return t.PutAll(ctx, map[int]portPolicy{ifindex: p})
}

func (t policyTarget) PutAll(_ context.Context, all map[int]portPolicy) error {
	policies, sets := map[int]dataplane.Policy{}, map[dataplane.SetID]*dataplane.Set{}
	for ifindex, p := range all {
		policies[ifindex] = p.Policy
		maps.Copy(sets, p.sets)
	}
	return t.plane.PutPolicies(policies, sets)
}

func (t policyTarget) Delete(_ context.Context, ifindex int) error {
	return t.plane.DeletePolicy(ifindex)
}

// followPolicies has each port judged by the policy that is known of it. One
// that is not known yet keeps what the data plane has, or is closed.
func (a *Agent) followPolicies(records []*record) {
	all := map[int]portPolicy{}
	for _, r := range records {
		if r.HostIndex == 0 {
			continue
		}
		if p, known := a.routing.policyOf(r); known {
			all[r.HostIndex] = p
		}
	}
	a.policies.Replace(all)
}

// policyOf is the policy of a port: it is in its network, and asks nothing.
func (r *routing) policyOf(rec *record) (p portPolicy, known bool) {
	p.Identity = dataplane.NewIdentity(rec.VRF, nil, nil)
	return p, rec.VRF != 0
}

// identityOf is who is at the end of a path.
func identityOf(p *controlv1.Path) dataplane.Identity {
	return dataplane.NewIdentity(p.GetOriginNetwork(), p.GetSecurityGroups(), p.GetTags())
}

// policyWait bounds how long an ADD waits for the policy of its port.
const policyWait = time.Second

// awaitPolicy waits until a new port is open to what its policy allows, so that
// the container's first packets are not lost. A port whose policy does not come
// in time is closed until it does.
func (a *Agent) awaitPolicy(ctx context.Context, r *record) {
	ctx, cancel := context.WithTimeout(ctx, policyWait)
	defer cancel()
	for {
		_, changed := a.registry.all()
		if s, desired := a.policies.StatusOf(r.HostIndex); desired && s.State == reconcile.Applied {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			a.log.Warn("policy of a new port is not here yet; until it comes the port is closed", "port", r.ID, "host_interface", r.HostInterface)
			return
		}
	}
}
