package configapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// events is a client of /watch.
type events struct {
	testing.TB
	lines chan string
	stop  func()
	// id is that of the last event that had one.
	id string
}

// watch opens a stream; nobody reads it before next does, beyond what fits
// into the connection.
func (c *classic) watch(query string) *events {
	c.Helper()
	return c.watchAfter(query, "")
}

// watchAfter opens a stream that goes on after an event.
func (c *classic) watchAfter(query, id string) *events {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", c.url+"/watch?"+query, nil)
	if err != nil {
		c.Fatal(err)
	}
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(kind, "text/event-stream") {
		text, _ := io.ReadAll(resp.Body)
		c.Fatalf("watch: %d %s %s", resp.StatusCode, kind, text)
	}
	e := &events{TB: c.TB, lines: make(chan string)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(e.lines)
		for s := bufio.NewReader(resp.Body); ; {
			line, err := s.ReadString('\n')
			if err != nil {
				return
			}
			select {
			case e.lines <- strings.TrimSuffix(line, "\n"):
			case <-ctx.Done():
				return
			}
		}
	}()
	e.stop = func() {
		cancel()
		resp.Body.Close()
		<-done
	}
	c.Cleanup(e.stop)
	return e
}

func (e *events) line() string {
	e.Helper()
	select {
	case line, ok := <-e.lines:
		if !ok {
			e.Fatal("the stream has ended")
		}
		return line
	case <-time.After(time.Minute):
		e.Fatal("no event")
		return ""
	}
}

// next reads one event: its name, the key of its data, and what is under it.
func (e *events) next() (name, key string, value any) {
	e.Helper()
	first := e.line()
	for strings.HasPrefix(first, ":") {
		e.line()
		first = e.line()
	}
	if id, has := strings.CutPrefix(first, "id: "); has {
		e.id, first = id, e.line()
	}
	name, ok := strings.CutPrefix(first, "event: ")
	data, two := strings.CutPrefix(e.line(), "data: ")
	var body m
	if err := json.Unmarshal([]byte(data), &body); !ok || !two || err != nil || len(body) != 1 || e.line() != "" {
		e.Fatalf("event %q with data %q: %v", name, data, err)
	}
	for key, value = range body {
	}
	return name, key, value
}

// want reads events until one of this name is about the object.
func (e *events) want(name, key, id string) m {
	e.Helper()
	got, kind, value := e.next()
	object, _ := value.(m)
	if got != name || kind != key || object["uuid"] != id {
		e.Fatalf("event %s of %s %v, want %s of %s %s", got, kind, object["uuid"], name, key, id)
	}
	return object
}

// A.1: the initial state, then what happens.
func TestContractWatch(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	blue := c.network("p", "blue", "10.1.0.0/24")
	e := c.watch("resource_type=virtual-network,security_group")
	states := map[string]l{}
	for range 2 {
		name, key, value := e.next()
		if name != "init" {
			t.Fatalf("event %s", name)
		}
		states[key] = value.(l)
	}
	var found m
	for _, o := range states["virtual-networks"] {
		if o := o.(m)["virtual-network"].(m); o["uuid"] == blue {
			found = o
		}
	}
	if len(states["virtual-networks"]) != 5 || len(states["security_groups"]) != 1 || found["network_ipam_refs"] == nil || found["href"] == nil {
		t.Errorf("initial state %v", states)
	}
	if states["security_groups"][0].(m)["security_group"] == nil {
		t.Errorf("initial state %v", states["security_groups"])
	}
	group := c.create("security-group", m{"fq_name": l{"default-domain", "p", "g"}})
	if o := e.want("create", "security_group", group); o["security_group_id"] == nil {
		t.Errorf("created %v", o)
	}
	c.create("virtual-machine", m{"fq_name": l{"nobody watches this"}})
	c.do("PUT", "/virtual-network/"+blue, m{"virtual-network": m{"is_shared": true}})
	if o := e.want("update", "virtual-network", blue); o["is_shared"] != true {
		t.Errorf("updated %v", o)
	}
	policy := c.create("network-policy", m{"fq_name": l{"default-domain", "p", "policy"}})
	c.do("POST", "/ref-update", m{"type": "virtual-network", "uuid": blue, "ref-type": "network-policy", "ref-uuid": policy, "operation": "ADD"})
	if o := e.want("update", "virtual-network", blue); !slices.Equal(uuidsOf(o["network_policy_refs"]), []string{policy}) {
		t.Errorf("updated %v", o)
	}
	c.delete("security-group", group)
	e.want("delete", "security_group", group)

	c.fails(404, "Resource type 'fish' not found", "GET", "/watch?resource_type=fish", nil)
	c.fails(400, "Bad Request", "GET", "/watch", nil)
	c.fails(400, "Bad Request", "GET", "/watch?resource_type=", nil)
}

