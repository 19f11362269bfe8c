package compile

import "slices"

// cells is a set of cells. Most have one member, and many have two or three,
// so that a map for each would be most of what a Compiler needs.
type cells struct {
	one  *cell
	more *crowd
}

// crowd is a set with several members; a large one knows where they are.
type crowd struct {
	list []*cell
	at   map[*cell]int32
}

// largeCrowd is from how many members on looking for one takes too long.
const largeCrowd = 16

func (s *cells) add(c *cell) {
	switch {
	case s.more != nil:
		s.more.add(c)
	case s.one == nil || s.one == c:
		s.one = c
	default:
		s.more = &crowd{list: []*cell{s.one, c}}
		s.one = nil
	}
}

func (s *cells) remove(c *cell) {
	if s.one == c {
		s.one = nil
	}
	if s.more == nil {
		return
	}
	s.more.remove(c)
	switch len(s.more.list) {
	case 0:
		s.more = nil
	case 1:
		s.one, s.more = s.more.list[0], nil
	}
}

func (s *cells) empty() bool { return s.one == nil && s.more == nil }

// each calls f with all members, which f must not change.
func (s *cells) each(f func(*cell)) {
	if s.one != nil {
		f(s.one)
	}
	if s.more != nil {
		for _, c := range s.more.list {
			f(c)
		}
	}
}

func (w *crowd) find(c *cell) int {
	if w.at == nil {
		return slices.Index(w.list, c)
	}
	if i, ok := w.at[c]; ok {
		return int(i)
	}
	return -1
}

func (w *crowd) add(c *cell) {
	if w.find(c) >= 0 {
		return
	}
	w.list = append(w.list, c)
	switch {
	case w.at != nil:
		w.at[c] = int32(len(w.list) - 1)
	case len(w.list) > largeCrowd:
		w.at = make(map[*cell]int32, len(w.list))
		for i, c := range w.list {
			w.at[c] = int32(i)
		}
	}
}

// remove moves the last member into the gap.
func (w *crowd) remove(c *cell) {
	i := w.find(c)
	if i < 0 {
		return
	}
	last := len(w.list) - 1
	w.list[i] = w.list[last]
	w.list[last] = nil
	w.list = w.list[:last]
	if w.at != nil {
		delete(w.at, c)
		if i < last {
			w.at[w.list[i]] = int32(i)
		}
	}
}
