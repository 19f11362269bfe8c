package configapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/encoding/protojson"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
	"github.com/contrail-mesos/contrail/internal/model"
)

// maxBody is the largest request body of both interfaces, in bytes.
const maxBody = 1_024_000

// maxReport is the largest report of a node after a restore, in bytes.
const maxReport = 16 << 20

// compressFrom is the size of answers, in bytes, from which compressing them is
// worth its time.
const compressFrom = 16 << 10

// Handler serves both interfaces, and what shows how the API is. Requests wait
// until the API has loaded the store, but for those that ask about just that.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	// Containers wait for these answers, which are short.
	compress := connect.WithOptions(connect.WithCompressMinBytes(compressFrom), connect.WithInterceptors(a.rpcGate()))
	rpc := func(path string, h http.Handler) { mux.Handle(path, timely(bodyTime, h)) }
	rpc(configv1connect.NewAttachmentsHandler(&attachments{a}, compress, connect.WithReadMaxBytes(maxBody)))
	rpc(configv1connect.NewNodesHandler(&nodes{a}, compress, connect.WithReadMaxBytes(maxBody)))
	rpc(configv1connect.NewRecoveryHandler(&recoveries{a}, compress, connect.WithReadMaxBytes(maxReport)))
	mux.Handle("GET /metrics", a.forReaders(promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{})))
	mux.Handle("GET /inventory", a.forReaders(a.fresh(http.HandlerFunc(a.inventory))))
	mux.Handle("GET /ipam", a.fresh(a.gate(http.HandlerFunc(a.ipam))))
	mux.Handle("GET /compile", a.fresh(a.gate(http.HandlerFunc(a.compiled))))
	mux.Handle("/", a.fresh(a.gate(a.rest()))) // what the gate knows is fresh, too
	loaded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.waitReady(r.Context()); err != nil {
			http.Error(w, "the configuration API has not loaded the store yet; try again", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", a.health)
	outer.HandleFunc("GET /readyz", a.readiness)
	outer.Handle("/debug/", a.observed(a.debug()))
	outer.Handle("/", a.observed(loaded))
	return outer
}

// inventory answers what is attached and what is at rest, as the RPC List does.
func (a *API) inventory(w http.ResponseWriter, r *http.Request) {
	list, err := a.list(r.Context(), &configv1.ListRequest{Inactive: true})
	if err != nil {
		fail(w, err)
		return
	}
	data, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(list)
	if err != nil {
		fail(w, fmt.Errorf("encode inventory: %w", err))
		return
	}
	reply(w, model.Position{Epoch: list.Position.Epoch, Revision: list.Position.Revision}, json.RawMessage(data))
}

// fail answers an error as plain text: classic clients take the text as it is.
func fail(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(httpStatus(err))
	fmt.Fprint(w, err.Error())
}

// positionHeader tells at which revision of the store an answer was made.
const positionHeader = "Contrail-Position"

func setPosition(w http.ResponseWriter, p model.Position) {
	w.Header().Set(positionHeader, fmt.Sprintf("%d.%d", p.Epoch, p.Revision))
}

// stream writes the JSON of an answer that may be long.
type stream func(w io.Writer) error

// reply answers JSON.
func reply(w http.ResponseWriter, at model.Position, v any) {
	if write, ok := v.(stream); ok {
		setPosition(w, at)
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_ = write(w) // the client has gone
		return
	}
	data, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if data, err = json.Marshal(v); err != nil {
			fail(w, fmt.Errorf("encode answer: %w", err))
			return
		}
	}
	setPosition(w, at)
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Write(data)
}
