package control

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
)

// countingWriter counts how often it is flushed.
type countingWriter struct {
	bytes.Buffer
	flushes int
}

func (w *countingWriter) Header() http.Header { return http.Header{} }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Flush()              { w.flushes++ }

// send sends messages as connect does: a head, a body, and at once.
func send(t *testing.T, w http.ResponseWriter, bodies ...[]byte) {
	t.Helper()
	for _, body := range bodies {
		for _, part := range [][]byte{{0, 0, 0, 0, byte(len(body))}, body} {
			if n, err := w.Write(part); err != nil || n != len(part) {
				t.Fatalf("wrote %d of %d bytes: %v", n, len(part), err)
			}
		}
		w.(http.Flusher).Flush()
	}
}

func TestGather(t *testing.T) {
	bodies := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	var w countingWriter
	g := &gather{ResponseWriter: &w}
	for i := range 2 {
		if err := g.together(func() error { send(t, g, bodies...); return nil }); err != nil || w.flushes != i+1 {
			t.Errorf("together: %d flushes, want %d (%v)", w.flushes, i+1, err)
		}
	}
	all := w.Len()
	send(t, g, bodies...)
	if w.flushes != 5 || w.Len() != all/2*3 {
		t.Errorf("apart: %d flushes, want 3 more; %d bytes, want %d", w.flushes, w.Len(), all/2*3)
	}
	broken := errors.New("broken")
	if err := g.together(func() error { return broken }); !errors.Is(err, broken) || w.flushes != 5 {
		t.Errorf("got %v, want %v; %d flushes", err, broken, w.flushes)
	}
	g.Flush()
	if w.flushes != 6 {
		t.Error("nothing is flushed after an error")
	}
}
