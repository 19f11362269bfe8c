package marathon

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
)

// plan is what an application needs now.
type plan struct {
	start int
	kill  []*instance
	done  bool // as wanted: nothing to start, to kill or to wait for
}

// planFor compares what is wanted with what there is. It depends on nothing
// else, and neither starts nor kills anything.
func planFor(e *entry, instances []*instance, now time.Time) plan {
	var p plan
	wanted := e.App.Instances
	if e.Removed {
		wanted = 0
	}
	var old, current []*instance
	running, killing, overdue, missing := 0, 0, 0, 0
	for _, i := range instances {
		switch {
		case i.Killing:
			if i.Overdue {
				overdue++
			} else {
				killing++
			}
			p.kill = append(p.kill, i) // again, until it has ended
			continue
		case !i.UnreachableAt.IsZero() && replaced(e.App, i, now):
			missing++
			continue
		}
		if i.running() {
			running++
		}
		if i.Version == e.App.VersionInfo.LastConfigChangeAt {
			current = append(current, i)
		} else {
			old = append(old, i)
		}
	}
	if excess := len(current) - wanted; excess > 0 {
		victims := inKillOrder(e.App, current)[:excess]
		p.kill = append(p.kill, victims...)
		current = slices.DeleteFunc(current, func(i *instance) bool { return slices.Contains(victims, i) })
	}
	if e.Removed {
		p.kill = append(p.kill, old...)
		p.done = len(instances) == 0
		return p
	}
	p.start = max(0, wanted-len(current))
	if len(old) > 0 {
		least := int(math.Ceil(float64(wanted) * e.App.UpgradeStrategy.MinimumHealthCapacity))
		most := wanted + int(math.Floor(float64(wanted)*e.App.UpgradeStrategy.MaximumOverCapacity))
		if most == wanted && least >= wanted {
			most++ // without room for one more there would be no progress
		}
		p.start = max(0, min(p.start, most-len(old)-len(current)-killing))
		for _, i := range inKillOrder(e.App, old) {
			if i.mayRun() && (running <= least || !i.confirmed) && wanted > 0 {
				continue
			}
			if i.running() {
				running--
			}
			p.kill = append(p.kill, i)
		}
	}
	ready := 0
	for _, i := range current {
		if i.running() {
			ready++
		}
	}
	p.done = len(old) == 0 && len(p.kill) == overdue && ready == wanted
	return p
}

// replaced tells whether an unreachable instance no longer counts.
func replaced(a *App, i *instance, now time.Time) bool {
	s := a.UnreachableStrategy
	if s == nil {
		return true
	}
	return !s.Disabled && now.Sub(i.UnreachableAt) >= time.Duration(s.InactiveAfterSeconds*float64(time.Second))
}

// forgotten tells whether an unreachable instance is given up; should it come
// back, it is killed as unknown.
func forgotten(a *App, i *instance, now time.Time) bool {
	s := a.UnreachableStrategy
	if s == nil {
		return true
	}
	return !s.Disabled && now.Sub(i.UnreachableAt) >= time.Duration(max(s.ExpungeAfterSeconds, s.InactiveAfterSeconds)*float64(time.Second))
}

// inKillOrder sorts instances: those that do not run yet come first.
func inKillOrder(a *App, instances []*instance) []*instance {
	ordered := slices.Clone(instances)
	slices.SortStableFunc(ordered, func(x, y *instance) int {
		if x.running() != y.running() {
			if x.running() {
				return 1
			}
			return -1
		}
		age := x.StagedAt.Compare(y.StagedAt)
		if a.KillSelection != "OLDEST_FIRST" {
			age = -age
		}
		return cmp.Or(age, cmp.Compare(x.ID, y.ID))
	})
	return ordered
}

// step decides everything that is to be done now.
func (m *Marathon) step(now time.Time) {
	wanted := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
		e := m.store.Apps[id]
		m.expunge(e, now)
		m.endOverdue(e, now)
		p := planFor(e, m.instancesOf(id), now)
		m.finishDeployments(id, e, p, now)
		if m.store.Apps[id] == nil || m.session == nil {
			continue
		}
		for _, i := range p.kill {
			m.kill(i, now)
		}
		if p.start == 0 {
			e.since, e.unfit = time.Time{}, nil
			continue
		}
		if e.since.IsZero() {
			e.since = now
		}
		if !now.Before(e.until) && m.dependenciesRun(e.App) {
			wanted[id] = p.start
		}
	}
	if m.session == nil {
		return
	}
	m.reconcile(now)
	m.askForOffers(m.useOffers(wanted, now), now)
}

