// Package feed tells any number of readers how rows change, without a queue
// for any of them.
//
//	owner --Put, Remove--> log of rows, in the order of their last change
//	                          |
//	                          +--cursor--> reader (a number: the last it had)
//	                          +--cursor--> reader
//
// What changed twice while a reader was slow is read once, as it stands then;
// nothing is lost and nothing is queued, so a slow reader costs nothing and
// holds up nobody. A row's message is encoded when the first reader comes to
// it, and once for all of them. Rows that are gone are kept until every reader
// has been told. Of these, the last messages are kept for a while longer: a
// reader that left can come back to its place as long as nothing is missing.
//
// Nothing here has a lock: the owner's protects a feed with its cursors.
package feed

import (
	"math/rand/v2"
	"slices"
	"sort"
)

// Item is what a row is about.
type Item interface {
	// Message encodes the item as it stands, or that it is gone.
	Message(gone bool) []byte
	// Forgotten is called when a row that is gone is not needed any more.
	Forgotten()
}

// Row is an item's place in a feed. The zero value is in none; its owner keeps
// it for as long as the feed does, see Item.Forgotten.
type Row struct {
	item Item
	// seq is that of the last change, 0 while the feed does not have the row.
	seq  uint64
	body []byte
	gone bool
}

// Present tells whether readers see the row.
func (r *Row) Present() bool { return r.seq != 0 && !r.gone }

// Held tells whether the feed has the row, be it only to say that it is gone.
func (r *Row) Held() bool { return r.seq != 0 }

// Feed holds rows in the order of their last change.
type Feed struct {
	// id tells it from all others, of earlier processes too.
	id uint64
	// log has the rows by seq, ascending. An entry whose row has changed since
	// is stale and skipped; compact removes it.
	log  []entry
	last uint64
	// size is the number of rows that are not gone.
	size int
	// limit is the length of log at which it is compacted.
	limit   int
	cursors map[*Cursor]struct{}
	// read: there was a reader.
	read   bool
	forOne bool
	// graves are the last rows that are gone and forgotten, by seq, ascending.
	graves []grave
	// floor is the seq of the last one of which not even the message is left. A
	// reader that left before it cannot come back.
	floor uint64
}

// grave is what is left of a row that is gone.
type grave struct {
	seq  uint64
	body []byte
}

type entry struct {
	seq uint64
	row *Row
}

const (
	shortestLog = 64
	// fewestGraves are kept at least; of a large feed, a quarter of its size.
	fewestGraves = 32
)

// New returns an empty feed.
func New() *Feed {
	return &Feed{id: rand.Uint64(), limit: shortestLog, cursors: map[*Cursor]struct{}{}}
}

// NewForOne returns an empty feed that only ever has one reader at a time: no
// message is kept for others.
func NewForOne() *Feed {
	f := New()
	f.forOne = true
	return f
}

// Len is the number of rows that are not gone.
func (f *Feed) Len() int { return f.size }

// Readers is the number of cursors.
func (f *Feed) Readers() int { return len(f.cursors) }

// message is that of a row.
func (f *Feed) message(r *Row) []byte {
	if r.body != nil {
		return r.body
	}
	body := r.item.Message(r.gone)
	if !f.forOne {
		r.body = body
	}
	return body
}

// Put says that an item is new, or has changed.
func (f *Feed) Put(r *Row, item Item) {
	if !r.Present() {
		f.size++
	}
	r.item = item
	f.change(r, false)
}

// Remove says that an item is gone.
func (f *Feed) Remove(r *Row) {
	if !r.Present() {
		return
	}
	f.size--
	if len(f.cursors) > 0 {
		f.change(r, true)
		return
	}
	f.last++
	r.body, r.gone = nil, true // its log entry becomes stale
	f.forget(r, f.last)
}

