package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/contrail-mesos/contrail/api/portapi"
)

// Codes of our own for errors of ADD; the CNI specification leaves 100 and up
// to plugins.
const (
	codeConflict  = 100
	codeExhausted = 101
)

// awayError: the agent could not be asked, or did not answer.
type awayError struct {
	socket string
	err    error
	// sent: the request may have reached the agent.
	sent bool
}

func (e *awayError) Error() string {
	hint := "is `contrail vrouter-agent` running on this node?"
	switch {
	case errors.Is(e.err, os.ErrPermission):
		hint = "only root may use it"
	case errors.Is(e.err, os.ErrDeadlineExceeded), errors.Is(e.err, context.DeadlineExceeded):
		hint = "it took too long; see its log and GET " + portapi.PathStatus
	}
	return fmt.Sprintf("vRouter agent does not answer on %s: %v; %s", e.socket, e.err, hint)
}

func (e *awayError) Unwrap() error { return e.err }

// agent asks the vRouter agent, one connection per request. It speaks HTTP/1.0
// by hand: net/http would double the time that the plugin takes to start.
type agent struct{ socket string }

// call posts in (or gets, if in is nil) and decodes the answer into out.
// Errors are *awayError, or what the agent said as a *portapi.Error.
func (a agent) call(ctx context.Context, path string, in, out any) error {
	request := fmt.Appendf(nil, "GET %s HTTP/1.0\r\nHost: agent\r\n\r\n", path)
	if in != nil {
		var err error
		if request, err = post(path, in, 0); err != nil {
			return err
		}
	}
	conn, err := a.send(ctx, request)
	if err != nil {
		return err
	}
	defer conn.Close()
	return a.receive(conn, out)
}

// post is a request with in as its body, but for more bytes that are to follow.
func post(path string, in any, more int) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode request to the vRouter agent: %w", err)
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.0\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body)+more)
	return append(head, body...), nil
}

// receive reads the answer and decodes it into out.
func (a agent) receive(conn net.Conn, out any) error {
	answer, err := io.ReadAll(io.LimitReader(conn, portapi.MaxBody))
	if err != nil {
		return &awayError{socket: a.socket, err: err, sent: true}
	}
	status, body, err := splitAnswer(answer)
	if err != nil {
		return &awayError{socket: a.socket, err: err, sent: true}
	}
	if status != 200 {
		refusal := &portapi.Error{}
		if json.Unmarshal(body, refusal) != nil || refusal.Message == "" {
			refusal = &portapi.Error{
				Kind:    portapi.KindInternal,
				Message: fmt.Sprintf("vRouter agent on %s answered %d: %s", a.socket, status, bytes.TrimSpace(body)),
			}
		}
		return refusal
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &awayError{socket: a.socket, err: fmt.Errorf("answer is not what it should be: %w", err), sent: true}
	}
	return nil
}

// send connects and sends the request; the connection ends with ctx.
func (a agent) send(ctx context.Context, request []byte) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", a.socket)
	if err != nil {
		return nil, &awayError{socket: a.socket, err: err}
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, &awayError{socket: a.socket, err: err}
		}
	}
	if _, err := conn.Write(request); err != nil {
		conn.Close()
		return nil, &awayError{socket: a.socket, err: err, sent: true}
	}
	return conn, nil
}

// splitAnswer takes an HTTP/1.0 answer apart; its body ends with the connection.
func splitAnswer(answer []byte) (status int, body []byte, err error) {
	head, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	fields := bytes.SplitN(line, []byte(" "), 3)
	if !ok || len(fields) < 2 || !bytes.HasPrefix(fields[0], []byte("HTTP/1.")) {
		return 0, nil, fmt.Errorf("answer ended early after %d bytes", len(answer))
	}
	status, err = strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, nil, fmt.Errorf("answer has no status: %q", line)
	}
	return status, body, nil
}

// cniError turns a failure of ADD into the error that the runtime prints.
func cniError(err error) error {
	var own *types.Error
	if errors.As(err, &own) {
		return own
	}
	code := uint(types.ErrInternal)
	var refusal *portapi.Error
	var away *awayError
	switch {
	case errors.As(err, &away):
		code = types.ErrTryAgainLater
	case errors.As(err, &refusal):
		switch refusal.Kind {
		case portapi.KindInvalid:
			code = types.ErrInvalidNetworkConfig
		case portapi.KindConflict:
			code = codeConflict
		case portapi.KindExhausted:
			code = codeExhausted
		case portapi.KindUnavailable:
			code = types.ErrTryAgainLater
		}
	}
	return types.NewError(code, err.Error(), "")
}

// detachWait is how long DEL waits for the agent, which answers after
// portapi.DetachTimeout at the latest.
const detachWait = portapi.DetachTimeout + time.Second

// rollBackWait is what ADD keeps of its time for undoing.
const rollBackWait = 2 * time.Second
