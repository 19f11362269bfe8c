package control

import (
	"bytes"
	"slices"
	"sort"
)

// table holds encoded rows in the order of their last change, for any number
// of readers. The caller's lock protects it.
type table struct {
	rows map[string]*row
	// log has the rows by seq, ascending. An entry whose row has changed since
	// is stale and skipped; compact removes it.
	log  []logEntry
	last uint64
	// size is the number of rows that are not gone.
	size int
	// limit is the length of log at which it is compacted.
	limit   int
	readers map[*cursor]struct{}
}

// row is one key's present state: the message that puts it, or, once it is
// gone, the one that takes it away.
type row struct {
	key  string
	seq  uint64
	body []byte
	gone bool
}

type logEntry struct {
	seq uint64
	row *row
}

const shortestLog = 64

func newTable() *table {
	return &table{rows: map[string]*row{}, limit: shortestLog, readers: map[*cursor]struct{}{}}
}

// put sets a row to a message, and reports whether that changed anything.
func (t *table) put(key string, body []byte) bool {
	r, ok := t.rows[key]
	if ok && !r.gone && bytes.Equal(r.body, body) {
		return false
	}
	if !ok || r.gone {
		t.size++
	}
	t.change(key, body, false)
	return true
}

// remove takes a row away; body is the message that says so.
func (t *table) remove(key string, body []byte) bool {
	r, ok := t.rows[key]
	if !ok || r.gone {
		return false
	}
	t.size--
	if len(t.readers) == 0 {
		r.seq = 0 // its log entry is stale
		delete(t.rows, key)
		return true
	}
	t.change(key, body, true)
	return true
}

func (t *table) change(key string, body []byte, gone bool) {
	r, ok := t.rows[key]
	if !ok {
		r = &row{key: key}
		t.rows[key] = r
	}
	t.last++
	r.seq, r.body, r.gone = t.last, body, gone
	t.log = append(t.log, logEntry{t.last, r})
	if len(t.log) >= t.limit {
		t.compact()
	}
}

// compact drops stale entries, and rows that are gone and that every reader
// has been told of. It runs when the log has doubled, so that a change costs
// constant time on average.
func (t *table) compact() {
	told := t.last
	for c := range t.readers {
		told = min(told, c.at)
	}
	t.log = slices.DeleteFunc(t.log, func(e logEntry) bool {
		if e.row.seq != e.seq {
			return true
		}
		if e.row.gone && e.seq <= told {
			delete(t.rows, e.row.key)
			return true
		}
		return false
	})
	t.limit = max(shortestLog, 2*len(t.log))
}

// cursor is one reader's place in a table.
type cursor struct {
	table *table
	owner *session
	// at is the seq of the last row that was read.
	at uint64
	// from is the table's seq when reading began: what was gone by then was
	// never told to this reader.
	from uint64
	// synced says that the end of the table was announced.
	synced bool
}

func (t *table) read(owner *session) *cursor {
	c := &cursor{table: t, owner: owner, from: t.last}
	t.readers[c] = struct{}{}
	return c
}

func (c *cursor) close() { delete(c.table.readers, c) }

// next appends up to limit messages that the reader has not had, and reports
// whether it has had all.
func (c *cursor) next(out [][]byte, limit int) ([][]byte, bool) {
	log := c.table.log
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
		out = append(out, e.row.body)
		c.at = e.seq
	}
	c.at = c.table.last
	return out, true
}