// forget lets go of a row that is gone.
func (f *Feed) forget(r *Row, seq uint64) {
	if f.read {
		f.graves = append(f.graves, grave{seq, f.message(r)})
	} else {
		f.floor = seq
	}
	for len(f.graves) > max(fewestGraves, f.size/4) {
		f.floor = f.graves[0].seq
		f.graves = f.graves[1:]
	}
	r.seq, r.body = 0, nil
	r.item.Forgotten()
}

func (f *Feed) change(r *Row, gone bool) {
	f.last++
	r.seq, r.body, r.gone = f.last, nil, gone
	f.log = append(f.log, entry{f.last, r})
	if len(f.log) >= f.limit {
		f.compact()
	}
}

// compact drops stale entries, and rows that are gone and that every reader
// has been told of. It runs when the log has doubled, so that a change costs
// constant time on average.
func (f *Feed) compact() {
	told := f.last
	for c := range f.cursors {
		told = min(told, c.at)
	}
	f.log = slices.DeleteFunc(f.log, func(e entry) bool {
		if e.row.seq != e.seq {
			return true
		}
		if e.row.gone && e.seq <= told {
			f.forget(e.row, e.seq)
			return true
		}
		return false
	})
	f.limit = max(shortestLog, 2*len(f.log))
}

// Wake calls the wake function of each reader.
func (f *Feed) Wake() {
	for c := range f.cursors {
		c.wake()
	}
}

// Cursor is one reader's place in a feed.
type Cursor struct {
	feed *Feed
	wake func()
	// at is the seq of the last row that was read.
	at uint64
	// from is the feed's seq when reading began: what was gone by then was
	// never told to this reader.
	from uint64
	// graves are rows that went while the reader was away.
	graves []grave
}

// Read returns a cursor at the beginning. wake must not block; it is called
// when there is more to read.
func (f *Feed) Read(wake func()) *Cursor {
	return f.enter(&Cursor{feed: f, wake: wake, from: f.last})
}

func (f *Feed) enter(c *Cursor) *Cursor {
	f.read = true
	f.cursors[c] = struct{}{}
	return c
}

// Resume returns a cursor at the place of an earlier one; nil if that was not
// of this feed, or if not all is known any more that has gone since.
func (f *Feed) Resume(wake func(), id, at uint64) *Cursor {
	if id != f.id || at < f.floor || at > f.last {
		return nil
	}
	first := sort.Search(len(f.graves), func(i int) bool { return f.graves[i].seq > at })
	return f.enter(&Cursor{feed: f, wake: wake, at: at, from: at, graves: f.graves[first:len(f.graves):len(f.graves)]})
}

// Place is where the reader is, for Resume.
func (c *Cursor) Place() (id, at uint64) { return c.feed.id, c.at }

// Close ends the reading. The last one takes what is gone with it.
func (c *Cursor) Close() {
	delete(c.feed.cursors, c)
	if len(c.feed.cursors) == 0 {
		c.feed.compact()
	}
}

// Of tells whether the cursor reads this feed.
func (c *Cursor) Of(f *Feed) bool { return c.feed == f }

// Behind is the number of changes since the last row that was read.
func (c *Cursor) Behind() uint64 { return c.feed.last - c.at + uint64(len(c.graves)) }

// Next appends up to limit messages that the reader has not had, and reports
// whether it has had all.
func (c *Cursor) Next(out [][]byte, limit int) ([][]byte, bool) {
	for ; len(c.graves) > 0; c.graves = c.graves[1:] {
		if limit == 0 {
			return out, false
		}
		limit--
		out = append(out, c.graves[0].body)
	}
	log := c.feed.log
	i := sort.Search(len(log), func(i int) bool { return log[i].seq > c.at })
	for ; i < len(log); i++ {
		e := log[i]
		stale := e.row.seq != e.seq
		if stale || e.row.gone && e.seq <= c.from {
			c.at = e.seq
			continue
		}
		if limit == 0 {
			return out, false
		}
		limit--
		out = append(out, c.feed.message(e.row))
		c.at = e.seq
	}
	c.at = c.feed.last
	return out, true
}
