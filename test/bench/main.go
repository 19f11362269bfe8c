// Command bench measures Contrail for Mesos beside what people would use
// instead, prints a table per area and writes bench/out/AREA.json.
//
//	dataplane   containers of a running cluster  vs  Linux bridge and VXLAN, a bare veth pair
//	cni         ADD and DEL of our plugin        vs  the reference plugins bridge and host-local
//	mesos       an application posted to Marathon until its containers answer ping
//
// Runs of ours and of the peers alternate, so that whatever else the machine
// does hits all alike; a ratio is the median of the rounds' ratios. Everything
// runs in network namespaces that the run makes and removes. Run it as root,
// with `make bench`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/lifecycle"
	"github.com/contrail-mesos/contrail/test/cluster"
)

// area is one group of benchmarks; it adds to the report.
type area struct {
	name string
	run  func(context.Context, *bench) error
}

var areas = []area{{"dataplane", dataplane}, {"cni", cniCalls}, {"mesos", launches}}

// bench is what the areas share.
type bench struct {
	*cluster.Cluster
	rounds int
	report *report
	// loads is this program: it is also the load generator.
	loads string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		if err := load(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "load: "+err.Error())
			os.Exit(1)
		}
		return
	}
	ctx, stop := lifecycle.WithSignals(context.Background())
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	only := flag.String("area", "", "run only this area")
	out := flag.String("out", "bench/out", "directory of the results")
	rounds := flag.Int("rounds", 5, "how often each case is measured")
	flag.Parse()
	chosen := slices.DeleteFunc(slices.Clone(areas), func(a area) bool { return *only != "" && a.name != *only })
	if len(chosen) == 0 {
		var names []string
		for _, a := range areas {
			names = append(names, a.name)
		}
		return fmt.Errorf("-area %s: there are %s", *only, strings.Join(names, ", "))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c, err := cluster.New(ctx, "bench", ".")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Remove()) }()
	fmt.Printf("starting cluster %s\n", c.Name)
	if err := c.Up(ctx, "--no-example", "--rest", "1s", "--tombstone", "1s"); err != nil {
		return err
	}
	for _, a := range chosen {
		b := &bench{Cluster: c, rounds: *rounds, report: newReport(a.name), loads: self}
		if err := a.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		b.report.print(os.Stdout)
		if err := b.report.write(*out); err != nil {
			return err
		}
	}
	return nil
}
