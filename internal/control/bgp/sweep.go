package bgp

// sweepRows is how many rows are looked at under one hold of the lock.
const sweepRows = 2048

// purge removes all paths of a source.
func (r *rib) purge(f Family, src *source) {
	r.each(f, func(t *table, row *row) {
		for p := row.paths; p != nil && row.flags&rowGone == 0; {
			next := p.next
			if p.src == src {
				before := bestOf(row)
				t.take(row, p)
				t.settle(row, before, src)
			}
			p = next
		}
	})
}

// age changes what became of a source, and chooses anew for the rows that have
// a path of it.
func (r *rib) age(f Family, src *source, to staleness) {
	r.mu.Lock()
	src.stale = to
	began := r.tables[f.index()].seq
	r.mu.Unlock()
	r.each(f, func(t *table, row *row) {
		for p := row.paths; p != nil && row.flags&rowGone == 0; p = p.next {
			if p.src == src {
				t.aged(row, p, began)
				return
			}
		}
	})
}

// aged chooses anew for a row after its path's source changed. What changed
// since then was chosen with that known.
func (t *table) aged(r *row, p *path, began uint64) {
	dropped := p.src.stale == longStale && p.attrs.HasCommunity(CommunityNoLLGR) // RFC 9494 §4.2
	if !dropped && r.order[byBest].seq > began {
		return
	}
	before := bestOf(r)
	before.long = false // as it was
	if dropped {
		t.take(r, p)
	}
	t.settle(r, before, p.src)
}

// each calls f for every row, some at a time.
func (r *rib) each(fam Family, f func(*table, *row)) {
	t := r.tables[fam.index()]
	r.mu.Lock()
	c := t.read(byBest)
	rows := make([]*row, 0, sweepRows)
	for done := false; !done; {
		rows = rows[:0]
		done = c.next(sweepRows, func(r *row) { rows = append(rows, r) })
		for _, row := range rows {
			f(t, row)
		}
		if done = done && c.atEnd(); !done {
			r.wake()
			r.mu.Unlock()
			r.mu.Lock()
		}
	}
	c.close()
	r.wake()
	r.mu.Unlock()
}
