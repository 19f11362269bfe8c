package configapi

import (
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/store"
)

// checks is how many cases rapid tries, which is for the whole process.
func checks(t *testing.T, n int) {
	t.Helper()
	before := flag.Lookup("rapid.checks").Value.String()
	if err := flag.Set("rapid.checks", fmt.Sprint(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set("rapid.checks", before) })
}

// The first index that is not set is the one that a walk would find, in both
// directions, with any unit, across pages that are full, absent or neither.
func TestFirstClear(t *testing.T) {
	checks(t, 300)
	const base, top = 1 << 20, 5 * pageSize // above base
	at := func(n int) index { return index{3, ^uint64(0) - base}.plus(uint64(n)) }
	rapid.Check(t, func(t *rapid.T) {
		var s bitset
		set := map[int]bool{}
		for range rapid.IntRange(0, 6).Draw(t, "runs") {
			from := rapid.IntRange(0, top-1).Draw(t, "from")
			for n := range rapid.SampledFrom([]int{1, 64, pageSize, 3 * pageSize}).Draw(t, "length") {
				s.set(at(from + n))
				set[from+n] = true
			}
		}
		for range rapid.IntRange(0, 5).Draw(t, "cleared") {
			n := rapid.IntRange(0, top-1).Draw(t, "n")
			s.clear(at(n))
			delete(set, n)
		}
		low := rapid.IntRange(0, top-1).Draw(t, "low")
		high := rapid.IntRange(low, top-1).Draw(t, "high")
		in := span{at(low), at(high), 1 << rapid.IntRange(0, 12).Draw(t, "unit"), false}
		want := -1
		for n := low; n <= high && want < 0; n++ {
			if !set[n] && at(n).lo%in.unit == 0 {
				want = n
			}
		}
		if rapid.Bool().Draw(t, "down") {
			in = span{at(high), at(low), in.unit, true}
			want = -1
			for n := high; n >= low && want < 0; n-- {
				if !set[n] && at(n).lo%in.unit == 0 {
					want = n
				}
			}
		}
		got, ok := s.firstClear(in)
		if ok != (want >= 0) || ok && got != at(want) {
			t.Fatalf("got %v (%t), want %d", got, ok, want)
		}
		for n := range set {
			if !s.has(at(n)) {
				t.Fatalf("%d is not set", n)
			}
		}
	})
}

// A pool gives out what is free, then what has rested longest, and counts
// right, whatever the store says in which order.
func TestPoolAgainstModel(t *testing.T) {
	checks(t, 200)
	rapid.Check(t, func(t *rapid.T) {
		const size = 40
		p := newPool()
		used, since := map[uint64]bool{}, map[uint64]int64{}
		clock := int64(0)
		spans := []span{{index{lo: 1000}, index{lo: 1000 + size - 1}, 1, rapid.Bool().Draw(t, "down")}}
		if spans[0].down {
			spans[0].first, spans[0].last = spans[0].last, spans[0].first
		}
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				got, early, ok := p.choose(spans...)
				free := size - len(used) - len(since)
				switch {
				case ok != (free+len(since) > 0):
					t.Fatalf("found %t, %d are free and %d rest", ok, free, len(since))
				case !ok:
					return
				case early != (free == 0) || used[got.lo] || since[got.lo] != 0 && !early:
					t.Fatalf("got %v early %t, %d are free", got, early, free)
				}
				for n, s := range since {
					// A group of equal lease has ten revisions.
					if early && s/10 < since[got.lo]/10 {
						t.Fatalf("%d, at rest since %d, was passed over for %d since %d", n, s, got.lo, since[got.lo])
					}
				}
				p.note(got, store.Entry{}, false)
				p.note(got, store.Entry{Deleted: true}, true)
				p.release(got)
				used[got.lo] = true
				delete(since, got.lo)
			},
			"free": func(t *rapid.T) {
				n := 1000 + rapid.Uint64Range(0, size-1).Draw(t, "n")
				if !used[n] {
					t.Skip("not in use")
				}
				clock++
				p.note(index{lo: n}, store.Entry{Deleted: true}, false)
				p.note(index{lo: n}, store.Entry{Lease: store.Lease(clock/10 + 1), Modified: clock}, true)
				delete(used, n)
				since[n] = clock
			},
			"wake": func(t *rapid.T) {
				n := 1000 + rapid.Uint64Range(0, size-1).Draw(t, "n")
				p.note(index{lo: n}, store.Entry{Deleted: true}, true)
				delete(since, n)
			},
			"": func(t *rapid.T) {
				if u, r := p.count(spans...); u != len(used) || r != len(since) {
					t.Fatalf("%d used and %d at rest, want %d and %d", u, r, len(used), len(since))
				}
				_, ok := p.findUsed(index{}, index{lo: 1 << 20}, func(i index) bool { return !used[i.lo] })
				if ok {
					t.Fatal("something is in use that nobody took")
				}
			},
		})
	})
}

// More ages than a pool tells apart: neighbours are joined, nothing is lost,
// and the old still go first.
func TestManyAges(t *testing.T) {
	p := newPool()
	const each, leases = 100, 80
	for n := range uint64(each * leases) {
		p.note(index{lo: n}, store.Entry{Lease: store.Lease(n/each + 1), Modified: int64(n)}, true)
	}
	whole := span{index{}, index{lo: each*leases - 1}, 1, false}
	if _, resting := p.count(whole); resting != each*leases {
		t.Errorf("%d rest, want %d", resting, each*leases)
	}
	var worst uint64
	for n := range uint64(each * leases) {
		got, early, ok := p.choose(whole)
		if !ok || !early {
			t.Fatalf("%d: %v %t", n, ok, early)
		}
		p.note(got, store.Entry{}, false)
		p.release(got)
		if got.lo > n {
			worst = max(worst, got.lo-n)
		}
	}
	if worst > each*leases/4 {
		t.Errorf("one was given out %d places before its turn", worst)
	}
}

