package configapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// readyTimeout bounds how long the store may take to show that it answers
	// and that the graph follows it.
	readyTimeout = 2 * time.Second
	// readyFor is how long an answer about readiness is good: those who ask
	// often do not cost the store anything.
	readyFor = 500 * time.Millisecond
)

// readiness is the answer of /readyz.
type readiness struct {
	Ready bool `json:"ready"`
	// Reason why not.
	Reason string `json:"reason,omitempty"`
	// Degraded says what is refused although it is ready: after a restore.
	Degraded string `json:"degraded,omitempty"`
	// Epoch and Revision of the graph, Head the store's newest revision.
	Epoch    uint64 `json:"epoch"`
	Revision uint64 `json:"revision"`
	Head     uint64 `json:"head"`
	// LagSeconds is what the graph took to show the head.
	LagSeconds float64 `json:"lag_seconds"`
}

// prober finds out whether the API is ready, once for all who ask at a time.
type prober struct {
	mu    sync.Mutex
	at    time.Time
	known readiness
}

// health answers that the process lives.
func (a *API) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

// readiness answers whether requests would be answered now, and why not. It
// shows nothing of any tenant.
func (a *API) readiness(w http.ResponseWriter, r *http.Request) {
	p := &a.prober
	p.mu.Lock()
	if a.leaving.Load() {
		p.at, p.known = time.Now(), readiness{Reason: "this process is about to stop; ask another controller"}
	} else if time.Since(p.at) > readyFor {
		// Not the caller's context: others wait for the same answer.
		p.known = a.probe(context.WithoutCancel(r.Context()))
		p.at = time.Now()
	}
	known := p.known
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	if !known.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(known)
}

// probe asks the store for its head and waits until the graph shows it.
func (a *API) probe(ctx context.Context) readiness {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	at := a.graph.Position()
	out := readiness{Epoch: at.Epoch, Revision: at.Revision}
	if a.recovery.settling() {
		out.Degraded = a.closedError().Error()
	}
	select {
	case <-a.ready:
	default:
		out.Reason = "the store is not loaded yet"
		if at == (model.Position{}) {
			out.Reason = "the store is not loaded yet; is it running?"
		}
		return out
	}
	head, err := a.store.Head(ctx)
	if err != nil {
		out.Reason = "the store does not answer: " + err.Error()
		return out
	}
	start := time.Now()
	err = a.catchUp(ctx, head)
	at = a.graph.Position()
	out.Head, out.Epoch, out.Revision = uint64(head), at.Epoch, at.Revision
	out.LagSeconds = time.Since(start).Seconds()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		out.Reason = "the graph does not follow the store: it is behind the store's newest revision"
	case err != nil:
		out.Reason = "the graph does not follow the store: " + err.Error()
	}
	out.Ready = err == nil
	return out
}
