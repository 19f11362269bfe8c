package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// Options say how the configuration API, or another service, is reached.
type Options struct {
	// Service and Flag are what messages call the service and the flag with its
	// address; empty for the configuration API and --config.
	Service, Flag string
	// Address is unix:PATH, HOST:PORT or an http or https URL.
	Address string
	// CA is a file with the certificates that the API's may be signed by;
	// empty for those of the system.
	CA string
	// Token is sent as bearer token; empty for none.
	Token string
}

// Client speaks to the REST interface of the configuration API. It is safe for
// concurrent use.
type Client struct {
	http          *http.Client
	base          string
	address       string
	token         string
	service, flag string
}

// connectTimeout bounds how long connecting may take.
const connectTimeout = 5 * time.Second

// longestAnswer bounds what is read of one answer, in bytes.
const longestAnswer = 1 << 30

// NewClient makes a client. It does not connect yet.
func NewClient(o Options) (*Client, error) {
	transport := &http.Transport{
		IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	transport.DialContext = dialer.DialContext
	c := &Client{
		http: &http.Client{Transport: transport}, address: o.Address, token: o.Token,
		service: cmp.Or(o.Service, "configuration API"), flag: cmp.Or(o.Flag, "--config"),
	}
	if path, ok := strings.CutPrefix(o.Address, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		c.base = "http://localhost"
		return c, nil
	}
	u, err := parseAddress(o.Address)
	if err != nil {
		return nil, fmt.Errorf("%s %w", c.flag, err)
	}
	c.base = u
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: no certificate in it; want PEM", o.CA)
		}
		transport.TLSClientConfig = ctls.UserClient(pool, ctls.RoleController)
	}
	return c, nil
}

// parseAddress makes a base URL of HOST:PORT or of an http or https URL.
func parseAddress(text string) (string, error) {
	wrong := func() (string, error) {
		return "", fmt.Errorf("%q: want unix:PATH, HOST:PORT or an http or https URL", text)
	}
	if !strings.Contains(text, "://") {
		if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
			return wrong()
		}
		return "http://" + text, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return wrong()
	}
	return strings.TrimSuffix(u.Scheme+"://"+u.Host+u.Path, "/"), nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// APIError is a request that the API refused.
type APIError struct {
	// Status is that of HTTP.
	Status int
	// Text is what the API says.
	Text string
}

func (e *APIError) Error() string {
	text := strings.TrimSpace(e.Text)
	if text == "" {
		text = http.StatusText(e.Status)
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return text + "; log in with `contrail login`"
	case http.StatusForbidden:
		return text + "; ask an administrator, or log in as someone who may: `contrail login`"
	case http.StatusServiceUnavailable:
		return text + "; see `contrail status`"
	}
	return text
}

// isNotFound tells whether the API says that something does not exist.
func isNotFound(err error) bool {
	var e *APIError
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// send sends a request and returns the answer's body and headers.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, header http.Header, in any) ([]byte, http.Header, error) {
	resp, err := c.open(ctx, method, path, q, header, in)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, longestAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of the %s at %s: %w", c.service, c.address, err)
	}
	return data, resp.Header, nil
}

// open sends a request and returns the answer when it is a success.
func (c *Client) open(ctx context.Context, method, path string, q url.Values, header http.Header, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is said better below
		}
		return nil, fmt.Errorf("%s at %s does not answer: %w; see %s and `contrail status`", c.service, c.address, err, c.flag)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		text = nil // the status says enough
	}
	return nil, &APIError{Status: resp.StatusCode, Text: string(text)}
}

// getJSON reads the answer to a GET into out.
func (c *Client) getJSON(ctx context.Context, path string, q url.Values, out any) error {
	data, _, err := c.send(ctx, http.MethodGet, path, q, nil, nil)
	if err != nil {
		return err
	}
	return readAnswer(data, out)
}

func readAnswer(data []byte, out any) error {
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("the configuration API answers no JSON of the expected form: %w; is --config its address?", err)
	}
	return nil
}

// pageSize is how many objects are asked for at a time.
const pageSize = 500

// list yields the objects of a type page by page. query may restrict them;
// what it asks for in fields is in the objects.
func (c *Client) list(ctx context.Context, t *model.Type, query url.Values, each func(object) error) error {
	q := url.Values{"page_limit": {strconv.Itoa(pageSize)}, "exclude_hrefs": {"true"}}
	for name, values := range query {
		q[name] = values
	}
	for {
		var page map[string]json.RawMessage
		if err := c.getJSON(ctx, "/"+t.Collection(), q, &page); err != nil {
			return err
		}
		var objects []object
		if err := readAnswer(page[t.Collection()], &objects); err != nil {
			return err
		}
		for _, o := range objects {
			if err := each(o); err != nil {
				return err
			}
		}
		var marker string
		if raw, ok := page["marker"]; ok {
			if err := readAnswer(raw, &marker); err != nil {
				return err
			}
		}
		if marker == "" || len(objects) == 0 {
			return nil
		}
		q.Set("page_marker", marker)
	}
}

// read returns an object with what hangs on it, and its ETag.
func (c *Client) read(ctx context.Context, t *model.Type, uuid string, query url.Values) (object, string, error) {
	q := url.Values{"exclude_hrefs": {"true"}}
	for name, values := range query {
		q[name] = values
	}
	data, header, err := c.send(ctx, http.MethodGet, "/"+string(t.Kind)+"/"+uuid, q, nil, nil)
	if err != nil {
		return nil, "", err
	}
	var envelope map[string]object
	if err := readAnswer(data, &envelope); err != nil {
		return nil, "", err
	}
	return envelope[string(t.Kind)], header.Get("ETag"), nil
}

// idOf returns the UUID of the object with a full name.
func (c *Client) idOf(ctx context.Context, t *model.Type, name []string) (string, error) {
	data, _, err := c.send(ctx, http.MethodPost, "/fqname-to-id", nil, nil, map[string]any{"type": t.Kind, "fq_name": name})
	if err != nil {
		return "", err
	}
	var out struct{ UUID string }
	err = readAnswer(data, &out)
	return out.UUID, err
}

// write is a change that is sent, or only tried.
type write struct {
	dryRun bool
	// ifMatch is the ETag that the object must still have; empty for any.
	ifMatch string
}

func (w write) query() url.Values {
	if w.dryRun {
		return url.Values{"dry_run": {"true"}}
	}
	return nil
}

func (c *Client) create(ctx context.Context, t *model.Type, fields object, w write) (string, error) {
	data, _, err := c.send(ctx, http.MethodPost, "/"+t.Collection(), w.query(), nil, map[string]object{string(t.Kind): fields})
	if err != nil {
		return "", err
	}
	var envelope map[string]struct{ UUID string }
	err = readAnswer(data, &envelope)
	return envelope[string(t.Kind)].UUID, err
}

func (c *Client) update(ctx context.Context, t *model.Type, uuid string, fields object, w write) error {
	header := http.Header{}
	if w.ifMatch != "" {
		header.Set("If-Match", w.ifMatch)
	}
	_, _, err := c.send(ctx, http.MethodPut, "/"+string(t.Kind)+"/"+uuid, w.query(), header, map[string]object{string(t.Kind): fields})
	return err
}

func (c *Client) delete(ctx context.Context, t *model.Type, uuid string, w write) error {
	_, _, err := c.send(ctx, http.MethodDelete, "/"+string(t.Kind)+"/"+uuid, w.query(), nil, nil)
	return err
}
