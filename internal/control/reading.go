package control

import (
	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/control/feed"
)

// portsTable stands for the ports where others are the routes of a VRF: no
// network has the number.
const portsTable = 0

// reading is a session's place in a table: the ports, or the routes of a VRF.
type reading struct {
	number  uint32
	unicast *feed.Cursor
	layer2  *feed.Cursor // nil when the agent does not want them
	// resumed: the agent has what it had in its last session, and is to be told
	// that this stands.
	resumed bool
	synced  bool
	// told are the changes that the agent knows the place of, to come back to.
	told [2]uint64
}

// read begins with a table, at the place where the agent's last session ended
// if that can be.
func (s *session) read(number uint32, unicast, layer2 *feed.Feed) *reading {
	r := &reading{number: number}
	if e := s.earlier[number]; e != nil {
		delete(s.earlier, number)
		r.unicast = unicast.Resume(s.poke, e.GetTable(), e.GetAt())
		if r.unicast != nil && layer2 != nil {
			if r.layer2 = layer2.Resume(s.poke, e.GetLayer2Table(), e.GetLayer2At()); r.layer2 == nil {
				r.unicast.Close()
				r.unicast = nil
			}
		}
		r.resumed = r.unicast != nil
	}
	if r.resumed {
		s.tables.metrics.resumed.Inc()
		return r
	}
	s.tables.metrics.snapshots.Inc()
	r.unicast = unicast.Read(s.poke)
	if layer2 != nil {
		r.layer2 = layer2.Read(s.poke)
	}
	return r
}

func (r *reading) close() {
	r.unicast.Close()
	if r.layer2 != nil {
		r.layer2.Close()
	}
}

func (r *reading) behind() uint64 {
	n := r.unicast.Behind()
	if r.layer2 != nil {
		n += r.layer2.Behind()
	}
	return n
}

// next appends up to limit messages, and reports whether these are all.
func (r *reading) next(out [][]byte, limit int) (_ [][]byte, done bool) {
	if r.resumed && limit > 0 {
		r.resumed = false
		limit--
		out = append(out, resumedMessage(r.number))
	}
	if r.resumed {
		return out, false
	}
	before := len(out)
	out, done = r.unicast.Next(out, limit)
	if done && r.layer2 != nil {
		out, done = r.layer2.Next(out, limit-(len(out)-before))
	}
	return out, done
}

// end tells whether the end of the table has come and is not announced yet.
func (r *reading) end() bool {
	first := !r.synced
	r.synced = true
	return first
}

// place is where the agent is, if it does not know.
func (r *reading) place() *controlv1.TableCursor {
	c := &controlv1.TableCursor{Vrf: r.number}
	c.Table, c.At = r.unicast.Place()
	if r.layer2 != nil {
		c.Layer2Table, c.Layer2At = r.layer2.Place()
	}
	now := [2]uint64{c.GetAt(), c.GetLayer2At()}
	if !r.synced || r.told == now {
		return nil
	}
	r.told = now
	return c
}

// places are those that the agent does not know.
func (s *session) places() (places []*controlv1.TableCursor) {
	if c := s.ports.place(); c != nil {
		places = append(places, c)
	}
	for _, r := range s.vrfs {
		if c := r.place(); c != nil {
			places = append(places, c)
		}
	}
	return places
}
