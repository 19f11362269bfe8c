package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"connectrpc.com/connect"
	"github.com/cenkalti/backoff/v5"
)

// unary is a method of a connect client.
type unary[Req, Res any] func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)

// call asks the configuration API, again while it is away or other writers
// win, for as long as the configured timeout. doubt tells that the request may
// have been carried out although err is set.
func call[Req, Res any](ctx context.Context, m *Manager, what string, method unary[Req, Res], req *Req) (res *Res, doubt bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
	for {
		answer, err := method(bounded, connect.NewRequest(req))
		if err == nil {
			return answer.Msg, false, nil
		}
		doubt = doubt || mayHaveRun(err)
		if code := connect.CodeOf(err); code != connect.CodeUnavailable && code != connect.CodeAborted || bounded.Err() != nil {
			return nil, doubt, m.explain(ctx, what, err)
		}
		m.metrics.retries.Inc()
		select {
		case <-bounded.Done():
			return nil, doubt, m.explain(ctx, what, err)
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// answered tells whether err is what the configuration API decided, and not
// that it, the store or the way to them was away or slow.
func answered(err error) bool {
	if isSettling(err) {
		return true
	}
	switch connect.CodeOf(err) {
	case connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnavailable:
		return false
	}
	return connect.IsWireError(err)
}

// isSettling tells whether the request has to wait because the store was
// restored: it changed nothing.
func isSettling(err error) bool {
	var e *connect.Error
	return errors.As(err, &e) && e.Meta().Get(settlingHeader) != ""
}

// settlingHeader is what the configuration API sets on such errors.
const settlingHeader = "Contrail-Settling"

// mayHaveRun tells whether a failed request may have been carried out: not
// when the configuration API decided against it, and not when there was no
// connection.
func mayHaveRun(err error) bool {
	if answered(err) {
		return false
	}
	var op *net.OpError
	return !(errors.As(err, &op) && op.Op == "dial")
}

// explain keeps what the configuration API answered as it is, and says what is
// wrong where it did not answer.
func (m *Manager) explain(caller context.Context, what string, err error) error {
	if e := (*connect.Error)(nil); errors.As(err, &e) && answered(err) {
		answer := connect.NewError(e.Code(), errors.New(e.Message()))
		for _, detail := range e.Details() {
			answer.AddDetail(detail)
		}
		if isSettling(err) {
			answer.Meta().Set(settlingHeader, "true")
		}
		return answer
	}
	if caller.Err() != nil {
		return connect.NewError(connect.CodeCanceled, fmt.Errorf("%s: the caller did not wait: %w", what, context.Cause(caller)))
	}
	switch code := connect.CodeOf(err); code {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return connect.NewError(connect.CodeUnavailable, fmt.Errorf(
			"%s: the configuration API did not answer within %s: %w; see `contrail status` and the log of `contrail controller`",
			what, m.cfg.Timeout, cause(err)))
	default:
		return connect.NewError(code, fmt.Errorf("%s: configuration API: %w", what, cause(err)))
	}
}

// cause strips connect's own prefix, which the new error gets again.
func cause(err error) error {
	if e := (*connect.Error)(nil); errors.As(err, &e) && e.Unwrap() != nil {
		return e.Unwrap()
	}
	return err
}
