package configapi

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/test/bench/internal/process"
)

// trio is three controllers that keep a store together, on the loopback of this
// machine, with bare clients of each store.
type trio struct {
	controllers []*controller
	stores      []*clientv3.Client
}

// measureThree measures the writes of 16 clients spread over three
// controllers, next to bare clients of the same three stores.
func (b *bench) measureThree(ctx context.Context) (err error) {
	t, err := startTrio(ctx, b.binary, filepath.Join(b.dir, "three"))
	defer func() { err = errors.Join(err, t.stop()) }()
	if err != nil {
		return fmt.Errorf("start three controllers: %w", err)
	}
	first := t.controllers[0]
	where, err := first.makePlace(ctx, placeName)
	if err != nil {
		return err
	}
	node, err := first.join(ctx)
	if err != nil {
		return err
	}
	var classic, attach []operation
	for _, c := range t.controllers {
		classic = append(classic, c.createInterface(placeName, where))
		attach = append(attach, c.attach(node, placeName, "net"))
	}
	for _, w := range []struct {
		name   string
		target float64
		do     operation
	}{{"create-interface/16/three", 0.3, spread(classic)}, {"attach/16/three", 0.5, spread(attach)}} {
		written, err := record(ctx, t.stores[0], func() error { return w.do(ctx, b.counter.Add(1)) })
		if err != nil {
			return fmt.Errorf("record %s: %w", w.name, err)
		}
		var bare []operation
		for _, client := range t.stores {
			bare = append(bare, replay(client, written))
		}
		if err := b.measureRate(ctx, rate{name: w.name, clients: 16, target: w.target, targetP99: 5, variants: []variant{
			{ours, w.do}, {peer, spread(bare)},
		}}); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// spread does each time what comes next in a list.
func spread(list []operation) operation {
	return func(ctx context.Context, n int64) error { return list[n%int64(len(list))](ctx, n) }
}

// startTrio starts three controllers, one after the other. What it returns is
// to be stopped also with an error.
func startTrio(ctx context.Context, binary, dir string) (*trio, error) {
	t := &trio{}
	authority, err := ctls.OpenAuthority(filepath.Join(dir, "ca"))
	if err != nil {
		return t, err
	}
	credentials := filepath.Join(dir, "tls")
	if err := authority.Issue(credentials, ctls.RoleController, ""); err != nil {
		return t, err
	}
	var join []string
	for _, name := range []string{"a", "b", "c"} {
		addresses, err := process.FreeAddresses(2)
		if err != nil {
			return t, err
		}
		args := []string{"--name", name, "--tls-dir", credentials, "--peer-listen", addresses[0], "--client-listen", addresses[1]}
		for _, other := range join {
			args = append(args, "--join", other)
		}
		join = append(join, addresses[1])
		c, err := startController(binary, filepath.Join(dir, name), args...)
		if err != nil {
			return t, err
		}
		t.controllers = append(t.controllers, c)
		if err := c.ready(ctx); err != nil {
			return t, err
		}
		client, err := dial(ctx, c.storeSocket())
		if err != nil {
			return t, err
		}
		t.stores = append(t.stores, client)
	}
	return t, nil
}

func (t *trio) stop() error {
	var errs []error
	for _, client := range t.stores {
		errs = append(errs, client.Close())
	}
	for _, c := range t.controllers {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}
