package compile

import (
	"cmp"
	"iter"
	"reflect"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// A unit is a piece of compiling: a pure function from an object's UUID, its
// owner, over a graph, whose result other units may ask for. Results are never
// changed once they are made.
//
// Units stand in layers, and ask only for results of lower ones, so that no
// unit can wait for itself, whatever circles users configure.
type unit[T any] struct {
	name  string
	layer int
	// of is the kind whose objects each have one, so that all results are at
	// hand. Units without are computed when others ask for them.
	of model.Kind
	// compute returns nil where there is no result, as when there is no owner.
	compute func(g *graph, owner string) *T
	// same compares two results; without, all of them is compared.
	same func(a, b *T) bool
	// offers are the keys under which a result can be found by units that do
	// not know its owner. Only units with of can have them.
	offers func(*T) []string
}

// layers is how many there are.
const layers = 7

// anyUnit is a unit whatever its results are.
type anyUnit interface {
	about() (layer int, of model.Kind)
	run(g *graph, owner string) any
	equal(a, b any) bool
	keys(result any) []string
	key(of string) question
}

func (u *unit[T]) about() (int, model.Kind) { return u.layer, u.of }

func (u *unit[T]) run(g *graph, owner string) any {
	if r := u.compute(g, owner); r != nil {
		return r
	}
	return nil
}

func (u *unit[T]) equal(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	if u.same != nil {
		return u.same(a.(*T), b.(*T))
	}
	return reflect.DeepEqual(a, b)
}

// keys are those that a result is offered under, sorted.
func (u *unit[T]) keys(result any) []string {
	if u.offers == nil || result == nil {
		return nil
	}
	return sorted(slices.Clone(u.offers(result.(*T))))
}

// key is the question for what is offered under a key.
func (u *unit[T]) key(of string) question { return question{readOffers, u.name, of} }

// get is the unit's result for an owner, nil where there is none.
func (u *unit[T]) get(g *graph, owner string) *T {
	r, _ := g.from.result(g, u, owner).(*T)
	return r
}

// getAll are the results for what references lead to, where there are any.
func (u *unit[T]) getAll(g *graph, refs []model.Reference) []*T {
	var list []*T
	for _, r := range refs {
		if result := u.get(g, r.To.UUID); result != nil {
			list = append(list, result)
		}
	}
	return list
}

// offered yields the results that are offered under a key, by owner.
func (u *unit[T]) offered(g *graph, key string) iter.Seq[*T] {
	found := g.from.offered(g, u, key)
	return func(yield func(*T) bool) {
		for _, r := range found {
			if !yield(r.(*T)) {
				return
			}
		}
	}
}

// once computes units for who looks at one view: each unit once, and nothing
// is remembered beyond it.
type once struct {
	done map[cellKey]any
	// all are the results that a unit offers, by key.
	all map[anyUnit]map[string][]any
}

// graphOf is a graph for who looks at one view.
func graphOf(v *model.View) *graph {
	return &graph{view: v, from: &once{done: map[cellKey]any{}, all: map[anyUnit]map[string][]any{}}}
}

func (o *once) result(g *graph, u anyUnit, owner string) any {
	k := cellKey{u, owner}
	if r, ok := o.done[k]; ok {
		return r
	}
	r := u.run(g, owner)
	o.done[k] = r
	return r
}

func (o *once) offered(g *graph, u anyUnit, key string) []any {
	offers, ok := o.all[u]
	if !ok {
		offers = map[string][]any{}
		_, kind := u.about()
		owners := slices.SortedFunc(g.view.All(kind), func(a, b model.Object) int {
			return cmp.Compare(a.GetMeta().UUID, b.GetMeta().UUID)
		})
		for _, owner := range owners {
			r := o.result(g, u, owner.GetMeta().UUID)
			for _, k := range u.keys(r) {
				offers[k] = append(offers[k], r)
			}
		}
		o.all[u] = offers
	}
	return offers[key]
}
