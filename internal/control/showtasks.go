package control

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
)

// ShownTask is what is special about a peer that is a task.
type ShownTask struct {
	// Service is the UUID of its bgp-as-a-service.
	Service   string `json:"service"`
	Interface string `json:"interface"`
	Network   string `json:"network"`
	// From is the node's address and port, after translation, that the session
	// comes from.
	From string `json:"from,omitempty"`
	// Accepted routes count, Refused ones do not; of these some are named.
	Accepted int            `json:"accepted"`
	Refused  int            `json:"refused"`
	Refusals []ShownRefusal `json:"refusals,omitempty"`
}

// ShownRefusal is a route that a task may not announce.
type ShownRefusal struct {
	Prefix netip.Prefix `json:"prefix"`
	Reason string       `json:"reason"`
}

// maxRefusals bounds how many are named.
const maxRefusals = 20

// showTasks shows the tasks that speak BGP, or may, under the tables' lock. Their
// sessions are left to the caller, who asks them without it.
func (t *tables) showTasks() (list []ShownPeer, speakers []*bgp.Speaker) {
	var ports []*port
	for _, p := range t.ports {
		if len(p.services) > 0 {
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, func(a, b *port) int { return strings.Compare(a.Interface, b.Interface) })
	for _, p := range ports {
		for i := range p.services {
			s := &p.services[i]
			shown := ShownPeer{Name: s.Name, AS: s.AS, State: "refused", Error: cmp.Or(s.Problem, strings.Join(s.Ignored, "; ")), Families: []ShownFamily{}, Task: t.showTask(p, s)}
			if c := s.Clients(); len(c) > 0 {
				shown.Address = c[0].String()
			}
			var speaker *bgp.Speaker
			if session := t.border.tasks.running[taskKey{p.Interface, s.UUID}]; session != nil {
				speaker = session.speaker
				shown.Error = cmp.Or(shown.Error, session.error)
				shown.Task.From = session.wish.place.String()
			}
			if s.Disabled && s.Problem == "" {
				shown.State, shown.Error = bgp.Idle.String(), "admin_down is set"
			}
			list, speakers = append(list, shown), append(speakers, speaker)
		}
	}
	return list, speakers
}

func (t *tables) showTask(p *port, s *compile.BGPService) *ShownTask {
	shown := &ShownTask{Service: s.UUID, Interface: p.Interface, Network: p.networkName}
	for _, r := range t.spoken[p.Interface][speech{iface: p.Interface, service: s.UUID}] {
		if r.refused == "" {
			shown.Accepted++
			continue
		}
		shown.Refused++
		shown.Refusals = append(shown.Refusals, ShownRefusal{r.prefix, r.refused})
	}
	slices.SortFunc(shown.Refusals, func(a, b ShownRefusal) int { return a.Prefix.Compare(b.Prefix) })
	shown.Refusals = shown.Refusals[:min(len(shown.Refusals), maxRefusals)]
	return shown
}

// withSession fills in what the session of a task is like.
func withSession(shown ShownPeer, speaker *bgp.Speaker) ShownPeer {
	if speaker == nil {
		return shown
	}
	for _, p := range speaker.Peers() {
		session := shownPeer(&p)
		session.Name, session.Task = shown.Name, shown.Task
		session.Error = strings.Join(slices.DeleteFunc([]string{shown.Error, session.Error}, func(text string) bool { return text == "" }), "; ")
		return session
	}
	return shown
}
