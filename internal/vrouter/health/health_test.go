package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// fakeNet reaches one server by any alias, and answers pings as it is told.
type fakeNet struct {
	server string
	mu     sync.Mutex
	ping   error
	dialed []netip.AddrPort
}

func (f *fakeNet) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	f.mu.Lock()
	f.dialed = append(f.dialed, to)
	f.mu.Unlock()
	if f.server == "" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", f.server)
}

func (f *fakeNet) Ping(context.Context, netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ping
}

func (f *fakeNet) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ping = err
}

func check(port, id string) Check {
	return Check{
		Key: Key{port, id}, Kind: Ping, Alias: netip.MustParseAddr("169.254.0.2"), Address: netip.MustParseAddr("10.0.0.3"),
		Delay: time.Millisecond, Timeout: time.Second, Retries: 2,
	}
}

// TestVerdicts: a check fails after so many failures in a row and passes after
// one success, whatever comes before.
func TestVerdicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		retries := rapid.IntRange(1, 4).Draw(t, "retries")
		s := State{Check: Check{Retries: retries}, Failing: rapid.Bool().Draw(t, "adopted")}
		failing := s.Failing
		var outcomes []bool
		for range rapid.IntRange(0, 30).Draw(t, "probes") {
			failed := rapid.Bool().Draw(t, "failed")
			outcomes = append(outcomes, failed)
			last := outcomes[max(len(outcomes)-retries, 0):]
			want := failing
			switch {
			case !failed:
				want = false
			case len(last) == retries && !slices.Contains(last, false):
				want = true
			}
			if changed := s.judge("reason", failed, time.Now()); s.Failing != want || changed != (want != failing) {
				t.Fatalf("after %v it fails: %t (changed %t), want %t", outcomes, s.Failing, changed, want)
			}
			failing = want
		}
	})
}

