package serve

import (
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"
)

// bounded keeps a request whose handler panics from being more than a request
// that failed: the caller learns nothing but that, and the log has the rest.
func (s *Server) bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &begunWriter{ResponseWriter: w}
		defer func() {
			cause := recover()
			switch {
			case cause == nil:
				return
			case cause == http.ErrAbortHandler: //nolint:errorlint // as net/http compares
				panic(cause)
			}
			if silent, ok := s.panics.Admit(time.Now()); ok {
				s.log.Error("a request met a defect of this program; please report it", "method", r.Method, "path", r.URL.Path,
					"panic", fmt.Sprint(cause), "stack", string(debug.Stack()), "not_logged", silent)
			}
			if seen.begun {
				panic(http.ErrAbortHandler) // half an answer must not look like a whole one
			}
			for name := range w.Header() {
				w.Header().Del(name)
			}
			http.Error(w, "internal error; the log of the service has more", http.StatusInternalServerError)
		}()
		h.ServeHTTP(seen, r)
	})
}

// begunWriter knows whether some of an answer was sent.
type begunWriter struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (w *begunWriter) WriteHeader(status int) {
	w.begun = w.begun || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *begunWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *begunWriter) Flush() { w.FlushError() }

// FlushError is for http.ResponseController.
func (w *begunWriter) FlushError() error {
	w.begun = true
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// ReadFrom lets files be sent by the kernel.
func (w *begunWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begun = true
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap is for http.ResponseController.
func (w *begunWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
