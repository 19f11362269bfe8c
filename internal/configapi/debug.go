package configapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// debug serves what helps to find out why something is slow or large. It
// answers on the unix socket only: profiles hold what is in memory.
func (a *API) debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "/debug/graph     what is in memory: objects by type, references, bindings\n"+
			"/debug/ledger    what is given out, at rest and held\n"+
			"/debug/requests  requests being answered, the oldest first\n"+
			"/debug/pprof/    profiles: go tool pprof, with curl --unix-socket\n")
	})
	mux.HandleFunc("GET /debug/graph", a.debugGraph)
	mux.HandleFunc("GET /debug/ledger", a.debugLedger)
	mux.HandleFunc("GET /debug/requests", a.debugRequests)
	serve.RegisterProfiles(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if serve.CallerOf(r.Context()).Via != "unix" {
			fail(w, denied("/debug answers on the unix socket of the configuration API only; see --listen-unix"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func showJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.Encode(v)
}

func (a *API) debugGraph(w http.ResponseWriter, _ *http.Request) {
	out := struct {
		Epoch      uint64             `json:"epoch"`
		Revision   uint64             `json:"revision"`
		Objects    map[model.Kind]int `json:"objects"`
		References int                `json:"references"`
		Bindings   int                `json:"bindings"`
		Nodes      int                `json:"nodes"`
	}{Objects: map[model.Kind]int{}}
	a.graph.View(func(v *model.View) {
		at := v.Position()
		out.Epoch, out.Revision = at.Epoch, at.Revision
		for _, t := range model.Types() {
			if n := v.Count(t.Kind); n > 0 {
				out.Objects[t.Kind] = n
			}
		}
		out.References, out.Bindings, out.Nodes = v.CountReferences(), v.CountBindings(), v.CountNodes()
	})
	showJSON(w, out)
}

// poolSummary says what a pool has.
type poolSummary struct {
	Used    int `json:"used"`
	Resting int `json:"resting"`
	Held    int `json:"held"`
}

func summarise[K comparable](pools map[K]*pool) poolSummary {
	var sum poolSummary
	for _, p := range pools {
		sum.Used += p.used
		sum.Held += len(p.held)
		for _, g := range p.groups {
			sum.Resting += g.count
		}
	}
	return sum
}

func (a *API) debugLedger(w http.ResponseWriter, _ *http.Request) {
	l := a.ledger
	l.mu.Lock()
	out := map[string]any{
		"addresses": summarise(l.addresses), "scopes": len(l.addresses), "allocated": summarise(l.allocated),
		"prefixes": poolSummary{len(l.prefixes.used), len(l.prefixes.resting), len(l.prefixes.held)},
		"labels":   summarise(l.labels), "numbers": summarise(l.numbers), "owned": len(l.owned), "tombstones": len(l.tombs),
	}
	l.mu.Unlock()
	showJSON(w, out)
}

func (a *API) debugRequests(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		ID        uint64     `json:"id"`
		Operation string     `json:"operation"`
		Type      model.Kind `json:"type,omitempty"`
		Seconds   float64    `json:"seconds"`
		Who       string     `json:"who"`
		Via       string     `json:"via"`
		From      string     `json:"from,omitempty"`
		Decide    float64    `json:"decide_seconds,omitempty"`
		Commit    float64    `json:"commit_seconds,omitempty"`
		CatchUp   float64    `json:"catch_up_seconds,omitempty"`
		Attempts  int        `json:"attempts,omitempty"`
	}
	list := []row{}
	for _, r := range a.calls.inFlight() {
		operation, kind, s := r.about()
		list = append(list, row{
			ID: r.id, Operation: operation, Type: kind, Seconds: time.Since(r.started).Seconds(),
			Who: r.caller.Identity.String(), Via: r.caller.Via, From: r.from,
			Decide: s.decide.Seconds(), Commit: s.commit.Seconds(), CatchUp: s.catchUp.Seconds(), Attempts: s.attempts,
		})
	}
	showJSON(w, map[string]any{"requests": list})
}
