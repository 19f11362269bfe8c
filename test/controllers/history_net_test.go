//go:build net

package controllers_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// outcome is what a client was told.
type outcome int

const (
	unknown outcome = iota // nothing: it may have happened, or may yet
	done
	refused
	present // of a read: there, with the reference
	bare    // of a read: there, without the reference
)

func (o outcome) String() string {
	return [...]string{"unknown", "done", "refused", "present", "bare"}[o]
}

// never is the return of operations that may happen at any time.
const never = math.MaxInt64

// history is what clients did, by what is independent of each other.
type history struct {
	mu    sync.Mutex
	start time.Time
	parts map[string][]porcupine.Operation
}

func newHistory() *history {
	return &history{start: time.Now(), parts: map[string][]porcupine.Operation{}}
}

func (h *history) now() int64 { return time.Since(h.start).Nanoseconds() }

func (h *history) add(part string, op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[part] = append(h.parts[part], op)
}

// pair is the state of a network and a policy that it may refer to.
type pair struct{ network, policy, reference bool }

// pairAct is what a client does with them.
type pairAct string

const (
	createNetwork pairAct = "create network"
	deleteNetwork pairAct = "delete network"
	createPolicy  pairAct = "create policy"
	deletePolicy  pairAct = "delete policy"
	addReference  pairAct = "add reference"
	dropReference pairAct = "drop reference"
	readNetwork   pairAct = "read network"
)

// apply tells whether the act can be done, and what is then. A refusal must be
// for a reason, so an act that can be done is never refused.
func (p pair) apply(act pairAct) (bool, pair) {
	next := p
	possible := false
	switch act {
	case createNetwork:
		possible, next.network = !p.network, true
	case deleteNetwork:
		possible, next.network, next.reference = p.network, false, false
	case createPolicy:
		possible, next.policy = !p.policy, true
	case deletePolicy:
		possible, next.policy = p.policy && !p.reference, false
	case addReference:
		possible, next.reference = p.network && p.policy, true
	case dropReference:
		possible, next.reference = p.network, false
	}
	if !possible {
		next = p
	}
	return possible, next
}

func pairModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{pair{}} },
		Step: func(state, input, output any) []any {
			p, act, got := state.(pair), input.(pairAct), output.(outcome)
			if act == readNetwork {
				want := refused
				switch {
				case p.network && p.reference:
					want = present
				case p.network:
					want = bare
				}
				if got == want {
					return []any{p}
				}
				return nil
			}
			possible, next := p.apply(act)
			switch {
			case got == unknown && possible:
				return []any{p, next}
			case got == unknown, got == refused && !possible:
				return []any{p}
			case got == done && possible:
				return []any{next}
			}
			return nil
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprint(input, ": ", output) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	return model.ToModel()
}

// addressAct takes (want is the address asked for, 0 any) or frees.
type addressAct struct {
	free bool
	want int
}

// addressResult is the last byte of the address; 0 when it was refused.
type addressResult struct{ address int }

// addressModel is the set of addresses that are taken, as bits.
func addressModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, output any) (bool, any) {
			taken, act, got := state.(uint64), input.(addressAct), output.(addressResult).address
			bit := uint64(1) << got
			switch {
			case act.free:
				return taken&bit != 0, taken &^ bit
			case got != 0:
				return taken&bit == 0 && (act.want == 0 || act.want == got), taken | bit
			default: // only what is taken is refused
				return act.want != 0 && taken&(1<<act.want) != 0, taken
			}
		},
		DescribeOperation: func(input, output any) string {
			act, got := input.(addressAct), output.(addressResult).address
			switch {
			case act.free:
				return fmt.Sprint("free ", got)
			case got == 0:
				return fmt.Sprintf("take %d: refused", act.want)
			}
			return fmt.Sprintf("take %d: %d", act.want, got)
		},
		DescribeState: func(state any) string { return fmt.Sprintf("%b", state) },
	}
}

// check looks for an order in which all that clients were told is true.
func (h *history) check(t *testing.T) {
	t.Helper()
	operations, unknowns := 0, 0
	for part, ops := range h.parts {
		model := pairModel()
		if part[0] == 'a' {
			model = addressModel()
		}
		operations += len(ops)
		for _, op := range ops {
			if op.Return == never {
				unknowns++
			}
		}
		result, info := porcupine.CheckOperationsVerbose(model, ops, time.Minute)
		if result == porcupine.Ok {
			continue
		}
		file := filepath.Join(os.TempDir(), "contrail-"+part+".html")
		err := porcupine.VisualizePath(model, info, file)
		t.Errorf("history of %s (%d operations): %s; see %s (%v)", part, len(ops), result, file, err)
	}
	t.Logf("%d operations in %d independent histories, %d of them with unknown end", operations, len(h.parts), unknowns)
}
