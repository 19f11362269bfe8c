package master

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawQuantities makes amounts and, beside them, the plain truth: thousandths
// and the set of ports.
func drawQuantities(t *rapid.T, label string) (quantities, int64, map[uint64]bool) {
	milli := rapid.Int64Range(0, 5000).Draw(t, label+" cpus")
	ports := map[uint64]bool{}
	var spans []span
	for _, begin := range rapid.SliceOfN(rapid.Uint64Range(0, 60), 0, 6).Draw(t, label+" ports") {
		s := span{begin, begin + rapid.Uint64Range(0, 5).Draw(t, label+" length")}
		spans = append(spans, s)
		for port := s.begin; port <= s.end; port++ {
			ports[port] = true
		}
	}
	return quantities(nil).plus(quantities{{name: "cpus", milli: milli}, {name: "ports", spans: normal(spans)}}), milli, ports
}

func TestArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, aMilli, aPorts := drawQuantities(t, "a")
		b, bMilli, bPorts := drawQuantities(t, "b")
		check := func(what string, got quantities, milli int64, has func(uint64) bool) {
			if got.of("cpus").milli != milli {
				t.Fatalf("%s: cpus %d, want %d", what, got.of("cpus").milli, milli)
			}
			spans := got.of("ports").spans
			for port := uint64(0); port < 70; port++ {
				in := false
				for _, s := range spans {
					in = in || port >= s.begin && port <= s.end
				}
				if in != has(port) {
					t.Fatalf("%s: port %d is %t in %v", what, port, in, spans)
				}
			}
			for i := 1; i < len(spans); i++ {
				if spans[i].begin <= spans[i-1].end+1 {
					t.Fatalf("%s: %v is not normal", what, spans)
				}
			}
		}
		check("sum", a.plus(b), aMilli+bMilli, func(p uint64) bool { return aPorts[p] || bPorts[p] })
		check("difference", a.minus(b), max(0, aMilli-bMilli), func(p uint64) bool { return aPorts[p] && !bPorts[p] })
		fits := bMilli <= aMilli
		for p := range bPorts {
			fits = fits && aPorts[p]
		}
		if got := a.contains(b); got != fits {
			t.Fatalf("%v contains %v: %t", a, b, got)
		}
		again, err := quantitiesOf(a.resources("*", true))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, again, cmp.AllowUnexported(quantity{}, span{})); diff != "" {
			t.Fatal(diff)
		}
	})
}
