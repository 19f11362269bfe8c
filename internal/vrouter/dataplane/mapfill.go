package dataplane

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"

	"github.com/cilium/ebpf"
)

// MapFill is how full a map is that refuses what it has no room for.
type MapFill struct {
	// Map is its name without the version of its layout.
	Map  string `json:"map"`
	Used int    `json:"used"`
	Max  int    `json:"max"`
}

var layoutVersion = regexp.MustCompile(`_v[0-9]+$`)

// MapFills counts the entries of the maps that can be full. It reads them all,
// which takes a good part of a second where there are half a million.
func (t *Tables) MapFills() ([]MapFill, error) {
	var fills []MapFill
	fields := reflect.ValueOf(t.maps).Elem()
	for i := range fields.NumField() {
		m, ok := fields.Field(i).Interface().(*ebpf.Map)
		if !ok || m == nil {
			continue
		}
		name := fields.Type().Field(i).Tag.Get("ebpf")
		var used int
		var err error
		switch m.Type() {
		case ebpf.Hash, ebpf.LPMTrie:
			used, err = countBatches(m)
		case ebpf.HashOfMaps, ebpf.PerCPUHash:
			used, err = countKeys(m)
		default:
			continue // all entries are there always, or old ones make room
		}
		if err != nil {
			return nil, fmt.Errorf("count entries of %s: %w", name, err)
		}
		fills = append(fills, MapFill{layoutVersion.ReplaceAllString(name, ""), used, int(m.MaxEntries())})
	}
	slices.SortFunc(fills, func(a, b MapFill) int { return cmp.Compare(a.Map, b.Map) })
	return fills, nil
}

// countMemory bounds what countBatches reads at a time, in bytes.
const countMemory = 1 << 20

// countBatches counts the entries of a map whose types it does not know.
func countBatches(m *ebpf.Map) (int, error) {
	size := min(4096, max(256, countMemory/int(m.ValueSize())), int(m.MaxEntries()))
	buffer := func(bytes uint32) any {
		element := reflect.ArrayOf(int(bytes), reflect.TypeFor[byte]())
		return reflect.MakeSlice(reflect.SliceOf(element), size, size).Interface()
	}
	keys, values := buffer(m.KeySize()), buffer(m.ValueSize())
	var cursor ebpf.MapBatchCursor
	total := 0
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return 0, err
		}
		total += n
		if err != nil {
			return total, nil
		}
	}
}

// countKeys counts the entries of a small map.
func countKeys(m *ebpf.Map) (int, error) {
	total := 0
	key := make([]byte, m.KeySize())
	err := m.NextKey(nil, &key)
	for ; err == nil && total <= int(m.MaxEntries()); err = m.NextKey(key, &key) {
		total++
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, err
	}
	return total, nil
}
