package isolator

//lint:file-ignore ST1005 texts that reach users are those of Mesos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// call of a plugin about one network of one container.
type call struct {
	id, network, ifname string
	plugin              string
	input               []byte
}

func (c *CNI) add(ctx context.Context, call call) (Result, error) {
	stdout, stderr, err := c.run(ctx, "ADD", call)
	if err != nil {
		return Result{}, fmt.Errorf("The CNI plugin '%s' failed to attach container %s to CNI network '%s': %w",
			call.plugin, call.id, call.network, said(err, stdout, stderr))
	}
	result, err := parseResult(stdout)
	if err != nil {
		return Result{}, fmt.Errorf("Failed to parse the output of the CNI plugin '%s': %w", call.plugin, err)
	}
	info := filepath.Join(c.config.Root, call.id, call.network, call.ifname, infoFile)
	if err := renameio.WriteFile(info, stdout, 0o644); err != nil {
		return Result{}, fmt.Errorf("checkpoint result of network %s: %w", call.network, err)
	}
	result.Network, result.Interface = call.network, call.ifname
	return result, nil
}

func (c *CNI) del(ctx context.Context, call call) error {
	n, _, err := parseNetwork(call.input)
	if err == nil {
		call.plugin, err = c.findPlugin(n.plugin)
	}
	if err != nil {
		return fmt.Errorf("leave CNI network '%s' of container %s: %w", call.network, call.id, err)
	}
	stdout, stderr, err := c.run(ctx, "DEL", call)
	if err != nil {
		return fmt.Errorf("The CNI plugin '%s' failed to detach container %s from CNI network '%s': %w",
			call.plugin, call.id, call.network, said(err, stdout, stderr))
	}
	return nil
}

// said is the plugin's own words, verbatim, where it could speak.
func said(err error, stdout, stderr []byte) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return fmt.Errorf("stdout='%s', stderr='%s'", stdout, stderr)
	}
	return fmt.Errorf("%w: stdout='%s', stderr='%s'", err, stdout, stderr)
}

// run executes the plugin with nothing but the six variables, and the
// checkpointed file as its standard input.
func (c *CNI) run(ctx context.Context, command string, call call) (stdout, stderr []byte, err error) {
	dir := filepath.Join(c.config.Root, call.id)
	input, err := os.Open(filepath.Join(dir, call.network, confFile))
	if err != nil {
		return nil, nil, fmt.Errorf("read network configuration: %w", err)
	}
	defer input.Close()
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, call.plugin)
	cmd.Env = []string{
		"CNI_COMMAND=" + command,
		"CNI_CONTAINERID=" + call.id,
		"CNI_IFNAME=" + call.ifname,
		"CNI_PATH=" + c.config.PluginsDir,
		"PATH=" + c.config.Path,
	}
	if ns := filepath.Join(dir, nsFile); isNamespace(ns) {
		cmd.Env = append(cmd.Env, "CNI_NETNS="+ns)
	}
	cmd.Stdin = input
	var out, errs bounded
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A plugin's child may hold the pipes open for longer than the plugin lives.
	cmd.WaitDelay = time.Second
	began := time.Now()
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it was killed after %s without an answer", time.Since(began).Round(time.Second))
	}
	c.log.Debug("CNI plugin ran", "command", command, "plugin", call.plugin, "container", call.id,
		"network", call.network, "duration", time.Since(began), "error", err, "stderr", strings.TrimSpace(errs.buffer.String()))
	return out.buffer.Bytes(), errs.buffer.Bytes(), err
}

// bounded keeps the first part of what is written to it.
type bounded struct{ buffer bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxConfig - b.buffer.Len(); room > 0 {
		b.buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