// expunge forgets instances that have been unreachable for long enough.
func (m *Marathon) expunge(e *entry, now time.Time) {
	for _, i := range m.instancesOf(e.App.ID) {
		if !i.UnreachableAt.IsZero() && (e.Removed || forgotten(e.App, i, now)) {
			m.log.Warn("unreachable instance is given up", "task", i.ID, "agent", i.AgentID)
			delete(m.store.Instances, i.ID)
			m.dirty = true
		}
	}
}

// endOverdue gives up instances that have not started in time, as where an agent
// hangs: others are started in their place, perhaps elsewhere.
func (m *Marathon) endOverdue(e *entry, now time.Time) {
	for _, i := range m.instancesOf(e.App.ID) {
		if i.Killing || !i.starting() || now.Sub(i.StagedAt) < m.cfg.LaunchTimeout {
			continue
		}
		message := fmt.Sprintf("Task was launched %s ago and does not run: look at the agent %s", now.Sub(i.StagedAt).Round(time.Second), i.Place.Host)
		m.log.Warn("instance does not start in time and is killed", "task", i.ID, "host", i.Place.Host, "state", i.State)
		i.Killing, i.Overdue, m.dirty = true, true, true
		e.failed(i, message, now)
		e.backOff(i, now)
	}
}

func (m *Marathon) dependenciesRun(a *App) bool {
	for _, id := range a.Dependencies {
		e := m.store.Apps[id]
		if e == nil || e.Removed {
			continue
		}
		running := 0
		for _, i := range m.instancesOf(id) {
			if i.running() {
				running++
			}
		}
		if running < e.App.Instances {
			return false
		}
	}
	return true
}

// useOffers launches what fits and declines the rest. It returns how many
// instances are still wanted.
func (m *Marathon) useOffers(wanted map[string]int, now time.Time) int {
	left := 0
	for _, n := range wanted {
		left += n
	}
	for _, o := range m.offers {
		room := newRoom(o)
		var tasks []*mesosv1.TaskInfo
		for _, id := range slices.Sorted(maps.Keys(wanted)) {
			e := m.store.Apps[id]
			for wanted[id] > 0 {
				i, info, why := m.build(e.App, room)
				if why != "" {
					if e.unfit == nil {
						e.unfit = map[string]int{}
					}
					e.unfit[why]++
					break
				}
				i.StagedAt, i.confirmed = now, true
				m.store.Instances[i.ID] = i
				m.dirty = true
				tasks = append(tasks, info)
				wanted[id]--
				left--
			}
		}
		filters := &mesosv1.Filters{RefuseSeconds: proto.Float64(refuseSeconds(left))}
		if len(tasks) == 0 {
			m.queue(&schedulerv1.Call{Type: schedulerv1.Call_DECLINE.Enum(), Decline: &schedulerv1.Call_Decline{
				OfferIds: []*mesosv1.OfferID{o.GetId()}, Filters: filters,
			}})
			continue
		}
		m.queue(&schedulerv1.Call{Type: schedulerv1.Call_ACCEPT.Enum(), Accept: &schedulerv1.Call_Accept{
			OfferIds: []*mesosv1.OfferID{o.GetId()}, Filters: filters,
			Operations: []*mesosv1.Offer_Operation{{
				Type: mesosv1.Offer_Operation_LAUNCH.Enum(), Launch: &mesosv1.Offer_Operation_Launch{TaskInfos: tasks},
			}},
		}})
		for _, info := range tasks {
			m.log.Info("instance launched", "task", info.GetTaskId().GetValue(), "host", o.GetHostname())
		}
	}
	m.offers = nil
	return left
}

// refuseSeconds: long when nothing is wanted, as REVIVE asks again.
func refuseSeconds(wanted int) float64 {
	if wanted > 0 {
		return 5
	}
	return 120
}

// reviveInterval is how often offers are asked for while something waits.
const reviveInterval = 5 * time.Second

func (m *Marathon) askForOffers(wanted int, now time.Time) {
	if wanted > 0 && (wanted > m.wanted || now.Sub(m.revived) >= reviveInterval) {
		m.revived = now
		m.queue(&schedulerv1.Call{Type: schedulerv1.Call_REVIVE.Enum()})
	}
	m.wanted = wanted
}
