package configapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
)

// readWait bounds how long a read waits for what it must show.
const readWait = 5 * time.Second

// readingPosts are the requests that read although they are POSTs. Writes need
// not wait: what they rely on is guarded.
var readingPosts = map[string]bool{
	"/fqname-to-id": true, "/id-to-fqname": true, "/list-bulk-collection": true, "/prop-collection-get": true,
	"/obj-cache": true, "/fetch-records": true, "/db-check": true,
}

// readingCalls are the RPCs that read, or look for what they change before they
// write.
var readingCalls = map[string]bool{
	configv1connect.AttachmentsListProcedure: true, configv1connect.NodesListProcedure: true, configv1connect.NodesRemoveProcedure: true,
	configv1connect.RecoveryForgetProcedure: true, configv1connect.RecoveryResolveProcedure: true,
}

// fresh lets reads through when the graph shows all that any controller has
// answered before they came, and the position that they name.
func (a *API) fresh(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.waitFresh(r); err != nil {
			fail(w, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (a *API) waitFresh(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), a.readWait)
	defer cancel()
	if text := r.Header.Get(positionHeader); text != "" {
		if err := a.waitPosition(ctx, text); err != nil {
			return err
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !readingPosts[r.URL.Path] && !strings.HasSuffix(r.URL.Path, "/subnet-ip-count") {
		return nil
	}
	return a.waitNewest(ctx)
}

// waitNewest waits until the graph shows all that any controller has answered.
func (a *API) waitNewest(ctx context.Context) error {
	revision, err := a.barrier(ctx)
	if err == nil && revision > 0 {
		err = a.catchUp(ctx, revision)
	}
	if err != nil {
		return refuse(http.StatusServiceUnavailable, connect.CodeUnavailable,
			"the store of this controller has no quorum, so its answer could be an old one; try again or ask another controller (%v)", err)
	}
	return nil
}

// waitPosition waits until the graph is at least at a position that an answer
// of any controller named. One of an epoch before a restore is passed already.
func (a *API) waitPosition(ctx context.Context, text string) error {
	first, second, ok := strings.Cut(text, ".")
	epoch, err1 := strconv.ParseUint(first, 10, 64)
	revision, err2 := strconv.ParseInt(second, 10, 64)
	if !ok || err1 != nil || err2 != nil || revision < 0 {
		return invalid("Bad Request, header %s: %s is no position such as 1.4711", positionHeader, brief(text))
	}
	err := a.reach(ctx, epoch, revision)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		at := a.graph.Position()
		return refuse(http.StatusServiceUnavailable, connect.CodeUnavailable,
			"this controller is at position %d.%d and did not reach %s in time; try again or ask another controller", at.Epoch, at.Revision, brief(text))
	}
	return err
}

func (a *API) reach(ctx context.Context, epoch uint64, revision int64) error {
	for {
		at := a.graph.Position()
		if at.Epoch > epoch {
			return nil
		}
		if at.Epoch == epoch && at.Revision >= uint64(revision) {
			return nil
		}
		if at.Epoch == epoch {
			// What no answer can have named is not waited for.
			head, err := a.store.Head(ctx)
			if now := a.graph.Position(); err == nil && now.Epoch == epoch && revision > head {
				return invalid("Bad Request, header %s: the store is at %d.%d, and no answer has named %d.%d", positionHeader, epoch, head, epoch, revision)
			}
			return a.catchUp(ctx, revision)
		}
		if err := a.enterEpoch(ctx, at.Epoch); err != nil {
			return fmt.Errorf("wait for epoch %d: %w", epoch, err)
		}
	}
}

// Leave makes the API not ready: its process is about to stop.
func (a *API) Leave() { a.leaving.Store(true) }
