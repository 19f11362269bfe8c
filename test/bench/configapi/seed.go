package configapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// seedTogether is how many interfaces one transaction writes: with an address
// each, two are about what an attachment writes. Many objects go together, so
// that a million does not take an hour.
func seedTogether(interfaces int) int { return 1 + interfaces/50_000 }

// seedClients write side by side.
const seedClients = 48

// seeder writes objects straight into a store, faster than requests would.
type seeder struct {
	store   *store.Store
	project *model.Project
	network *model.VirtualNetwork
	// pad makes objects as long as they shall be, 0 for as they come.
	pad int
}

// seed writes a project with a network, interfaces, and as many instance-ips
// as are asked for, and returns the project's UUID.
func seed(ctx context.Context, socket, name string, interfaces, addresses, pad int) (id string, err error) {
	s, err := store.Open(ctx, slog.New(slog.DiscardHandler), store.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		return "", err
	}
	defer s.Close()
	d := &seeder{store: s, pad: pad}
	if err := d.makeProject(ctx, name); err != nil {
		return "", err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(seedClients)
	together := seedTogether(interfaces)
	for from := 0; from < interfaces; from += together {
		group.Go(func() error {
			t := s.Txn()
			for i := from; i < min(from+together, interfaces); i++ {
				if err := d.port(t, i, i < addresses); err != nil {
					return err
				}
			}
			return insist(ctx, t)
		})
	}
	return d.project.UUID, group.Wait()
}

const (
	// seedPatience bounds how long one transaction is tried, and seedTry one try: a
	// store that grows by gigabytes on a busy machine is slow now and then.
	seedPatience = 5 * time.Minute
	seedTry      = 30 * time.Second
	// seedPause is that after the first try, doubled after each up to the longest.
	seedPause        = 100 * time.Millisecond
	longestSeedPause = 5 * time.Second
)

// insist commits a transaction that creates objects, again where the answer is
// lost or the store has no time.
func insist(ctx context.Context, t *store.Txn) error {
	ctx, cancel := context.WithTimeout(ctx, seedPatience)
	defer cancel()
	for pause := seedPause; ; pause = min(2*pause, longestSeedPause) {
		err := try(ctx, t)
		var conflict *store.Conflict
		switch {
		case errors.As(err, &conflict) && conflict.Guard.Condition == store.Absent && pause > seedPause:
			return nil // it has happened before: its UUIDs are nobody else's
		case errors.As(err, &conflict) && conflict.Guard.Condition == store.Unchanged:
			// the store did not say in time which guard it was
		case !errors.Is(err, store.ErrUnknown) && !errors.Is(err, store.ErrUnavailable):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func try(ctx context.Context, t *store.Txn) error {
	ctx, cancel := context.WithTimeout(ctx, seedTry)
	defer cancel()
	_, err := t.Commit(ctx)
	return err
}

func (d *seeder) meta(kind model.Kind, parent model.Object, fq ...string) (model.Meta, error) {
	m := model.Meta{UUID: model.NewUUID(), FQName: fq, DisplayName: fq[len(fq)-1], Perms2: model.NewPerms2("")}
	if parent != nil {
		m.ParentType, m.ParentUUID = string(parent.Kind()), parent.GetMeta().UUID
	}
	var err error
	m.IDPerms, err = model.NewIDPerms(m.UUID, time.Now())
	return m, err
}

func (d *seeder) makeProject(ctx context.Context, name string) error {
	meta, err := d.meta(model.KindProject, nil, "default-domain", name)
	if err != nil {
		return err
	}
	d.project = &model.Project{Meta: meta}
	if meta, err = d.meta(model.KindVirtualNetwork, d.project, "default-domain", name, "net"); err != nil {
		return err
	}
	d.network = &model.VirtualNetwork{Meta: meta}
	t := d.store.Txn()
	t.CreateObject(d.project)
	t.CreateObject(d.network)
	_, err = t.Commit(ctx)
	return err
}

// port writes an interface of the network, with an address if it shall have one.
func (d *seeder) port(t *store.Txn, i int, address bool) error {
	name := fmt.Sprintf("%s-port-%d", d.project.Name(), i)
	meta, err := d.meta(model.KindVirtualMachineInterface, d.project, "default-domain", d.project.Name(), name)
	if err != nil {
		return err
	}
	mac, err := model.MACOf(meta.UUID)
	if err != nil {
		return err
	}
	vmi := &model.VirtualMachineInterface{Meta: meta, VirtualMachineInterfaceMACAddresses: &model.MacAddressesType{MACAddress: []string{mac.String()}}}
	t.PutReference(model.Reference{From: model.EntityOf(vmi), To: model.EntityOf(d.network)})
	if err := d.create(t, vmi); err != nil || !address {
		return err
	}
	if meta, err = d.meta(model.KindInstanceIP, nil, name); err != nil {
		return err
	}
	ip := &model.InstanceIP{Meta: meta, InstanceIPAddress: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String(), InstanceIPFamily: "v4"}
	t.PutReference(model.Reference{From: model.EntityOf(ip), To: model.EntityOf(d.network)})
	t.PutReference(model.Reference{From: model.EntityOf(ip), To: model.EntityOf(vmi)})
	t.Create(store.AddressKey(model.FQString(d.network.FQName), netip.MustParseAddr(ip.InstanceIPAddress)), []byte(ip.UUID))
	return d.create(t, ip)
}

// create writes an object, made longer by an annotation.
func (d *seeder) create(t *store.Txn, o model.Object) error {
	data, err := model.Encode(o)
	if err != nil {
		return err
	}
	const around = len(`,"annotations":{"key_value_pair":[{"key":"pad","value":""}]}`)
	if missing := d.pad - len(data) - around; missing > 0 {
		text := strings.Repeat(o.GetMeta().UUID+" ", missing/37+1)
		o.GetMeta().Annotations = &model.KeyValuePairs{KeyValuePair: []model.KeyValuePair{{Key: "pad", Value: text[:missing]}}}
	}
	t.CreateObject(o)
	return nil
}
