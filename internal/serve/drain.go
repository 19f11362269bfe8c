package serve

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// grace is how long requests may take to end when a service stops. Streams end
// at once: they do not end by themselves.
const grace = 5 * time.Second

// drain ends the requests of a service that stops, so that no client is left
// without the answer to what it has sent.
type drain struct {
	// closing is set when connections are to be used no more.
	closing atomic.Bool
	// streams ends when streams shall end.
	streams context.Context
}

// handler lets h's requests be drained.
func (d *drain) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.closing.Load() && r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		s := &drainWriter{ResponseWriter: w, drain: d, cancel: cancel}
		defer s.forget()
		h.ServeHTTP(s, r.WithContext(ctx))
	})
}

// drainWriter finds out that a request is a stream: it flushes.
type drainWriter struct {
	http.ResponseWriter
	drain  *drain
	cancel context.CancelFunc
	// stop is set once the request is known as a stream.
	stop func() bool
}

// Flush sends what was written.
func (w *drainWriter) Flush() { w.FlushError() }

// FlushError sends what was written; for http.ResponseController.
func (w *drainWriter) FlushError() error {
	if w.stop == nil {
		w.stop = context.AfterFunc(w.drain.streams, w.cancel)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *drainWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom lets files be sent by the kernel.
func (w *drainWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, r) }

func (w *drainWriter) forget() {
	if w.stop != nil {
		w.stop()
	}
}
