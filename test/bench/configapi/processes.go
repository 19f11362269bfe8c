package configapi

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/contrail-mesos/contrail/test/bench/internal/process"
)

// controller is `contrail controller` with a directory of its own.
type controller struct {
	*process.Process
	dir    string
	client *http.Client
}

func startController(binary, dir string, args ...string) (*controller, error) {
	c := &controller{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	c.Process, err = process.Start(binary, filepath.Join(dir, "log"), nil, append([]string{
		"controller", "--data", filepath.Join(dir, "data"), "--run", filepath.Join(dir, "run"), "--rest", "1s", "--tombstone", "1s",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "run", "config.sock")
	var dialer net.Dialer
	c.client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true,
		ReadBufferSize:      256 << 10,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
	return c, nil
}

// ready waits until the API answers requests for objects.
func (c *controller) ready(ctx context.Context) error {
	return process.Eventually(ctx, func() error {
		_, err := c.call(ctx, "GET", "/domains?count=true", "")
		return err
	})
}

func (c *controller) stop() error {
	if c == nil {
		return nil
	}
	c.client.CloseIdleConnections()
	return c.Process.Stop()
}

// storeSocket is where the controller's own etcd answers.
func (c *controller) storeSocket() string { return filepath.Join(c.dir, "run", "store.sock") }

// bare is an etcd alone, as it is without any setting of ours for its memory.
type bare struct {
	*process.Process
	socket string
}

func startBare(binary, dir, data string) (*bare, error) {
	b := &bare{socket: filepath.Join(dir, "s")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	b.Process, err = process.Start(binary, filepath.Join(dir, "log"), []string{"GOGC=100"},
		"controller", "store", "--data", data, "--socket", b.socket)
	return b, err
}

// dial connects to an etcd and waits until it answers.
func dial(ctx context.Context, socket string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop(), MaxCallSendMsgSize: 16 << 20, MaxCallRecvMsgSize: math.MaxInt32,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}, MinConnectTimeout: time.Second,
		})},
	})
	if err != nil {
		return nil, err
	}
	err = process.Eventually(ctx, func() error {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := client.Get(short, "epoch", clientv3.WithCountOnly())
		return err
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}
