package marathon

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 4 << 20

// handlerFunc answers with a status and a value for JSON, or with an error.
type handlerFunc func(w http.ResponseWriter, r *http.Request) (int, any, error)

// Handler serves the REST API, to the administrator only.
func (m *Marathon) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, methods map[string]handlerFunc) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			f := methods[r.Method]
			if f == nil && r.Method == http.MethodHead {
				f = methods[http.MethodGet]
			}
			if f == nil {
				writeError(w, &problem{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"})
				return
			}
			status, body, err := f(w, r)
			if err != nil {
				writeError(w, err)
				return
			}
			writeJSON(w, status, body)
		})
	}
	handle("/v2/apps", map[string]handlerFunc{http.MethodGet: m.listApps, http.MethodPost: m.createApp, http.MethodPut: m.putApps, http.MethodPatch: m.putApps})
	handle("/v2/apps/", map[string]handlerFunc{
		http.MethodGet: m.getApp, http.MethodPut: m.putApp, http.MethodPatch: m.patchApp, http.MethodPost: m.postApp, http.MethodDelete: m.deleteApp,
	})
	handle("/v2/tasks", map[string]handlerFunc{http.MethodGet: m.listTasks})
	handle("/v2/tasks/delete", map[string]handlerFunc{http.MethodPost: m.killTasks})
	handle("/v2/deployments", map[string]handlerFunc{http.MethodGet: m.listDeployments})
	handle("/v2/queue", map[string]handlerFunc{http.MethodGet: m.listQueue})
	handle("/v2/queue/", map[string]handlerFunc{http.MethodDelete: m.resetDelay})
	handle("/v2/groups", map[string]handlerFunc{http.MethodGet: m.getGroup})
	handle("/v2/groups/", map[string]handlerFunc{http.MethodGet: m.getGroup})
	handle("/v2/info", map[string]handlerFunc{http.MethodGet: m.info})
	handle("/v2/leader", map[string]handlerFunc{http.MethodGet: m.leader})
	handle("/metrics", map[string]handlerFunc{http.MethodGet: m.metrics})
	handle("/", map[string]handlerFunc{http.MethodGet: func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		return 0, nil, notFound("no resource " + r.URL.Path)
	}})
	mux.HandleFunc("GET /v2/events", m.serveEvents)
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "pong")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if caller := serve.CallerOf(r.Context()); !caller.IsAdmin() && r.URL.Path != "/ping" {
			writeError(w, &problem{status: http.StatusForbidden, message: "Not Authorized to perform this action!"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	data, err := json.Marshal(body)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	w.Write(data)
}

func writeError(w http.ResponseWriter, err error) {
	p := &problem{status: http.StatusInternalServerError, message: err.Error()}
	errors.As(err, &p)
	writeJSON(w, p.status, p)
}

// readObject reads a JSON object from the body.
func readObject(w http.ResponseWriter, r *http.Request) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := readJSON(w, r, &object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, invalidJSON(errors.New("expected a JSON object"))
	}
	return object, nil
}

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if contentType := r.Header.Get("Content-Type"); contentType != "" && !strings.HasPrefix(contentType, "application/json") {
		// curl's own default is let pass, as so many examples rely on it.
		if !strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
			return &problem{status: http.StatusUnsupportedMediaType, message: "HTTP 415 Unsupported Media Type: want application/json"}
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &problem{status: http.StatusRequestEntityTooLarge, message: "the body is larger than " + strconv.Itoa(maxBody) + " bytes"}
	}
	if err != nil {
		return invalidJSON(err)
	}
	// The decoder would put U+FFFD in place of what is no text.
	if !utf8.Valid(data) {
		return invalidJSON(errors.New("the body is not UTF-8"))
	}
	if err := json.Unmarshal(data, v); err != nil {
		return invalidJSON(err)
	}
	return nil
}

func flag(r *http.Request, name string, initial bool) bool {
	v, err := strconv.ParseBool(r.URL.Query().Get(name))
	if err != nil {
		return initial
	}
	return v
}
