package store

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ServerConfig is the embedded store's.
type ServerConfig struct {
	// DataDir is the directory of the data; it is made with mode 0700.
	DataDir string
	// Socket is the path of the unix socket to answer on.
	Socket string
	// Retention is how long old revisions are kept, an hour if zero. Followers
	// that were away for longer load everything anew.
	Retention time.Duration
	// Quota is the size in bytes at which the store refuses to grow, DefaultQuota
	// if zero.
	Quota int64
	// Reserve is the free space of the disk below which it refuses to grow,
	// DefaultReserve if zero: etcd does not survive a full disk.
	Reserve int64
	// Members are the controllers' of several; without, the store is alone and
	// has no TCP port.
	Members *MemberConfig
	// Ready, if not nil, is called once when the store answers.
	Ready func()
}

const (
	// DefaultQuota is the size at which the store refuses to grow.
	DefaultQuota = 8 << 30
	// DefaultReserve is the space on disk that the store leaves free.
	DefaultReserve = 256 << 20
	// snapshotCount is how many requests the store reads again when it starts,
	// beside its data, and catchUpEntries how many it keeps in memory for members
	// that are behind. etcd's defaults of 10,000 and 5,000 are meant for single
	// writes; each of ours may be as many as go together, 256 KiB of them. One
	// that is alone keeps none, or as few as etcd can be told.
	snapshotCount  = 500
	catchUpEntries = 1000
	catchUpAlone   = 1
	// starting bounds how long a store that is alone takes to start.
	starting = time.Minute
	// loneName is the name of a store that is alone.
	loneName = "contrail"
)

// Serve runs one member of etcd in this process until ctx ends. It answers on
// the socket and, as one of several, the others' clients and peers with mutual
// TLS. Call it in a process whose umask is 077: etcd makes the socket with the
// umask's mode, and only then can it be narrowed to 0600.
func Serve(ctx context.Context, log *slog.Logger, c ServerConfig) error {
	bridge := &zapBridge{handler: log.Handler(), quiet: ctx}
	cfg, err := c.etcd(ctx, log, bridge)
	if err != nil {
		return fmt.Errorf("start store in %s: %w", c.DataDir, err)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start store in %s: %w", c.DataDir, err)
	}
	defer server.Close()
	if err := c.started(ctx, log, server); err != nil || ctx.Err() != nil {
		return err
	}
	if err := os.Chmod(c.Socket, 0o600); err != nil {
		return fmt.Errorf("start store: %w", err)
	}
	log.Info("store answers", "socket", c.Socket, "data", c.DataDir)
	if c.Ready != nil {
		c.Ready()
	}
	var helpers sync.WaitGroup
	defer helpers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := newKeeper(log, c, server.Server)
	helpers.Go(func() { k.run(ctx) })
	if c.Members != nil {
		helpers.Go(func() { c.Members.settleIn(ctx, log, c.Socket, server.Server) })
	}
	select {
	case <-ctx.Done():
		// Others go on sooner when they need not notice by silence.
		if err := server.Server.TryTransferLeadershipOnShutdown(); err != nil {
			log.Info("no other controller takes the lead", "error", err)
		}
		return nil
	case err := <-server.Err():
		return fmt.Errorf("store: %w", err)
	}
}

// started waits until the member takes part. One of several waits for the
// others for as long as it takes.
func (c ServerConfig) started(ctx context.Context, log *slog.Logger, server *embed.Etcd) error {
	timer := time.NewTimer(starting)
	defer timer.Stop()
	for {
		select {
		case <-server.Server.ReadyNotify():
			return nil
		case err := <-server.Err():
			return fmt.Errorf("start store in %s: %w", c.DataDir, err)
		case <-timer.C:
			if c.Members == nil {
				return fmt.Errorf("start store in %s: not ready after %s", c.DataDir, starting)
			}
			log.Warn("the store waits for other controllers: more than half of them must run; see contrail controller list")
			timer.Reset(starting)
		case <-ctx.Done():
			return nil
		}
	}
}

func (c ServerConfig) etcd(ctx context.Context, log *slog.Logger, bridge *zapBridge) (*embed.Config, error) {
	for _, dir := range []string{c.DataDir, filepath.Dir(c.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	cfg := embed.NewConfig()
	cfg.Dir = c.DataDir
	client := url.URL{Scheme: "unix", Path: c.Socket}
	cfg.ListenClientUrls = []url.URL{client}
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = snapshotCount, catchUpEntries
	if c.Members == nil {
		cfg.SnapshotCatchUpEntries = catchUpAlone
		cfg.Name = loneName
		cfg.AdvertiseClientUrls = []url.URL{client}
		// The only member has nobody to listen to. The name is never dialled.
		peer := url.URL{Scheme: "unix", Host: "contrail-store"}
		cfg.ListenPeerUrls = nil
		cfg.AdvertisePeerUrls = []url.URL{peer}
		cfg.InitialCluster = cfg.Name + "=" + peer.String()
	} else if err := c.Members.configure(ctx, log, cfg); err != nil {
		return nil, err
	}
	cfg.EnableGRPCGateway = false
	cfg.QuotaBackendBytes = c.quota()
	cfg.MaxTxnOps = serverOps
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = cmp.Or(c.Retention, time.Hour).String()
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge))
	return cfg, cfg.Validate()
}

// zapBridge writes etcd's log records to slog, one level lower: what etcd
// finds informative is detail to an operator of this system.
type zapBridge struct {
	handler slog.Handler
	fields  []zapcore.Field
	// quiet has ended when the server is being stopped: its listeners then
	// complain about being closed.
	quiet context.Context
}

func (b *zapBridge) level(l zapcore.Level) slog.Level {
	switch {
	case b.quiet.Err() != nil:
		return slog.LevelDebug
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

func (b *zapBridge) Enabled(l zapcore.Level) bool {
	return b.handler.Enabled(context.Background(), b.level(l))
}

func (b *zapBridge) With(fields []zapcore.Field) zapcore.Core {
	return &zapBridge{b.handler, append(b.fields[:len(b.fields):len(b.fields)], fields...), b.quiet}
}

func (b *zapBridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return checked.AddCore(e, b)
	}
	return checked
}

func (b *zapBridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range append(b.fields[:len(b.fields):len(b.fields)], fields...) {
		f.AddTo(encoder)
	}
	record := slog.NewRecord(e.Time, b.level(e.Level), "etcd: "+e.Message, 0)
	for k, v := range encoder.Fields {
		record.AddAttrs(slog.Any(k, v))
	}
	return b.handler.Handle(context.Background(), record)
}

func (b *zapBridge) Sync() error { return nil }
