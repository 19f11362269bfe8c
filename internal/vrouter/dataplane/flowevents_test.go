package dataplane

import (
	"errors"
	"testing"
	"unsafe"
)

func FuzzFlowEvent(f *testing.F) {
	e := bpfFlowEvent{Reason: uint32(DropPolicyGroup), Key: bpfFlowKey{Proto: 6, Sport: 9}, Flow: bpfFlow{Packets: 3}}
	f.Add((*[flowEventSize]byte)(unsafe.Pointer(&e))[:])
	f.Add([]byte{})
	f.Add(make([]byte, flowEventSize-1))
	f.Fuzz(func(t *testing.T, sample []byte) {
		got, err := decodeFlowEvent(sample)
		if err != nil {
			if !errors.Is(err, errFlowEvent) {
				t.Error(err)
			}
			return
		}
		if back := (*[flowEventSize]byte)(unsafe.Pointer(&got))[:]; string(back) != string(sample[:flowEventSize]) {
			t.Errorf("decoded %x as %x", sample, back)
		}
		names := flowNames{}
		_ = names.totals(rawFlow{got.Key, got.Flow}, got.Reason == 0)
	})
}
