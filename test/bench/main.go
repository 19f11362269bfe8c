// Command bench measures Contrail for Mesos against its peers and writes the
// results of each area as a table and as JSON:
//
//	go run ./test/bench [-area AREA] [-rounds N] [-out bench/out]
//
// Without an area it measures all of them, one after the other.
// An area is a package below this one with a Run function, listed in areas.
// Rounds are interleaved: each runs every variant of every case, and a ratio is
// the median of the ratios of the rounds, so that what else the machine does
// falls on all alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/contrail-mesos/contrail/test/bench/cni"
	"github.com/contrail-mesos/contrail/test/bench/configapi"
	"github.com/contrail-mesos/contrail/test/bench/control"
	"github.com/contrail-mesos/contrail/test/bench/control/reflect"
	"github.com/contrail-mesos/contrail/test/bench/dataplane"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
	"github.com/contrail-mesos/contrail/test/bench/mesos"
)

// areas returns what can be measured. rounds is 0 for the area's own number.
func areas() map[string]func(ctx context.Context, rounds int) (*report.Area, error) {
	return map[string]func(ctx context.Context, rounds int) (*report.Area, error){
		"cni":       cni.Run,
		"control":   control.Run,
		"configapi": configapi.Run,
		"dataplane": dataplane.Run,
		"mesos":     mesos.Run,
	}
}

func main() {
	if reflect.Main(os.Args[1:]) { // as the process that is measured
		return
	}
	area := flag.String("area", "", "what to measure: "+strings.Join(names(), ", ")+" (empty: all)")
	rounds := flag.Int("rounds", 0, "how often to run every case (0: the area's own number)")
	out := flag.String("out", "bench/out", "directory for AREA.json")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	chosen := names()
	if *area != "" {
		chosen = []string{*area}
	}
	for _, name := range chosen {
		if err := run(ctx, name, *rounds, *out); err != nil {
			fmt.Fprintln(os.Stderr, "bench: "+err.Error())
			os.Exit(1)
		}
	}
}

func run(ctx context.Context, name string, rounds int, out string) error {
	measure, ok := areas()[name]
	if !ok {
		return fmt.Errorf("area %q is not known; choose with -area one of %s", name, strings.Join(names(), ", "))
	}
	result, failed := measure(ctx, rounds)
	if failed != nil {
		failed = fmt.Errorf("measure %s: %w", name, failed)
	}
	if result == nil {
		return failed
	}
	result.Print(os.Stdout) // also what was measured before a failure
	path, err := result.Write(out)
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Println("written to", path)
	return failed
}

func names() []string {
	var all []string
	for name := range areas() {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
