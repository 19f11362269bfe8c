package configapi

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// call is one request being answered. The handlers find it in the context
// and say what it is about and where its time goes.
type call struct {
	id      uint64
	started time.Time
	method  string
	caller  serve.Caller
	from    string

	mu sync.Mutex
	// operation is create, list, read, update, delete, or the name of an
	// action or RPC; kind is the type of object, empty where there is none.
	operation string
	kind      model.Kind
	spent     spent
}

// spent is where the time of a write goes: deciding on the graph, committing
// to the store, and waiting until the graph shows the result.
type spent struct {
	decide, commit, catchUp time.Duration
	attempts                int
}

type callKey struct{}

// callOf returns the request that ctx belongs to; nil where it belongs to
// none, which all methods understand.
func callOf(ctx context.Context) *call {
	r, _ := ctx.Value(callKey{}).(*call)
	return r
}

// spend adds what a part of a write took.
func (r *call) spend(part func(*spent) *time.Duration, since time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*part(&r.spent) += time.Since(since)
}

func deciding(s *spent) *time.Duration   { s.attempts++; return &s.decide }
func committing(s *spent) *time.Duration { return &s.commit }
func catchingUp(s *spent) *time.Duration { return &s.catchUp }

// routed says by which route of the classic interface a request was found.
func (r *call) routed(hr *http.Request) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operation, r.kind = operationOf(hr)
}

// operationOf tells operation and type from the route, so that there are never
// more of them than routes and types.
func operationOf(r *http.Request) (string, model.Kind) {
	method, path, _ := strings.Cut(r.Pattern, " ")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case segments[0] == "{collection}":
		t, ok := model.TypeOfCollection(r.PathValue("collection"))
		if !ok {
			return "unknown", ""
		}
		return map[string]string{http.MethodPost: "create"}[method] + map[string]string{http.MethodGet: "list"}[method], t.Kind
	case segments[0] == "{type}":
		t, ok := model.TypeOf(r.PathValue("type"))
		if !ok {
			return "unknown", ""
		}
		return map[string]string{http.MethodGet: "read", http.MethodPut: "update", http.MethodDelete: "delete"}[method], t.Kind
	case segments[0] == "{$}":
		return "homepage", ""
	}
	last := segments[len(segments)-1]
	if last == "{$}" || strings.HasPrefix(last, "{") {
		last = segments[0]
	}
	kind := model.Kind("")
	if t, ok := model.TypeOf(segments[0]); ok {
		kind = t.Kind
	}
	return last, kind
}

// streams are operations that last for as long as the client likes: they are
// neither slow nor do they belong into a histogram of latencies.
var streams = map[string]bool{"watch": true, "debug": true}

// calls are those being answered.
type calls struct {
	mu   sync.Mutex
	last uint64
	all  map[uint64]*call
}

func newCalls() *calls { return &calls{all: map[uint64]*call{}} }

func (s *calls) begin(hr *http.Request, operation string) *call {
	r := &call{
		started: time.Now(), method: hr.Method, caller: serve.CallerOf(hr.Context()),
		from: hr.RemoteAddr, operation: operation,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	r.id = s.last
	s.all[r.id] = r
	return r
}

func (s *calls) end(r *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, r.id)
}

// inFlight returns those being answered, the oldest first.
func (s *calls) inFlight() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.all), func(a, b *call) int { return cmp.Compare(a.id, b.id) })
}

// about says what a request is, as far as it is known.
func (r *call) about() (operation string, kind model.Kind, s spent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.operation, r.kind, r.spent
}

// observed counts and times the requests that h answers, and logs slow ones.
func (a *API) observed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := a.calls.begin(hr, rpcOf(hr.URL.Path))
		seen := newStatusWriter(w, hr, a.patience)
		panics := true
		defer func() {
			a.calls.end(r)
			if panics && !seen.begun {
				seen.status = http.StatusInternalServerError
			}
			a.finished(r, seen.status)
		}()
		h.ServeHTTP(seen, hr.WithContext(context.WithValue(hr.Context(), callKey{}, r)))
		panics = false
	})
}

// rpcOf is the operation that the path of a request names by itself.
func rpcOf(path string) string {
	for _, name := range []string{"metrics", "inventory", "ipam", "compile", "debug"} {
		if path == "/"+name || name == "debug" && strings.HasPrefix(path, "/debug/") {
			return name
		}
	}
	for _, name := range []string{"Attachments/Attach", "Attachments/Detach", "Attachments/List", "Nodes/Join", "Nodes/List", "Nodes/Remove"} {
		if strings.HasSuffix(path, "contrail.config.v1."+name) {
			return strings.ToLower(strings.ReplaceAll(name, "/", "-"))
		}
	}
	return "other"
}

// finished records a request that was answered.
func (a *API) finished(r *call, status int) {
	operation, kind, s := r.about()
	took := time.Since(r.started)
	a.metrics.requests.WithLabelValues(string(kind), operation, strconv.Itoa(status)).Inc()
	if streams[operation] {
		return
	}
	a.metrics.latency.WithLabelValues(string(kind), operation).Observe(took.Seconds())
	if a.cfg.Slow <= 0 || took < a.cfg.Slow {
		return
	}
	log := []any{
		"operation", operation, "type", kind, "status", status, "took", took,
		"who", r.caller.Identity.String(), "via", r.caller.Via,
	}
	if r.from != "" && r.from != "@" { // a unix socket's other end has no name
		log = append(log, "from", r.from)
	}
	if s.attempts > 0 {
		log = append(log, slog.Group("write", "decide", s.decide, "commit", s.commit, "catch_up", s.catchUp, "attempts", s.attempts))
	}
	a.log.Warn("slow request", log...)
}

const (
	// readerPatience is how long a client may take to read a part of an answer: one
	// that does not read keeps what the answer is made of in memory.
	readerPatience = 30 * time.Second
	readerPart     = 64 << 10
)

// statusWriter remembers the status of an answer, and gives up clients that do
// not read it.
type statusWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	// clears: HTTP/2 ends a stream with its deadline even when nothing is written.
	clears   bool
	patience time.Duration
	status   int
	begun    bool
}

func newStatusWriter(w http.ResponseWriter, r *http.Request, patience time.Duration) *statusWriter {
	return &statusWriter{
		ResponseWriter: w, control: http.NewResponseController(w), clears: r.ProtoMajor > 1, patience: patience, status: http.StatusOK,
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if !w.begun && status >= http.StatusOK {
		w.status, w.begun = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.begun = true
	for written := 0; ; {
		part := p[written:min(len(p), written+readerPart)]
		// Where it is not supported, as in tests without a connection, nobody waits.
		_ = w.control.SetWriteDeadline(time.Now().Add(w.patience))
		n, err := w.ResponseWriter.Write(part)
		if w.clears {
			_ = w.control.SetWriteDeadline(time.Time{})
		}
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// Flush implements http.Flusher, for streams.
func (w *statusWriter) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
