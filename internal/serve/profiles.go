package serve

import (
	"net/http"
	"net/http/pprof"
)

// RegisterProfiles serves Go's profiles of this process below /debug/pprof/. They
// hold what is in memory, tenants' data and keys: to root on the unix socket, and
// to nobody else.
func RegisterProfiles(mux *http.ServeMux) {
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		mux.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			if CallerOf(r.Context()).Via != "unix" {
				http.Error(w, "profiles are for root on the unix socket only; see --listen-unix", http.StatusForbidden)
				return
			}
			profile(w, r)
		})
	}
}
