package compile

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// text is what units of these tests make of the graph: a plain description of
// what they looked at.
type text struct{ Text string }

// The units of these tests ask a graph for everything that it can be asked for.
var (
	testLow = &unit[text]{name: "test-low", layer: 0, compute: func(g *graph, name string) *text {
		o, ok := g.ByName(model.KindNetworkPolicy, strings.Split(name, ":"))
		if !ok {
			return nil
		}
		return &text{o.GetMeta().DisplayName}
	}}
	testOffer = &unit[text]{
		name: "test-offer", layer: 0, of: model.KindLogicalRouter,
		compute: func(g *graph, owner string) *text {
			o, ok := g.Object(model.KindLogicalRouter, owner)
			if !ok || o.GetMeta().DisplayName == "" {
				return nil
			}
			return &text{o.GetMeta().DisplayName}
		},
		offers: func(t *text) []string { return strings.Split(t.Text, "") },
	}
	testMiddle = &unit[text]{name: "test-middle", layer: 1, compute: func(g *graph, owner string) *text {
		var b strings.Builder
		for _, r := range g.References(owner, model.KindNetworkPolicy) {
			e, _ := g.EntityByName(model.KindNetworkPolicy, fmt.Sprintf("p:%s", string(r.Attr)))
			fmt.Fprint(&b, r.To.UUID, string(r.Attr), e.UUID, " ")
		}
		return &text{b.String()}
	}}
	testHigh = &unit[text]{name: "test-high", layer: 2, of: model.KindVirtualNetwork, compute: func(g *graph, owner string) *text {
		o, ok := g.Object(model.KindVirtualNetwork, owner)
		if !ok {
			return nil
		}
		var b strings.Builder
		display := o.GetMeta().DisplayName
		fmt.Fprintln(&b, display)
		for t := range testOffer.offered(g, display) {
			fmt.Fprintln(&b, "offered", t.Text)
		}
		switch display {
		case "a":
			fmt.Fprintln(&b, *testMiddle.get(g, owner))
			if low := testLow.get(g, "p:0"); low != nil {
				fmt.Fprintln(&b, "low", low.Text)
			}
		case "b":
			for _, c := range g.Children(owner, model.KindFloatingIPPool) {
				fmt.Fprintln(&b, "child", c.GetMeta().UUID, c.GetMeta().DisplayName)
			}
		case "c":
			for _, r := range g.BackReferences(owner, "") {
				fmt.Fprintln(&b, "referred", r)
			}
		case "d":
			n := 0
			for range g.All(model.KindNetworkPolicy) {
				n++
			}
			fmt.Fprintln(&b, "policies", n)
		}
		return &text{b.String()}
	}}
	testRoots = []anyUnit{testOffer, testHigh}
)

func testObject(t *rapid.T) model.Object {
	n := rapid.IntRange(0, 3).Draw(t, "number")
	meta := func(kind model.Kind, name ...string) model.Meta {
		return model.Meta{
			UUID: model.DerivedUUID(string(kind), fmt.Sprint(n)), FQName: append(name, fmt.Sprint(n)),
			DisplayName: rapid.SampledFrom([]string{"", "a", "b", "c", "d", "ab"}).Draw(t, "display"),
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return &model.VirtualNetwork{Meta: meta(model.KindVirtualNetwork, "p")}
	case 1:
		p := &model.NetworkPolicy{Meta: meta(model.KindNetworkPolicy, "p")}
		if rapid.Bool().Draw(t, "another name") {
			p.FQName = []string{"p", fmt.Sprint((n + 1) % 4)}
		}
		return p
	case 2:
		return &model.LogicalRouter{Meta: meta(model.KindLogicalRouter, "p")}
	default:
		p := &model.FloatingIPPool{Meta: meta(model.KindFloatingIPPool, "p", "n")}
		p.ParentType = string(model.KindVirtualNetwork)
		p.ParentUUID = model.DerivedUUID(p.ParentType, fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "parent")))
		return p
	}
}

