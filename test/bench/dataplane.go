package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/contrail-mesos/contrail/test/cluster"
)

const (
	// slice is how long one measurement takes.
	slice    = 1500 * time.Millisecond
	loadPort = "7777"
	perfPort = "7778"
)

// workload measures one number between a pair.
type workload struct {
	name, unit string
	run        func(context.Context, *bench, pair) (float64, error)
}

var workloads = []workload{
	{"udp64", "packets/s", udpPackets},
	{"rr", "transactions/s", transactions("rr")},
	{"crr", "transactions/s", transactions("crr")},
	{"tcp1", "bit/s", tcpStreams(1)},
	{"tcp2", "bit/s", tcpStreams(2)},
}

// dataplane measures containers on two nodes and on one, in turns with the
// peers. Client and server have a CPU each, as far as there are two.
func dataplane(ctx context.Context, b *bench) error {
	for _, where := range []string{"cross", "same"} {
		if err := dataplaneAt(ctx, b, where); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

func dataplaneAt(ctx context.Context, b *bench, where string) (err error) {
	var u undo
	defer func() { err = errors.Join(err, u.run()) }()
	same := where == "same"
	bridge := map[bool]string{true: "bridge", false: "bridge+vxlan"}[same]
	pairs := make(map[string]pair)
	if pairs["contrail"], err = b.ours(ctx, &u, same); err != nil {
		return err
	}
	if pairs[bridge], err = b.bridge(ctx, &u, same); err != nil {
		return err
	}
	if pairs["veth"], err = b.veth(ctx, &u); err != nil {
		return err
	}
	for _, p := range pairs {
		stop, err := b.servers(ctx, p)
		if err != nil {
			return err
		}
		defer stop()
	}
	for _, w := range workloads {
		values := make(map[string]samples)
		for range b.rounds {
			for _, name := range []string{"contrail", bridge, "veth"} {
				value, err := w.run(ctx, b, pairs[name])
				if err != nil {
					return fmt.Errorf("%s of %s: %w", w.name, name, err)
				}
				values[name] = append(values[name], []float64{value})
			}
		}
		b.report.add(w.name+"/"+where+"/mplsoudp", w.unit, "higher", false, values["contrail"], []string{bridge, "veth"}, values)
	}
	return nil
}

// inside runs a command in a namespace on one CPU.
func inside(ns, cpu string, command ...string) []string {
	return append([]string{"nsenter", "--net=" + ns, "taskset", "--cpu-list", cpu}, command...)
}

// CPUs of clients and servers.
const (
	clientCPU = "0"
	serverCPU = "1"
)

// servers starts what the workloads ask; stop ends it.
func (b *bench) servers(ctx context.Context, p pair) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running []*exec.Cmd
	stop = func() {
		cancel()
		for _, cmd := range running {
			_ = cmd.Wait() // ended by us
		}
	}
	for _, command := range [][]string{
		{b.loads, loadCommand, "serve", loadPort},
		{"iperf3", "--server", "--forceflush", "--port", perfPort},
	} {
		line := inside(p.server, serverCPU, command...)
		cmd := exec.CommandContext(ctx, line[0], line[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			stop()
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, err
		}
		running = append(running, cmd)
		lines := bufio.NewReader(out)
		if _, err := lines.ReadString('\n'); err != nil { // both write when they listen
			stop()
			return nil, fmt.Errorf("start %s: %w", command[0], err)
		}
		go func() { _, _ = lines.WriteTo(io.Discard) }() // until it ends
	}
	return stop, nil
}

func transactions(kind string) func(context.Context, *bench, pair) (float64, error) {
	return func(ctx context.Context, b *bench, p pair) (float64, error) {
		out, err := cluster.Run(ctx, inside(p.client, clientCPU, b.loads, loadCommand, kind, p.address, loadPort, slice.String())...)
		if err != nil {
			return 0, err
		}
		var r loadResult
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return 0, err
		}
		return float64(r.Count) / r.Seconds, nil
	}
}

// perf runs an iperf3 client; the answer is the receiver's view.
func perf(ctx context.Context, p pair, args ...string) (sum perfSum, err error) {
	command := []string{"iperf3", "--client", p.address, "--port", perfPort, "--json", "--time", "2"}
	out, err := cluster.Run(ctx, inside(p.client, clientCPU, append(command, args...)...)...)
	if err != nil {
		return sum, err
	}
	var answer struct {
		End struct {
			Sum      perfSum `json:"sum"`
			Received perfSum `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return sum, err
	}
	if answer.End.Received.Seconds > 0 && answer.End.Sum.Packets == 0 {
		return answer.End.Received, nil
	}
	return answer.End.Sum, nil
}

type perfSum struct {
	Seconds       float64 `json:"seconds"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Packets       float64 `json:"packets"`
	LostPackets   float64 `json:"lost_packets"`
}

func udpPackets(ctx context.Context, _ *bench, p pair) (float64, error) {
	sum, err := perf(ctx, p, "--udp", "--bitrate", "0", "--length", "64")
	if err != nil {
		return 0, err
	}
	return (sum.Packets - sum.LostPackets) / sum.Seconds, nil
}

func tcpStreams(n int) func(context.Context, *bench, pair) (float64, error) {
	return func(ctx context.Context, _ *bench, p pair) (float64, error) {
		sum, err := perf(ctx, p, "--parallel", fmt.Sprint(n))
		return sum.BitsPerSecond, err
	}
}