// TestAsk: what counts as an answer, and what is said of what does not.
func TestAsk(t *testing.T) {
	var hung atomic.Int64
	release := make(chan struct{})
	handler := http.NewServeMux()
	handler.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Method, " ", r.Host)
	})
	handler.HandleFunc("/status/503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	handler.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	handler.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for { // until nobody reads
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	handler.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("x", 64<<10)) })
	handler.HandleFunc("/hang", func(http.ResponseWriter, *http.Request) { hung.Add(1); <-release })
	handler.HandleFunc("/host", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "10.0.0.3:8080" && r.Host != "web.example" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	defer close(release)
	secure.Config.ErrorLog, plain.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0), slog.NewLogLogger(slog.DiscardHandler, 0)
	garbage, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer garbage.Close()
	go func() {
		for {
			conn, err := garbage.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_, _ = conn.Write([]byte("\x1b[2J\xff nothing\r\n\r\n"))
			_ = conn.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	ok := []Codes{{200, 200}}
	at := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for name, test := range map[string]struct {
		server string
		check  Check
		want   string // "" passes
	}{
		"ping":           {"", Check{Kind: Ping}, ""},
		"tcp":            {at(plain), Check{Kind: TCP, TCPPort: 8080}, ""},
		"tcp refused":    {closed.Addr().String(), Check{Kind: TCP, TCPPort: 8080}, "connection refused"},
		"tcp silent":     {"", Check{Kind: TCP, TCPPort: 8080, Timeout: 10 * time.Millisecond}, "no answer within 10ms"},
		"http":           {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/ok", Codes: ok}, ""},
		"http head":      {at(plain), Check{Kind: HTTP, Method: "HEAD", URL: "http://local-ip/ok", Codes: ok}, ""},
		"https":          {at(secure), Check{Kind: HTTP, Method: "GET", URL: "https://local-ip/ok", Codes: ok}, ""},
		"status":         {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/status/503", Codes: ok}, "HTTP status 503"},
		"status wanted":  {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/status/503", Codes: []Codes{{200, 204}, {500, 599}}}, ""},
		"no redirects":   {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/moved", Codes: ok}, "HTTP status 302"},
		"endless body":   {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/endless", Codes: ok}, ""},
		"endless header": {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/header", Codes: ok}, "the answer is none of HTTP"},
		"hangs":          {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/hang", Codes: ok, Timeout: 50 * time.Millisecond}, "no answer within 50ms"},
		"own host":       {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip:8080/host", Codes: ok}, ""},
		"other host":     {at(plain), Check{Kind: HTTP, Method: "GET", URL: "http://web.example/host", Codes: ok}, ""},
		"garbage":        {garbage.Addr().String(), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/", Codes: ok}, "the answer is none of HTTP"},
		"http refused":   {closed.Addr().String(), Check{Kind: HTTP, Method: "GET", URL: "http://local-ip/", Codes: ok}, "connection refused"},
	} {
		c := check("p", "h")
		timeout := c.Timeout
		c.Kind, c.TCPPort, c.Method, c.URL, c.Codes = test.check.Kind, test.check.TCPPort, test.check.Method, test.check.URL, test.check.Codes
		if c.Timeout = test.check.Timeout; c.Timeout == 0 {
			c.Timeout = 5 * timeout
		}
		network := &fakeNet{server: test.server}
		reason, failed, _ := c.ask(t.Context(), network)
		if reason != test.want || failed != (test.want != "") {
			t.Errorf("%s: failed %t, reason %q, want %q", name, failed, reason, test.want)
		}
		for _, to := range network.dialed {
			if to.Addr() != c.Alias {
				t.Errorf("%s: it connected to %s, want nobody but %s", name, to, c.Alias)
			}
		}
	}
	c := check("p", "h")
	c.Kind, c.Method, c.URL, c.Codes = HTTP, "GET", "http://web.example:8081/", ok
	network := &fakeNet{server: at(plain)}
	_, _, _ = c.ask(t.Context(), network)
	if want := []netip.AddrPort{netip.AddrPortFrom(c.Alias, 8081)}; !slices.Equal(network.dialed, want) {
		t.Errorf("it connected to %v, want %v", network.dialed, want)
	}
}

// eventually waits for what a checker says.
func eventually(t *testing.T, c *Checker, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s; there is %+v", what, c.States())
		}
	}
}

// TestChecker: checks fail and pass again; what is set anew keeps its verdict,
// what is taken away has none, and what an earlier process knew stands until a
// probe says something else.
func TestChecker(t *testing.T) {
	network := &fakeNet{ping: errors.New("nothing")}
	var changes atomic.Int64
	c := New(quiet(), func() { changes.Add(1) })
	defer c.Close()
	c.Set(network, []Check{check("p", "one"), check("p", "two"), check("q", "one")})
	eventually(t, c, "checks to fail, and to be told so once for each", func() bool {
		return len(c.Failing("p")) == 2 && len(c.Failing("q")) == 1 && changes.Load() == 3
	})
	slower := check("p", "one")
	slower.Delay = time.Hour
	c.Set(network, []Check{slower, check("p", "two")})
	if got := c.Failing("p"); len(got) != 2 || len(c.Failing("q")) != 0 || changes.Load() != 4 {
		t.Errorf("after a change %v and %v fail, told %d times", got, c.Failing("q"), changes.Load())
	}
	network.set(nil)
	eventually(t, c, "a check to pass again", func() bool { return len(c.Failing("p")) == 1 })
	if got := c.Failing("p"); got[0].Check != "one" {
		t.Errorf("%v fails, want the one that was not asked", got)
	}
	c.Set(nil, nil)
	if len(c.AllFailing()) != 0 || len(c.States()) != 0 {
		t.Errorf("of checks that are gone is left %v", c.States())
	}

	adopted := map[string][]Failure{"p": {{Check: "one", Reason: "old"}, {Check: "gone", Reason: "old"}}}
	c.Adopt(adopted)
	if got := c.Failing("p"); len(got) != 2 {
		t.Errorf("adopted is %v", got)
	}
	c.Set(network, []Check{slower})
	if got := c.Failing("p"); len(got) != 1 || got[0] != adopted["p"][0] {
		t.Errorf("adopted fails as %v", got)
	}
	c.Set(network, []Check{check("p", "one")})
	eventually(t, c, "the adopted one to pass", func() bool { return len(c.Failing("p")) == 0 })
}

// TestBounds: a port, and a node, has so many checks; what is beyond is not
// asked, and shown.
func TestBounds(t *testing.T) {
	network := &fakeNet{ping: unix.EHOSTUNREACH}
	c := New(quiet(), func() {})
	defer c.Close()
	var checks []Check
	for i := range MaxPortChecks + 2 {
		k := check("crowded", fmt.Sprintf("%03d", i))
		k.Delay = time.Hour
		checks = append(checks, k)
	}
	for i := range MaxChecks {
		k := check(fmt.Sprintf("z%04d", i), "one")
		k.Delay = time.Hour
		checks = append(checks, k)
	}
	c.Set(network, checks)
	left := map[string]int{}
	for _, s := range c.States() {
		left[s.Left]++
	}
	if left[""] != MaxChecks || left["the port has more checks than it may have"] != 2 || left["the node has more checks than it may have"] != MaxPortChecks {
		t.Errorf("not asked are %v", left)
	}
}

// TestLog: a port whose answers change all the time does not fill the node's log.
func TestLog(t *testing.T) {
	var mu sync.Mutex
	lines := 0
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		lines++
		return len(p), nil
	}), nil))
	c := New(log, func() {})
	defer c.Close()
	flapping := check("p", "h")
	flapping.Retries = 1
	c.Set(&flapNet{}, []Check{flapping})
	eventually(t, c, "300 probes", func() bool { return c.States()[0].Asked >= 300 })
	mu.Lock()
	defer mu.Unlock()
	if lines == 0 || lines > 100 {
		t.Errorf("300 probes with another outcome each made %d lines", lines)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// flapNet answers every second time.
type flapNet struct{ asked atomic.Int64 }

func (f *flapNet) Dial(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, unix.ECONNREFUSED
}

func (f *flapNet) Ping(context.Context, netip.Addr) error {
	if f.asked.Add(1)%2 == 1 {
		return unix.EHOSTUNREACH
	}
	return nil
}

// TestNotSent: what the node itself cannot send changes no verdict.
func TestNotSent(t *testing.T) {
	network := &fakeNet{}
	c := New(quiet(), func() {})
	defer c.Close()
	ping, http := check("p", "ping"), check("p", "web")
	http.Kind, http.Method, http.URL, http.Codes = HTTP, "GET", "http://local-ip/", []Codes{{200, 200}}
	ping.Retries, http.Retries = 1, 1
	broken := &brokenNet{}
	c.Set(broken, []Check{ping, http})
	for deadline := time.Now().Add(10 * time.Second); broken.asked.Load() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d probes", broken.asked.Load())
		}
	}
	if failing := c.AllFailing(); len(failing) != 0 {
		t.Errorf("%v fail, of which the node asked none", failing)
	}
	network.set(unix.EHOSTUNREACH)
	c.Set(network, []Check{ping})
	eventually(t, c, "that it fails", func() bool { return len(c.Failing("p")) == 1 })
	asked := broken.asked.Load()
	c.Set(broken, []Check{ping})
	for deadline := time.Now().Add(10 * time.Second); broken.asked.Load() < asked+5; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d probes", broken.asked.Load())
		}
	}
	if len(c.Failing("p")) != 1 {
		t.Error("a check passes because it cannot be made")
	}
}

// brokenNet is that of a node without descriptors.
type brokenNet struct{ asked atomic.Int64 }

func (b *brokenNet) Dial(context.Context, netip.AddrPort) (net.Conn, error) {
	b.asked.Add(1)
	return nil, fmt.Errorf("%w: %w", ErrNotSent, unix.EMFILE)
}

func (b *brokenNet) Ping(context.Context, netip.Addr) error {
	b.asked.Add(1)
	return fmt.Errorf("%w: %w", ErrNotSent, unix.EMFILE)
}