func testReference(t *rapid.T) model.Reference {
	id := func(kind model.Kind) model.Entity {
		return model.Entity{Kind: kind, UUID: model.DerivedUUID(string(kind), fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "end")))}
	}
	from := rapid.SampledFrom([]model.Kind{model.KindVirtualNetwork, model.KindLogicalRouter}).Draw(t, "from")
	to := rapid.SampledFrom([]model.Kind{model.KindVirtualNetwork, model.KindNetworkPolicy}).Draw(t, "to")
	return model.Reference{From: id(from), To: id(to), Attr: []byte(fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "attr")))}
}

// mutate makes a few changes of a graph.
func mutate(t *rapid.T, g *model.Graph, object func(*rapid.T) model.Object, reference func(*rapid.T) model.Reference) {
	b := model.Batch{Position: model.Position{Epoch: 1, Revision: g.Position().Revision + 1}}
	named := map[string]bool{}
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		switch rapid.IntRange(0, 4).Draw(t, "change") {
		case 0, 1:
			o := object(t)
			name := string(o.Kind()) + model.FQString(o.GetMeta().FQName)
			taken := false
			g.View(func(v *model.View) {
				other, ok := v.ByName(o.Kind(), o.GetMeta().FQName)
				taken = ok && other.GetMeta().UUID != o.GetMeta().UUID
			})
			if !named[name] && !taken {
				b.Objects = append(b.Objects, o)
			}
			named[name] = true
		case 2:
			b.DeleteObjects = append(b.DeleteObjects, model.EntityOf(object(t)))
		case 3:
			b.References = append(b.References, reference(t))
		default:
			b.DeleteReferences = append(b.DeleteReferences, reference(t).Edge())
		}
	}
	g.Apply(b)
}

// state is what a Compiler holds, in a form to compare.
func state(c *Compiler) map[string]any {
	all := map[string]any{}
	for k, x := range c.cells {
		about := fmt.Sprintf("%T %v %s", k.unit, k.unit.key("").kind, k.owner)
		all[about] = x.result
		all[about+" asked"] = append([]read{}, x.reads...) // none is none, whether there was one before
		users := 0
		x.users.each(func(*cell) { users++ })
		all[about+" users"] = users
	}
	for r, at := range c.index {
		n := 0
		at.each(func(*cell) { n++ })
		all[fmt.Sprint("asked ", r)] = n
	}
	for q, o := range c.offers {
		n := 0
		o.cells.each(func(*cell) { n++ })
		all[fmt.Sprint("offered ", q)] = n
	}
	return all
}

// checkScratch compares a Compiler with a new one and with the plain functions.
func checkScratch(t *rapid.T, v *model.View, c *Compiler) {
	fresh := newCompiler(c.roots)
	fresh.Apply(v, model.Changes{Everything: true, Position: v.Position()})
	if diff := cmp.Diff(state(fresh), state(c), cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Fatalf("incremental (+) is not as from scratch (-):\n%s", diff)
	}
	g := graphOf(v)
	for k, x := range fresh.cells {
		if got := g.from.result(g, k.unit, k.owner); !k.unit.equal(got, x.result) {
			t.Fatalf("%v of %s is %+v without a compiler, %+v with one", k.unit.key("").kind, k.owner, got, x.result)
		}
	}
}

// TestIncremental: whatever is changed in whatever order, and however many
// changes are taken at once, a Compiler holds what a new one would.
func TestIncremental(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkIncremental(t, testRoots, testObject, testReference) })
}

func checkIncremental(t *rapid.T, roots []anyUnit, object func(*rapid.T) model.Object, reference func(*rapid.T) model.Reference) {
	g := model.NewGraph()
	s := g.Subscribe()
	defer s.Close()
	c := newCompiler(roots)
	instances := map[string]*Instance{}
	for range rapid.IntRange(1, 12).Draw(t, "rounds") {
		mutate(t, g, object, reference)
		if rapid.IntRange(0, 3).Draw(t, "more") == 0 {
			continue
		}
		changes, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
			changes = model.Changes{Everything: true, Position: changes.Position}
		}
		g.View(func(v *model.View) {
			followInstances(t, instances, c.Apply(v, changes))
			checkScratch(t, v, c)
			for _, id := range networkIDs(v) {
				if instances[id] != c.Instance(id) {
					t.Fatalf("reports say that the instance of %s is %v, it is %v", id, instances[id], c.Instance(id))
				}
			}
		})
	}
}

