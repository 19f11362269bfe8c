package dataplane

import (
	"testing"

	"pgregory.net/rapid"
)

// TestCounterRanges: ranges that are taken do not overlap and stay inside, what was
// given back is taken again, and there is no room only where there is none.
func TestCounterRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := ruleCounters{size: 64}
		taken := map[counterRange]bool{}
		used := map[uint32]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(taken) > 0 && rapid.Bool().Draw(t, "give") {
				for r := range taken {
					c.give(r)
					delete(taken, r)
					for i := r.first; i < r.end(); i++ {
						delete(used, i)
					}
					break
				}
				continue
			}
			count := rapid.Uint32Range(1, 20).Draw(t, "count")
			r := c.take(count)
			if r.count == 0 {
				free := uint32(0)
				for i := uint32(1); i < 64; i++ {
					if free++; used[i] {
						free = 0
					}
					if free == count {
						t.Fatalf("no room for %d beside %v", count, c.taken)
					}
				}
				continue
			}
			if r.first == 0 || r.count != count || r.end() > 64 {
				t.Fatalf("range is %+v", r)
			}
			for i := r.first; i < r.end(); i++ {
				if used[i] {
					t.Fatalf("%d is taken twice: %v", i, c.taken)
				}
				used[i] = true
			}
			taken[r] = true
		}
		again := ruleCounters{size: 64}
		heads := map[uint32]setHead{1000: {counters: counterRange{60, 9}}, 1001: {}}
		for r := range taken {
			heads[r.first] = setHead{counters: r}
		}
		again.adopt(heads)
		if len(again.taken) != len(taken) || heads[1000].counters != (counterRange{}) {
			t.Fatalf("adopted %v of %v", again.taken, taken)
		}
	})
}
