package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Per cent of the quota that are in use.
const (
	// slowAt is where writes begin to be slowed down, more the fuller it gets,
	// and where history is forgotten early.
	slowAt = 80
	// fullAt is where writes that let the store grow are refused; those that
	// delete go on, so that there is a way back.
	fullAt = 95
	// slowest is the pause of a write just below fullAt.
	slowest = 200 * time.Millisecond
)

func (c *ServerConfig) quota() int64 { return cmp.Or(c.Quota, DefaultQuota) }

func (c *ServerConfig) reserve() int64 { return cmp.Or(c.Reserve, DefaultReserve) }

// fill is how much of the quota is in use.
type fill struct{ used, quota int64 }

func (f *fill) percent() int64 {
	if f == nil || f.quota == 0 {
		return 0
	}
	return 100 * f.used / f.quota
}

// pace slows a write down or refuses it while the store is nearly full.
func (s *Store) pace(ctx context.Context, shrinks bool) error {
	f := s.fill.Load()
	switch percent := f.percent(); {
	case percent < slowAt:
		return nil
	case percent >= fullAt && !shrinks:
		return fmt.Errorf("%w: %d%% of its quota of %d MiB are in use", ErrFull, percent, f.quota>>20)
	default:
		return wait(ctx, slowest*time.Duration(min(percent, fullAt)-slowAt)/(fullAt-slowAt))
	}
}

// Member is one of the store's.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	State   string `json:"state"` // leader, follower, learner, joining or unreachable
	Peer    string `json:"peer"`
	Clients string `json:"clients"`
	Version string `json:"version,omitempty"`
	// Size of the database, what of it is in use, and its quota; in bytes. The
	// quota is 0 where the store does not tell.
	Size  int64 `json:"size,omitempty"`
	InUse int64 `json:"in_use,omitempty"`
	Quota int64 `json:"quota,omitempty"`
	// Alarms that the member has raised: NOSPACE or CORRUPT.
	Alarms []string `json:"alarms,omitempty"`
	// Error of a member that does not answer.
	Error string `json:"error,omitempty"`

	id uint64
}

// Status is the state of the whole store.
type Status struct {
	Epoch    uint64   `json:"epoch"`
	Revision int64    `json:"revision"`
	Members  []Member `json:"members"`
}

// Status asks all members how they are.
func (s *Store) Status(ctx context.Context) (*Status, error) {
	at, err := s.head(ctx)
	if err != nil {
		return nil, err
	}
	members, err := s.Members(ctx)
	return &Status{at.epoch, at.revision, members}, err
}

// Members lists the members, in the order of their names.
func (s *Store) Members(ctx context.Context) ([]Member, error) {
	listCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := s.client.MemberList(listCtx)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	alarms, err := s.client.AlarmList(listCtx)
	if err != nil {
		return nil, fmt.Errorf("list alarms: %w", err)
	}
	members := make([]Member, 0, len(list.Members))
	for _, m := range list.Members {
		member := s.examine(ctx, m)
		for _, a := range alarms.Alarms {
			if a.MemberID == m.ID {
				member.Alarms = append(member.Alarms, a.Alarm.String())
			}
		}
		members = append(members, member)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return members, nil
}

func (s *Store) examine(ctx context.Context, m *etcdserverpb.Member) Member {
	out := Member{ID: fmt.Sprintf("%x", m.ID), Name: m.Name, Peer: first(m.PeerURLs), Clients: first(m.ClientURLs), id: m.ID}
	if m.Name == "" {
		out.State = "joining"
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	got, err := s.client.Status(ctx, out.Clients)
	if err != nil {
		out.State, out.Error = "unreachable", err.Error()
		return out
	}
	switch {
	case m.IsLearner:
		out.State = "learner"
	case got.Leader == m.ID:
		out.State = "leader"
	default:
		out.State = "follower"
	}
	out.Version, out.Size, out.InUse, out.Quota = got.Version, got.DbSize, got.DbSizeInUse, got.DbSizeQuota
	return out
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// RemoveMember takes a member out for good; its data are of no use any more.
func (s *Store) RemoveMember(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := s.client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	for _, m := range list.Members {
		if m.Name != name && fmt.Sprintf("%x", m.ID) != name {
			continue
		}
		if _, err := s.client.MemberRemove(ctx, m.ID); err != nil {
			return fmt.Errorf("remove member %s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("no member is called %q; contrail controller list shows them", name)
}

// Compact forgets all history, gives the space back to the disks, one member
// after the other, and ends the alarms of those that have space again. say is
// told each step.
func (s *Store) Compact(ctx context.Context, say func(step string)) error {
	at, err := s.head(ctx)
	if err != nil {
		return err
	}
	if _, err := s.client.Compact(ctx, at.revision, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact: %w", err)
	}
	say(fmt.Sprintf("compacted to revision %d", at.revision))
	members, err := s.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if err := s.compactMember(ctx, m, say); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) compactMember(ctx context.Context, m Member, say func(step string)) error {
	if m.Error != "" {
		say(fmt.Sprintf("member %s: left out: %s", m.Name, m.Error))
		return nil
	}
	if _, err := s.client.Defragment(ctx, m.Clients); err != nil {
		return fmt.Errorf("defragment member %s: %w", m.Name, err)
	}
	now, err := s.client.Status(ctx, m.Clients)
	if err != nil {
		return fmt.Errorf("read the size of %s: %w", m.Name, err)
	}
	say(fmt.Sprintf("member %s: defragmented, %d KiB before, %d KiB now", m.Name, m.Size>>10, now.DbSize>>10))
	if !slices.Contains(m.Alarms, etcdserverpb.AlarmType_NOSPACE.String()) {
		return nil
	}
	if m.Quota > 0 && now.DbSize >= m.Quota/100*fullAt {
		return fmt.Errorf("%s is still full: %d of %d MiB; delete objects, or start it with a larger --store-quota", m.Name, now.DbSize>>20, m.Quota>>20)
	}
	if _, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: m.id, Alarm: etcdserverpb.AlarmType_NOSPACE}); err != nil {
		return fmt.Errorf("end the alarm of %s: %w", m.Name, err)
	}
	say(m.Name + ": alarm NOSPACE ended")
	return nil
}
