package configapi

import (
	"errors"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
)

// refusal is an answer to a request that changed nothing because of what the
// request asks for. It has a place in both interfaces.
type refusal struct {
	status int
	code   connect.Code
	text   string
	// settling: it is to be asked again when the nodes have reported after a restore.
	settling bool
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, code connect.Code, format string, args ...any) error {
	return &refusal{status: status, code: code, text: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, connect.CodeInvalidArgument, format, args...)
}

func missing(format string, args ...any) error {
	return refuse(http.StatusNotFound, connect.CodeNotFound, format, args...)
}

func taken(format string, args ...any) error {
	return refuse(http.StatusConflict, connect.CodeAlreadyExists, format, args...)
}

func exhausted(format string, args ...any) error {
	return refuse(http.StatusBadRequest, connect.CodeResourceExhausted, format, args...)
}

func denied(format string, args ...any) error {
	return refuse(http.StatusForbidden, connect.CodePermissionDenied, format, args...)
}

// errBusy ends a write that lost against others too often.
var errBusy = errors.New("other writers kept changing the same objects; try again")

// rpcError is err as the RPC interface says it.
func rpcError(err error) error {
	var r *refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r):
		e := connect.NewError(r.code, err)
		if r.settling {
			e.Meta().Set(SettlingHeader, "true")
		}
		return e
	case errors.Is(err, errBusy):
		return connect.NewError(connect.CodeAborted, err)
	default:
		return connect.NewError(connect.CodeUnavailable, err)
	}
}

// httpStatus is the status with which the REST interface says err.
func httpStatus(err error) int {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.status
	default:
		return http.StatusServiceUnavailable
	}
}
