package configapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/internal/model"
)

type dryRunKey struct{}

// isDryRun tells whether a write is to be decided, with all that may refuse it,
// and not committed.
func isDryRun(ctx context.Context) bool { return ctx.Value(dryRunKey{}) != nil }

// withDryRun takes the parameter dry_run into the context of a request.
func withDryRun(r *http.Request) (*http.Request, error) {
	text := r.URL.Query().Get("dry_run")
	if text == "" || strings.EqualFold(text, "false") {
		return r, nil
	}
	if !isTrue(text) {
		return nil, invalid("dry_run %q: want true or false", brief(text))
	}
	return r.WithContext(context.WithValue(r.Context(), dryRunKey{}, true)), nil
}

// etagOf is the ETag of an object, empty for one without dates.
func etagOf(o model.Object) string {
	if p := o.GetMeta().IDPerms; p != nil {
		return strconv.Quote(p.LastModified)
	}
	return ""
}

// checkMatch refuses a write to an object that is not, or no longer, the one
// that the client has seen.
func checkMatch(r *http.Request, o model.Object) error {
	want := r.Header.Get("If-Match")
	if want == "" || want == "*" || want == etagOf(o) {
		return nil
	}
	return refuse(http.StatusPreconditionFailed, connect.CodeFailedPrecondition,
		"If-Match: %s was changed meanwhile, its ETag is now %s and not %s; read it again", model.EntityOf(o), etagOf(o), brief(want))
}
