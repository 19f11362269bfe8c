package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Network reaches ports by their aliases. Errors are as of package prober: what does
// not leave the node is ErrNotSent.
type Network interface {
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Ping(ctx context.Context, to netip.Addr) error
}

// ErrNotSent is the error of a probe that did not leave the node: it says nothing of
// the port.
var ErrNotSent = errors.New("the node cannot send the probe")

// maxHeader bounds the header of an HTTP answer, in bytes.
const maxHeader = 16 << 10

// localIP is the host that stands for the port's address.
const localIP = "local-ip"

// ask sends one probe, and tells whether it could. The reason of a failure is for
// people, and says nothing in the words of the port.
func (c *Check) ask(ctx context.Context, network Network) (reason string, failed, sent bool) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var err error
	switch c.Kind {
	case Ping:
		err = network.Ping(ctx, c.Alias)
	case TCP:
		var conn net.Conn
		if conn, err = network.Dial(ctx, netip.AddrPortFrom(c.Alias, c.TCPPort)); err == nil {
			_ = conn.Close()
		}
	case HTTP:
		return c.askHTTP(ctx, network)
	default:
		err = fmt.Errorf("kind %q is not known", c.Kind)
	}
	return c.outcome(ctx, err, "the network refuses it")
}

func (c *Check) outcome(ctx context.Context, err error, other string) (reason string, failed, sent bool) {
	return c.reasonOf(ctx, err, other), err != nil, !errors.Is(err, ErrNotSent)
}

// reasonOf tells why there was no answer; other is for what is nothing usual.
func (c *Check) reasonOf(ctx context.Context, err error, other string) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrNotSent):
		return err.Error()
	case errors.Is(err, unix.ECONNREFUSED):
		return "connection refused"
	case ctx.Err() != nil:
		return fmt.Sprintf("no answer within %s", c.Timeout)
	case errors.Is(err, unix.ECONNRESET):
		return "connection reset"
	case errors.Is(err, unix.EHOSTUNREACH):
		return "no route to it"
	}
	return other
}

func (c *Check) askHTTP(ctx context.Context, network Network) (reason string, failed, sent bool) {
	request, err := c.request(ctx)
	if err != nil {
		return err.Error(), true, true
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			_, text, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, err
			}
			return network.Dial(ctx, netip.AddrPortFrom(c.Alias, uint16(port)))
		},
		// That the port answers is asked, not who it is: a container has no
		// certificate that the node could judge.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return c.outcome(ctx, err, "the answer is none of HTTP")
	}
	_ = response.Body.Close() // unread: the connection ends
	code := response.StatusCode
	if slices.ContainsFunc(c.Codes, func(r Codes) bool { return r.First <= code && code <= r.Last }) {
		return "", false, true
	}
	return fmt.Sprintf("HTTP status %d", code), true, true
}

// request is what an HTTP check asks.
func (c *Check) request(ctx context.Context) (*http.Request, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("the check's URL is none")
	}
	if u.Hostname() == localIP {
		host := c.Address.String()
		if port := u.Port(); port != "" {
			host = net.JoinHostPort(host, port)
		}
		u.Host = host
	}
	request, err := http.NewRequestWithContext(ctx, c.Method, u.String(), http.NoBody)
	if err != nil {
		return nil, errors.New("the check's method or URL is none")
	}
	request.Header.Set("User-Agent", "contrail-health-check")
	return request, nil
}
