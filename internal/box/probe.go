package box

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// probe tells whether a component answers: it does once it accepts connections.
type probe struct {
	// unix is the path of a socket.
	unix string
	// tcp is an address in the component's network namespace.
	tcp string
}

const (
	probeTimeout  = time.Second
	probeInterval = 50 * time.Millisecond
)

func (p probe) check(ctx context.Context, namespace string) error {
	network, address := "unix", p.unix
	if p.tcp != "" {
		network, address = "tcp", p.tcp
	} else {
		namespace = "" // paths are the same everywhere
	}
	return inNamespace(namespace, func() error {
		dialer := net.Dialer{Timeout: probeTimeout}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// wait blocks until the component answers or ctx ends.
func (p probe) wait(ctx context.Context, namespace string) error {
	return eventually(ctx, func() error { return p.check(ctx, namespace) })
}

// eventually calls f until it succeeds or ctx ends, and returns f's last error.
func eventually(ctx context.Context, f func() error) error {
	pace := backoff.NewExponentialBackOff()
	pace.InitialInterval, pace.MaxInterval = probeInterval, 500*time.Millisecond
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if err := f(); err != nil {
			last = err
			return struct{}{}, err
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(pace), backoff.WithMaxElapsedTime(0))
	if err != nil && last != nil {
		err = last
	}
	var final *backoff.PermanentError
	if errors.As(err, &final) {
		err = final.Unwrap()
	}
	return err
}
