package rib

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
)

// port is a path to a container as the control node makes them.
func port(i, revision int) Spec {
	return Spec{
		Source: Source{Kind: Attachment, Name: fmt.Sprint(i)}, Label: uint32(16 + i), Sequence: uint64(revision),
		Attributes: Attributes{
			NextHop: netip.AddrFrom4([4]byte{172, 31, byte(i >> 8), byte(i)}), Encapsulations: MPLSoUDP,
			OriginNetwork: 1, LocalPreference: 100, SecurityGroups: []uint32{8000001},
		},
	}
}

func host(i int) Key {
	return HostKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
}

// BenchmarkUpdate changes one route that N other VRFs import, until all have
// chosen anew.
func BenchmarkUpdate(b *testing.B) {
	for _, importers := range []int{0, 1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("importers=%d", importers), func(b *testing.B) {
			r := New(encodeText)
			r.SetVRF(VRF{Number: 1, Export: []Target{1}})
			for n := range importers {
				r.SetVRF(VRF{Number: uint32(n + 2), Import: []Target{1}})
			}
			for i := range 50 {
				r.Put(1, host(i), port(i, 1))
			}
			r.Flush()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Put(1, host(7), port(7, i+2))
				r.Flush()
			}
		})
	}
}

// BenchmarkColdLoad loads 50,000 routes, in one VRF and in 1,000.
func BenchmarkColdLoad(b *testing.B) {
	for _, vrfs := range []int{1, 1000} {
		b.Run(fmt.Sprintf("vrfs=%d", vrfs), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				load(vrfs, 50_000)
			}
		})
	}
}

func load(vrfs, routes int) *RIB {
	r := New(encodeText)
	for n := range vrfs {
		targets := []Target{Target(n + 1)}
		r.SetVRF(VRF{Number: uint32(n + 1), Import: targets, Export: targets})
	}
	for i := range routes {
		r.Put(uint32(i%vrfs+1), host(i), port(i, 1))
	}
	r.Flush()
	return r
}

// BenchmarkMillion holds 1,000,000 routes of another router, one set of
// attributes per 100 of them, and tells the memory that each takes: where no
// VRF imports them, and where one does.
func BenchmarkMillion(b *testing.B) {
	for name, external := range map[string][]Target{"unwanted": nil, "imported": {7}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				const routes = 1_000_000
				before := heap()
				r := New(encodeText)
				r.SetVRF(VRF{Number: 1, External: external})
				for i := range routes {
					r.SetExternal("", 1, host(i), []Spec{{
						Source: Source{Kind: BGP, Name: "gateway"}, Label: uint32(16 + i), Flags: Multipath,
						Attributes: Attributes{NextHop: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Targets: []Target{7}, MED: uint32(i / 100), ASPath: []uint32{64500}},
					}})
				}
				r.Flush()
				b.ReportMetric(float64(heap()-before)/routes, "B/route")
				runtime.KeepAlive(r)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