// followInstances does what the reports say.
func followInstances(t *rapid.T, instances map[string]*Instance, r *Report) {
	for id, change := range r.Instances {
		if instances[id] != change.Before {
			t.Fatalf("the instance of %s was %v, the report says %v", id, instances[id], change.Before)
		}
		instances[id] = change.After
		if change.After == nil {
			delete(instances, id)
		}
	}
}

// TestOnlyWhatIsTouched: what a change does not concern is not computed again,
// and what comes out the same concerns nobody.
func TestOnlyWhatIsTouched(t *testing.T) {
	computed := map[string]int{}
	count := func(name string) { computed[name]++ }
	low := &unit[text]{name: "low", layer: 0, compute: func(g *graph, owner string) *text {
		count("low")
		o, ok := g.Object(model.KindNetworkPolicy, owner)
		if !ok {
			return nil
		}
		return &text{o.GetMeta().DisplayName}
	}}
	high := &unit[text]{name: "high", layer: 1, of: model.KindVirtualNetwork, compute: func(g *graph, owner string) *text {
		count("high")
		var b strings.Builder
		for _, r := range g.References(owner, model.KindNetworkPolicy) {
			if t := low.get(g, r.To.UUID); t != nil {
				b.WriteString(t.Text)
			}
		}
		return &text{b.String()}
	}}
	policy := &model.NetworkPolicy{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"p"}, DisplayName: "x"}}
	blue, red := network("blue", 1), network("red", 2)
	g := configuration(policy, blue, red)
	s := g.Subscribe()
	defer s.Close()
	c := newCompiler([]anyUnit{high})
	step := func(what string, b model.Batch, want map[string]int) {
		t.Helper()
		b.Position = model.Position{Epoch: 1, Revision: g.Position().Revision + 1}
		g.Apply(b)
		changes, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clear(computed)
		g.View(func(v *model.View) { c.Apply(v, changes) })
		if !maps.Equal(computed, want) {
			t.Errorf("%s: computed %v, want %v", what, computed, want)
		}
	}
	put := func(list ...model.Object) model.Batch { return model.Batch{Objects: list} }
	step("everything", model.Batch{}, map[string]int{"high": 2})
	step("a reference", model.Batch{References: []model.Reference{{From: model.EntityOf(blue), To: model.EntityOf(policy)}}}, map[string]int{"high": 1, "low": 1})
	step("a network that nobody reads", put(red), map[string]int{})
	same := *policy
	same.Annotations = &model.KeyValuePairs{}
	step("the same result", put(&same), map[string]int{"low": 1})
	other := *policy
	other.DisplayName = "y"
	step("another result", put(&other), map[string]int{"low": 1, "high": 1})
	step("the end of the reference", model.Batch{DeleteReferences: []model.Edge{{From: model.EntityOf(blue), To: model.EntityOf(policy)}}}, map[string]int{"high": 1})
	step("what nobody needs any more", put(policy), map[string]int{})
	if got := len(c.cells); got != 2 {
		t.Errorf("%d cells, want those of two networks", got)
	}
}

func TestIncrementalInstances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkIncremental(t, roots, drawObject, drawReference) })
}

func TestLayers(t *testing.T) {
	var all []anyUnit
	all = append(slices.Concat(all, roots, Policy), systemUnit, policyUnit, groupUnit, groupPairUnit, applicationUnit, firewallUnit, tagUnit, portNetworkUnit, identities, vpns, services, subnets, linkPolicies, routeTables, routeAggregates, routingPolicies)
	for _, u := range all {
		if layer, _ := u.about(); layer < 0 || layer >= layers {
			t.Errorf("%s is in layer %d of %d", u.key("").kind, layer, layers)
		}
	}
}
