package image

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// patience is how long a registry is waited for. The whole of a pull is bounded
// by Config.Timeout; these find out earlier that nothing comes of it. Zero
// fields have defaults.
type patience struct {
	// answer bounds the time from a request to the header of its answer:
	// connection, TLS and redirection to storage included.
	answer time.Duration
	// silence bounds the time in which nothing of a body comes.
	silence time.Duration
	// Of a body that is waited for, at least atLeast bytes come in each window.
	window  time.Duration
	atLeast int64
}

func (p patience) withDefaults() patience {
	return patience{
		answer: cmp.Or(p.answer, 10*time.Second), silence: cmp.Or(p.silence, 10*time.Second),
		window: cmp.Or(p.window, 30*time.Second), atLeast: cmp.Or(p.atLeast, 64<<10),
	}
}

// stalled is the error of a registry that does not go on. It is not temporary
// in the sense of the registry client: to ask again would only double the wait.
type stalled struct {
	host, what string
}

func (s *stalled) Error() string {
	return fmt.Sprintf("registry %s %s: check the registry, and the network between it and this node", s.host, s.what)
}

func (s *stalled) Is(target error) bool { return target == ErrUnreachable }

// patient gives up requests whose answers stall.
type patient struct {
	patience
	next http.RoundTripper
}

func (p *patient) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(request.Context())
	host := request.URL.Host
	timer := time.AfterFunc(p.answer, func() { cancel(&stalled{host, fmt.Sprintf("has not answered within %s", p.answer)}) })
	response, err := p.next.RoundTrip(request.WithContext(ctx))
	if !timer.Stop() && err == nil {
		response.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := (*stalled)(nil); asStalled(ctx, &cause) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	response.Body = &patientBody{patience: p.patience, body: response.Body, host: host, ctx: ctx, cancel: cancel}
	return response, nil
}

func asStalled(ctx context.Context, to **stalled) bool {
	cause, ok := context.Cause(ctx).(*stalled)
	*to = cause
	return ok
}

// patientBody counts the time spent waiting for the registry only, not that of
// its reader.
type patientBody struct {
	patience
	body   io.ReadCloser
	host   string
	ctx    context.Context
	cancel context.CancelCauseFunc
	waited time.Duration // in the present window
	got    int64
}

func (b *patientBody) Read(buffer []byte) (int, error) {
	timer := time.AfterFunc(b.silence, func() { b.cancel(&stalled{b.host, fmt.Sprintf("has sent nothing for %s", b.silence)}) })
	began := time.Now()
	n, err := b.body.Read(buffer)
	timer.Stop()
	if err != nil {
		if cause := (*stalled)(nil); err != io.EOF && asStalled(b.ctx, &cause) {
			err = cause
		}
		return n, err
	}
	b.waited, b.got = b.waited+time.Since(began), b.got+int64(n)
	if b.waited >= b.window {
		if b.got < b.atLeast {
			cause := &stalled{b.host, fmt.Sprintf("has sent %d bytes in %s, which is too slow", b.got, b.window)}
			b.cancel(cause)
			return n, cause
		}
		b.waited, b.got = 0, 0
	}
	return n, nil
}

func (b *patientBody) Close() error {
	defer b.cancel(nil)
	return b.body.Close()
}
