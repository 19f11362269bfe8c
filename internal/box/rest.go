package box

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/serve"
)

// rest speaks JSON with one service, as curl would.
type rest struct {
	client *http.Client
	base   string
}

const restTimeout = 10 * time.Second

// openPort is a service on the loopback of the namespace that Up runs in.
func openPort(address string) rest {
	return rest{&http.Client{Timeout: restTimeout}, "http://" + address}
}

// socket is a service behind a unix socket.
func socket(path string) (rest, error) {
	client, base, err := serve.Client("unix:"+path, nil, false)
	if err != nil {
		return rest{}, err
	}
	client.Timeout = restTimeout
	return rest{client, base}, nil
}

// restError is an answer that says no.
type restError struct {
	method, url string
	status      int
	body        string
}

func (e *restError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.method, e.url, e.status, strings.TrimSpace(e.body))
}

// do sends in (unless nil) and decodes the answer into out (unless nil).
func (r rest) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return err // names method and URL
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode/100 != 2 {
		return &restError{method, r.base + path, response.StatusCode, string(data)}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: decode answer: %w", method, path, err)
	}
	return nil
}
