package control

import (
	"context"
	"net/http"
	"time"
)

// gather is the response of a stream whose messages can be sent together. By
// itself each is sent at once, which takes a frame of HTTP/2, a record of TLS
// and a call of the kernel for a hundred bytes; together they go by the 4 KiB
// that the response holds back until it is flushed.
//
// It is for one goroutine, but for cut.
type gather struct {
	http.ResponseWriter
	// holding: nothing is flushed.
	holding bool
}

type gatherKey struct{}

// withGather lets a handler of streams have messages sent together, see gatherOf.
func withGather(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g := &gather{ResponseWriter: w}
		h.ServeHTTP(g, r.WithContext(context.WithValue(r.Context(), gatherKey{}, g)))
	})
}

// gatherOf returns the response of a request that came through withGather.
func gatherOf(ctx context.Context) *gather {
	g, _ := ctx.Value(gatherKey{}).(*gather)
	return g
}

// Unwrap is for http.ResponseController.
func (g *gather) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Flush implements http.Flusher.
func (g *gather) Flush() {
	if !g.holding {
		_ = http.NewResponseController(g.ResponseWriter).Flush() // the next write says what is wrong
	}
}

// together has all that f sends sent together.
func (g *gather) together(f func() error) error {
	g.holding = true
	err := f()
	g.holding = false
	if err != nil {
		return err
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// cut ends a write that is under way, and all that follow.
func (g *gather) cut() {
	_ = http.NewResponseController(g.ResponseWriter).SetWriteDeadline(time.Now()) // fails where the stream has ended
}
