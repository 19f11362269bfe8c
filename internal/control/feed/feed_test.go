package feed

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// world is rows as their owner has them, and what readers were told of them.
type world struct {
	feed  *Feed
	items map[int]*item
}

type item struct {
	world *world
	key   int
	value int
	row   Row
}

func (i *item) Message(gone bool) []byte {
	if gone {
		return fmt.Appendf(nil, "-%d", i.key)
	}
	return fmt.Appendf(nil, "%d=%d", i.key, i.value)
}

func (i *item) Forgotten() { delete(i.world.items, i.key) }

type reader struct {
	cursor *Cursor
	has    map[int]int
	woken  bool
}

func (r *reader) take(t *rapid.T, limit int) bool {
	messages, done := r.cursor.Next(nil, limit)
	if len(messages) > limit {
		t.Fatalf("%d messages, limit %d", len(messages), limit)
	}
	for _, m := range messages {
		var key, value int
		if _, err := fmt.Sscanf(string(m), "%d=%d", &key, &value); err == nil {
			r.has[key] = value
			continue
		}
		fmt.Sscanf(string(m), "-%d", &key)
		if _, ok := r.has[key]; !ok && len(m) > 0 {
			// Being told of what it never had is allowed only for what was put
			// after it began to read: it may have come and gone in between.
			continue
		}
		delete(r.has, key)
	}
	return done
}

// TestReadersSeeWhatThereIs: whatever happens and however slowly somebody
// reads, he ends with the rows that are there.
func TestReadersSeeWhatThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{feed: New(), items: map[int]*item{}}
		present := map[int]int{}
		var readers, left []*reader
		key := rapid.IntRange(1, 8)
		check := func(t *rapid.T) {
			for _, r := range readers {
				for !r.take(t, 3) {
				}
				if fmt.Sprint(r.has) != fmt.Sprint(present) {
					t.Fatalf("reader has %v, want %v", r.has, present)
				}
			}
			if w.feed.Len() != len(present) {
				t.Fatalf("size %d, want %d", w.feed.Len(), len(present))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if w.items[k] == nil {
					w.items[k] = &item{world: w, key: k}
				}
				w.items[k].value++
				present[k] = w.items[k].value
				w.feed.Put(&w.items[k].row, w.items[k])
			},
			"remove": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if i := w.items[k]; i != nil {
					w.feed.Remove(&i.row)
				}
				delete(present, k)
			},
			"read": func(*rapid.T) {
				r := &reader{has: map[int]int{}}
				r.cursor = w.feed.Read(func() { r.woken = true })
				readers = append(readers, r)
			},
			"take": func(t *rapid.T) {
				if len(readers) > 0 {
					rapid.SampledFrom(readers).Draw(t, "reader").take(t, rapid.IntRange(1, 3).Draw(t, "limit"))
				}
			},
			"close": func(t *rapid.T) {
				if len(readers) > 0 {
					readers[0].cursor.Close()
					left = append(left, readers[0])
					readers = readers[1:]
				}
			},
			"come back": func(t *rapid.T) {
				if len(left) == 0 {
					return
				}
				r := left[0]
				left = left[1:]
				id, at := r.cursor.Place()
				if r.cursor = w.feed.Resume(func() { r.woken = true }, id, at); r.cursor != nil {
					readers = append(readers, r)
				} else if at >= w.feed.floor {
					t.Fatalf("cannot come back to %d, floor %d", at, w.feed.floor)
				}
			},
			"compact": func(*rapid.T) { w.feed.compact() },
			"check":   check,
		})
		check(t)
		for _, r := range readers {
			r.cursor.Close()
		}
		for k := range present {
			w.feed.Remove(&w.items[k].row)
		}
		w.feed.compact()
		if len(w.items) != 0 || len(w.feed.log) != 0 {
			t.Fatalf("left after all is gone: %v, %v", w.items, w.feed.log)
		}
	})
}

func TestWakeAndOnceForAll(t *testing.T) {
	w := &world{feed: New(), items: map[int]*item{}}
	i := &item{world: w, key: 1}
	w.items[1] = i
	var woken int
	a, b := w.feed.Read(func() { woken++ }), w.feed.Read(func() { woken++ })
	w.feed.Put(&i.row, i)
	w.feed.Wake()
	one, _ := a.Next(nil, 9)
	two, _ := b.Next(nil, 9)
	if woken != 2 || len(one) != 1 || len(two) != 1 || &one[0][0] != &two[0][0] {
		t.Errorf("woken %d, messages %q and %q; want one encoding for both", woken, one, two)
	}
}

// A reader that was away for too long, or read another feed, has to begin anew.
func TestComeBack(t *testing.T) {
	w := &world{feed: New(), items: map[int]*item{}}
	r := w.feed.Read(func() {})
	id, at := r.Place()
	r.Close()
	gone := func(n int) {
		for i := range n {
			x := &item{world: w, key: i}
			w.feed.Put(&x.row, x)
			w.feed.Remove(&x.row)
		}
	}
	gone(fewestGraves)
	c := w.feed.Resume(func() {}, id, at)
	if c == nil {
		t.Fatal("cannot come back although nothing is missing")
	}
	if messages, _ := c.Next(nil, 100); len(messages) != fewestGraves {
		t.Errorf("told of %d rows that went, want %d", len(messages), fewestGraves)
	}
	c.Close()
	if gone(1); w.feed.Resume(func() {}, id, at) != nil {
		t.Error("came back although a row that went is forgotten")
	}
	if New().Resume(func() {}, id, 0) != nil || w.feed.Resume(func() {}, id, 1<<40) != nil {
		t.Error("came back to another feed, or to the future")
	}
}
