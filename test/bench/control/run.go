// Package control measures the control node: what it takes to tell a crowd of
// agents what they need, from cold, for one change, and while much changes.
//
// The agents are those of `contrail bench agents`, in a process of their own; the
// controller is `contrail controller` with its store and configuration API, as in
// a cluster. What is attached and changed goes the whole way.
package control

import (
	"context"
	"errors"
	"os"

	"github.com/contrail-mesos/contrail/test/bench/control/reflect"
	"github.com/contrail-mesos/contrail/test/bench/internal/process"
	"github.com/contrail-mesos/contrail/test/bench/internal/report"
)

type bench struct {
	dir, binary string
	results     []report.Result
}

// Run measures the control node. Each crowd is played once whatever rounds is:
// it measures hundreds of changes by itself. Rounds count for the reflection of
// routes between BGP peers. FULL=1 adds the crowd that loses a controller.
func Run(ctx context.Context, rounds int) (*report.Area, error) {
	reflected, err := reflect.Run(ctx, rounds)
	if err != nil {
		return nil, err
	}
	crowds := usualAgents()
	if os.Getenv("FULL") == "1" {
		crowds = append(crowds, manyAgents()...)
	}
	area, err := run(ctx, crowds)
	if area == nil {
		return nil, err
	}
	area.Results = append(area.Results, reflected...)
	recompiled, failed := measureRecompile(1000, 10_000, 100, 50)
	if failed == nil {
		area.Results = append(area.Results, recompiled)
	}
	return area, errors.Join(err, failed)
}

// run plays crowds until one fails. With an error it returns what was measured.
func run(ctx context.Context, crowds []agentsCase) (area *report.Area, err error) {
	b := &bench{}
	if b.dir, err = os.MkdirTemp("", "contrail-bench-control-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	area = &report.Area{Area: "control", Machine: report.ThisMachine()}
	if b.binary, err = process.Build(ctx, b.dir); err != nil {
		return nil, err
	}
	for _, c := range crowds {
		err := b.measureAgents(ctx, c)
		area.Results = b.results
		if err != nil {
			return area, err
		}
	}
	return area, nil
}
