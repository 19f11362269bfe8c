package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
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
	// Ready, if not nil, is called once when the store answers.
	Ready func()
}

const (
	// quota is the size at which the store refuses to grow, in bytes.
	quota = 8 << 30
	// starting bounds how long the store takes to start.
	starting = time.Minute
)

// Serve runs one etcd in this process until ctx ends. It has no TCP port: the
// client URL is the socket, and a single member needs no peer URL that listens.
// Call it in a process whose umask is 077: etcd makes the socket with the
// umask's mode, and only then can it be narrowed to 0600.
func Serve(ctx context.Context, log *slog.Logger, c ServerConfig) error {
	bridge := &zapBridge{handler: log.Handler(), quiet: ctx}
	cfg, err := c.etcd(bridge)
	if err != nil {
		return err
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start store in %s: %w", c.DataDir, err)
	}
	defer server.Close()
	timer := time.NewTimer(starting)
	defer timer.Stop()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return fmt.Errorf("start store in %s: %w", c.DataDir, err)
	case <-timer.C:
		return fmt.Errorf("start store in %s: not ready after %s", c.DataDir, starting)
	case <-ctx.Done():
		return nil
	}
	if err := os.Chmod(c.Socket, 0o600); err != nil {
		return fmt.Errorf("start store: %w", err)
	}
	log.Info("store answers", "socket", c.Socket, "data", c.DataDir)
	if c.Ready != nil {
		c.Ready()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("store: %w", err)
	}
}

func (c ServerConfig) etcd(bridge *zapBridge) (*embed.Config, error) {
	for _, dir := range []string{c.DataDir, filepath.Dir(c.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("start store: %w", err)
		}
	}
	retention := c.Retention
	if retention == 0 {
		retention = time.Hour
	}
	cfg := embed.NewConfig()
	cfg.Name = "contrail"
	cfg.Dir = c.DataDir
	client := url.URL{Scheme: "unix", Path: c.Socket}
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{client}
	// The only member has nobody to listen to. The name is never dialled.
	peer := url.URL{Scheme: "unix", Host: "contrail-store"}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.EnableGRPCGateway = false
	cfg.QuotaBackendBytes = quota
	cfg.MaxTxnOps = serverOps
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = retention.String()
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(bridge))
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("start store: %w", err)
	}
	return cfg, nil
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
