package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/test/bench/internal/process"
)

// controllers are one, or several that keep a store together, on the loopback of
// this machine.
type controllers struct {
	dir  string
	list []*controller
}

type controller struct {
	*process.Process
	dir string
	// address is where control serves agents.
	address string
}

func (c *controller) configSocket() string { return filepath.Join(c.dir, "run", "config.sock") }

// authority is the directory of the authority that signed for them.
func (s *controllers) authority() string { return filepath.Join(s.dir, "ca") }

// startControllers starts them, one after the other. What it returns is to be
// stopped also with an error.
func startControllers(ctx context.Context, binary, dir string, count int) (*controllers, error) {
	s := &controllers{dir: dir}
	authority, err := ctls.OpenAuthority(s.authority())
	if err != nil {
		return s, err
	}
	credentials := filepath.Join(dir, "tls")
	if err := authority.Issue(credentials, ctls.RoleController, ""); err != nil {
		return s, err
	}
	var join []string
	for n := range count {
		addresses, err := process.FreeAddresses(3)
		if err != nil {
			return s, err
		}
		c := &controller{dir: filepath.Join(dir, fmt.Sprint(n)), address: addresses[0]}
		if err := os.Mkdir(c.dir, 0o700); err != nil {
			return s, err
		}
		args := []string{
			"controller", "--data", filepath.Join(c.dir, "data"), "--run", filepath.Join(c.dir, "run"), "--tls-dir", credentials,
			"--listen-tls", c.address, "--rest", "1s", "--tombstone", "1s",
		}
		if count > 1 {
			args = append(args, "--name", fmt.Sprint(n), "--peer-listen", addresses[1], "--client-listen", addresses[2])
			if len(join) > 0 {
				args = append(args, "--join", strings.Join(join, ","))
			}
			join = append(join, addresses[2])
		}
		if c.Process, err = process.Start(binary, c.log(), nil, args...); err != nil {
			return s, err
		}
		s.list = append(s.list, c)
		if err := c.ready(ctx); err != nil {
			return s, err
		}
	}
	return s, nil
}

// ready waits until the configuration API answers.
func (c *controller) ready(ctx context.Context) error {
	client, base, err := serve.Client("unix:"+c.configSocket(), nil, false)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return process.Eventually(ctx, func() error {
		answer, err := client.Get(base + "/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %s", answer.Status)
		}
		return nil
	})
}

func (c *controller) log() string { return filepath.Join(c.dir, "log") }

func (s *controllers) stop() error {
	var errs []error
	for _, c := range s.list {
		errs = append(errs, c.Stop())
	}
	return errors.Join(errs...)
}

func (s *controllers) addresses() string {
	var list []string
	for _, c := range s.list {
		list = append(list, c.address)
	}
	return strings.Join(list, ",")
}

// lastWords are the ends of their logs.
func (s *controllers) lastWords() string {
	const most = 2000
	var all strings.Builder
	for _, c := range s.list {
		data, err := os.ReadFile(c.log())
		if err != nil {
			data = []byte(err.Error())
		}
		fmt.Fprintf(&all, "%s:\n%s\n", c.dir, data[max(0, len(data)-most):])
	}
	return all.String()
}

// killing is a command that kills a controller with its parts, none of which
// gets to do anything more.
func (c *controller) killing() (string, error) {
	parts, err := c.Children()
	if err != nil {
		return "", err
	}
	command := fmt.Sprintf("kill -9 %d", c.Cmd.Process.Pid)
	for _, id := range parts {
		command += fmt.Sprintf(" %d", id)
	}
	return command, nil
}

// watchPeak follows the anonymous memory of the control processes, and returns a
// function that ends it with the most that one of them had, in bytes.
func (s *controllers) watchPeak(ctx context.Context) func() int64 {
	ctx, cancel := context.WithCancel(ctx)
	most := make(chan int64, 1)
	go func() {
		var peak int64
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			for _, c := range s.list {
				if children, err := c.Children(); err == nil {
					if n, err := process.Anonymous(children["control"]); err == nil {
						peak = max(peak, n)
					}
				}
			}
			select {
			case <-ctx.Done():
				most <- peak
				return
			case <-ticker.C:
			}
		}
	}()
	return func() int64 {
		cancel()
		return <-most
	}
}