// heap is the memory in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

const million = 1 << 20

// TestMillionAddresses: a full subnet of a million addresses, and one that is
// all at rest, cost at most 1 MiB each; the last free address is found as fast
// as the first.
func TestMillionAddresses(t *testing.T) {
	network := netip.MustParsePrefix("10.16.0.0/12")
	s := subnet{prefix: network, unit: 1, scope: "default-domain:p:big", gateway: netip.MustParseAddr("10.31.255.254")}
	for name, rest := range map[string]bool{"in use": false, "at rest": true} {
		before := heap()
		l := newLedger()
		for n := range uint64(million) {
			k := store.AddressKey(s.scope, addressAt(index{lo: indexOf(network.Addr()).lo + n}, false))
			if rest {
				k = store.RestKey(k)
			}
			if err := l.apply([]store.Entry{{Key: k, Value: []byte("owner"), Lease: store.Lease(n % 63), Modified: int64(n)}}); err != nil {
				t.Fatal(err)
			}
		}
		used, resting := l.usage(spaceOf(s.scope, network.Addr()), []span{{indexOf(network.Addr()), indexOf(network.Addr()).plus(million - 1), 1, false}})
		if used+resting != million {
			t.Fatalf("%s: %d used, %d at rest", name, used, resting)
		}
		cost := heap() - before
		t.Logf("a million addresses %s cost %d KiB", name, cost>>10)
		if cost > 1<<20 {
			t.Errorf("a million addresses %s cost %d bytes, want at most 1 MiB", name, cost)
		}
		runtime.KeepAlive(l)
	}
}

// nearlyFull is a pool of a million addresses, all of them used, and the whole
// of it to choose from.
func nearlyFull() (*pool, span) {
	p := newPool()
	for n := range uint64(million) {
		p.note(index{lo: n}, store.Entry{}, false)
	}
	return p, span{index{}, index{lo: million - 1}, 1, false}
}

// However full a pool is, the one address that is free is found.
func TestNearlyFull(t *testing.T) {
	p, whole := nearlyFull()
	for n := range uint64(2000) {
		if freed, got, ok := reuse(p, whole, n); !ok || got != freed {
			t.Fatalf("got %v, want %v", got, freed)
		}
	}
}

func BenchmarkNearlyFull(b *testing.B) {
	p, whole := nearlyFull()
	for n := uint64(0); b.Loop(); n++ {
		reuse(p, whole, n)
	}
}

// reuse frees an address of a pool and has one chosen.
func reuse(p *pool, whole span, n uint64) (freed, got index, ok bool) {
	freed = index{lo: n * 7919 % million}
	p.note(freed, store.Entry{Deleted: true}, false)
	got, _, ok = p.choose(whole)
	p.note(got, store.Entry{}, false)
	p.release(got)
	return freed, got, ok
}

// Controllers that meet in a pool go on in different places, each within what
// was asked for.
func TestCrowdedPoolIsSearchedElsewhere(t *testing.T) {
	for _, of := range []span{
		{index{lo: 16}, index{lo: 1<<20 - 1}, 1, false},
		{index{lo: 1 << 20}, index{lo: 64}, 4, true},
		{index{hi: 5}, index{hi: 6}, 1, false},
	} {
		p := newPool()
		seen := map[index]bool{}
		for range 20 {
			p.crowded = true
			got, ok := p.pick([]span{of}, false)
			if !ok || !of.contains(got) {
				t.Fatalf("%v of %v", got, of)
			}
			seen[got] = true
			next, _ := p.pick([]span{of}, false)
			if want := got.plus(of.unit); !of.down && next != want || of.down && next != got.minus(of.unit) {
				t.Errorf("after %v comes %v", got, next)
			}
		}
		if len(seen) < 15 {
			t.Errorf("only %d places in %v", len(seen), of)
		}
	}
	one := span{index{lo: 7}, index{lo: 7}, 1, false}
	p := newPool()
	p.crowded = true
	if got, ok := p.pick([]span{one}, false); !ok || got != one.first {
		t.Errorf("%v of a single one", got)
	}
}

// Numbers are searched a little further on, so that they stay low.
func TestCrowdedNumbersStayLow(t *testing.T) {
	of := span{index{lo: 1}, index{lo: 1<<24 - 1}, 1, false}
	p := newPool()
	p.near = true
	seen := map[uint64]bool{}
	for range 50 {
		before, _ := p.pick([]span{of}, false)
		p.crowded = true
		got, ok := p.pick([]span{of}, false)
		if !ok || got.lo <= before.lo || got.lo > before.lo+1+nearby {
			t.Fatalf("after %v comes %v", before, got)
		}
		seen[got.lo-before.lo] = true
	}
	if len(seen) < 20 {
		t.Errorf("only %d distances", len(seen))
	}
	of.last = index{lo: 3}
	small := newPool()
	small.near, small.crowded = true, true
	if got, ok := small.pick([]span{of}, false); !ok || !of.contains(got) {
		t.Errorf("%v of %v", got, of)
	}
}