// Views are watched like other objects.
func TestContractWatchViews(t *testing.T) {
	c := newClassic(t)
	c.project("p")
	e := c.watch("resource_type=routing-instance")
	if _, _, value := e.next(); len(value.(l)) != 5 {
		t.Errorf("initial state %v", value)
	}
	blue := c.network("p", "blue", "10.1.0.0/24")
	view := c.id("routing-instance", "default-domain:p:blue:blue")
	if o := e.want("create", "routing-instance", view); len(o["route_target_refs"].(l)) != 1 {
		t.Errorf("created %v", o)
	}
	c.do("PUT", "/virtual-network/"+blue, m{"virtual-network": m{"route_target_list": m{"route_target": l{"target:1:7"}}}})
	if o := e.want("update", "routing-instance", view); len(o["route_target_refs"].(l)) != 2 {
		t.Errorf("updated %v", o)
	}
	targets := c.watch("resource_type=route-target")
	targets.next()
	id := c.do("POST", "/fqname-to-id", m{"type": "route-target", "fq_name": l{"target:1:7"}})["uuid"]
	c.delete("virtual-network", blue)
	e.want("delete", "routing-instance", view)
	for range 2 {
		name, _, value := targets.next()
		if name != "delete" {
			t.Errorf("%s of %v, want delete of %s and the network's own", name, value, id)
		}
	}
}

// A client that does not read holds up nobody, and gets what is so now when it
// reads again.
func TestContractWatchSlow(t *testing.T) {
	c := newClassic(t)
	c.bench.api.patience = time.Hour // it is not about how fast this machine is
	slow := c.watch("resource_type=virtual-machine")
	quick := c.watch("resource_type=virtual-machine")
	slow.next()
	quick.next()
	big := strings.Repeat("x", 100_000)
	vm := c.create("virtual-machine", m{"fq_name": l{"vm"}})
	quick.want("create", "virtual-machine", vm)
	const rounds = 150 // more than the buffers of a connection hold
	for i := range rounds {
		c.do("PUT", "/virtual-machine/"+vm, m{"virtual-machine": m{"display_name": fmt.Sprint(i) + big}})
		if o := quick.want("update", "virtual-machine", vm); !strings.HasPrefix(o["display_name"].(string), fmt.Sprint(i)+"x") {
			t.Fatalf("update %d is %.20v", i, o["display_name"])
		}
	}
	slow.want("create", "virtual-machine", vm)
	last := fmt.Sprint(rounds-1) + "x"
	for n := 1; ; n++ {
		o := slow.want("update", "virtual-machine", vm)
		if strings.HasPrefix(o["display_name"].(string), last) {
			if n == rounds {
				t.Error("a slow client got every single change")
			}
			break
		}
	}
}

// Comments keep a stream open; it ends with the server, and a client that goes
// leaves nothing.
func TestContractWatchEnds(t *testing.T) {
	c := newClassic(t)
	c.bench.api.watchPause = 5 * time.Millisecond
	e := c.watch("resource_type=bgp-router")
	if _, _, value := e.next(); len(value.(l)) != 0 {
		t.Errorf("initial state %v", value)
	}
	for range 2 {
		if comment, end := e.line(), e.line(); !strings.HasPrefix(comment, ":") || end != "" {
			t.Errorf("lines %q %q", comment, end)
		}
	}
	if n := c.bench.api.watchers.Load(); n != 1 {
		t.Errorf("%d watchers", n)
	}
	e.stop()
	for end := time.Now().Add(time.Minute); c.bench.api.watchers.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the watcher stays")
		}
	}
	c.bench.api.watchers.Store(maxWatchers)
	c.fails(503, "", "GET", "/watch?resource_type=bgp-router", nil)
	c.bench.api.watchers.Store(0)
}
