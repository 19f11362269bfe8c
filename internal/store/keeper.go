package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"golang.org/x/sys/unix"
)

// keeper looks after the space of one member: it stops writes before the disk
// is full, forgets history early when the store grows, and gives freed pages
// back to the disk, one member at a time.
type keeper struct {
	log    *slog.Logger
	cfg    ServerConfig
	server *etcdserver.EtcdServer
	// past are revisions of the last minutes, oldest first.
	past         []pastRevision
	defragmented time.Time
}

type pastRevision struct {
	at       time.Time
	revision int64
}

const (
	keepEvery = 5 * time.Second
	// keptHistory is how long history is kept when space runs short: readers
	// that were away for longer load everything anew.
	keptHistory = 2 * time.Minute
	// defragPause is the least time between two defragmentations of a member,
	// which answers nobody meanwhile.
	defragPause = 10 * time.Minute
	// defragGain is the least that a defragmentation must give back.
	defragGain = 64 << 20
	defragKey  = "/contrail-keeper/defragment"
)

func newKeeper(log *slog.Logger, cfg ServerConfig, server *etcdserver.EtcdServer) *keeper {
	return &keeper{log: log, cfg: cfg, server: server, defragmented: time.Now()}
}

// run keeps until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for {
		for _, step := range []func(context.Context) error{k.watchDisk, k.forget, k.defragment} {
			if err := step(ctx); err != nil && ctx.Err() == nil {
				k.log.Warn("cannot look after the store's space; trying again", "error", err)
			}
		}
		if wait(ctx, keepEvery) != nil {
			return
		}
	}
}

// watchDisk raises the alarm NOSPACE of this member while the disk is nearly
// full, and ends it when neither disk nor quota are.
func (k *keeper) watchDisk(ctx context.Context) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(k.cfg.DataDir, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", k.cfg.DataDir, err)
	}
	free, reserve := int64(fs.Bavail)*fs.Bsize, k.cfg.reserve()
	alarmed := k.alarmed()
	switch {
	case free < reserve && !alarmed:
		k.log.Error("the store's disk is nearly full: writes are refused, reads go on; free some space",
			"directory", k.cfg.DataDir, "free", free, "reserve", reserve)
		return k.alarm(ctx, etcdserverpb.AlarmRequest_ACTIVATE)
	case alarmed && free > reserve+reserve/4 && k.size() < k.cfg.quota()/100*fullAt:
		k.log.Info("the store has space again; writes go on", "free", free, "size", k.size())
		return k.alarm(ctx, etcdserverpb.AlarmRequest_DEACTIVATE)
	}
	return nil
}

func (k *keeper) alarmed() bool {
	for _, a := range k.server.Alarms() {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE && a.MemberID == uint64(k.server.MemberID()) {
			return true
		}
	}
	return false
}

func (k *keeper) alarm(ctx context.Context, action etcdserverpb.AlarmRequest_AlarmAction) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := k.server.Alarm(ctx, &etcdserverpb.AlarmRequest{
		Action: action, MemberID: uint64(k.server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		return fmt.Errorf("set the alarm NOSPACE: %w", err)
	}
	return nil
}

func (k *keeper) size() int64 { return k.server.Backend().Size() }

// forget compacts history early while it fills the store.
func (k *keeper) forget(ctx context.Context) error {
	now := time.Now()
	k.past = append(k.past, pastRevision{now, k.server.KV().Rev()})
	revision := int64(0)
	for len(k.past) > 0 && now.Sub(k.past[0].at) > keptHistory {
		revision = k.past[0].revision
		k.past = k.past[1:]
	}
	used := k.server.Backend().SizeInUse()
	if revision == 0 || used < k.cfg.quota()/100*slowAt || k.server.Leader() != k.server.MemberID() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := k.server.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: revision})
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compact to revision %d: %w", revision, err)
	}
	return nil
}

// defragment gives pages back to the disk when that is worth the pause.
func (k *keeper) defragment(ctx context.Context) error {
	size, free := k.size(), k.size()-k.server.Backend().SizeInUse()
	worth := free > defragGain && (free > size/2 || size > k.cfg.quota()/100*slowAt && free > size/10)
	if !worth || time.Since(k.defragmented) < defragPause {
		return nil
	}
	if k.cfg.Members == nil {
		return k.defragmentNow()
	}
	client, err := k.cfg.Members.client(k.log, []string{"unix://" + k.cfg.Socket})
	if err != nil {
		return err
	}
	defer client.Close()
	return k.inTurn(ctx, client)
}

// inTurn defragments unless another member does.
func (k *keeper) inTurn(ctx context.Context, client *clientv3.Client) error {
	session, err := concurrency.NewSession(client, concurrency.WithContext(ctx), concurrency.WithTTL(60))
	if err != nil {
		return fmt.Errorf("take turns at defragmentation: %w", err)
	}
	defer session.Close()
	turn := concurrency.NewMutex(session, defragKey)
	if err := turn.TryLock(ctx); errors.Is(err, concurrency.ErrLocked) {
		return nil
	} else if err != nil {
		return fmt.Errorf("take turns at defragmentation: %w", err)
	}
	if k.server.Leader() == k.server.MemberID() {
		if err := k.server.TryTransferLeadershipOnShutdown(); err != nil {
			return fmt.Errorf("hand over the lead: %w", err)
		}
	}
	return k.defragmentNow()
}

func (k *keeper) defragmentNow() error {
	k.defragmented = time.Now()
	before := k.size()
	if err := k.server.Defragment(); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	k.log.Info("the store was defragmented", "before", before, "after", k.size(), "took", time.Since(k.defragmented).Round(time.Millisecond))
	return nil
}
