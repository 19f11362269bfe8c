//go:build net

package controllers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/test/controllers"
)

const root = "../.."

// client uses several controllers as HTTP clients do: where a connection is
// refused or a controller answers 503 it goes to the next one.
type client struct {
	https []*http.Client
	bases []string
	at    int
	// longest is what the longest request took with all its tries.
	longest time.Duration
	retries int
}

func newClient(t *testing.T, members ...*controllers.Controller) *client {
	c := &client{}
	for _, m := range members {
		h, base := m.Client()
		h.Timeout = 30 * time.Second
		c.https, c.bases = append(c.https, h), append(c.bases, base)
	}
	t.Cleanup(func() {
		for _, h := range c.https {
			h.CloseIdleConnections()
		}
	})
	return c
}

// once sends a request to the controller in use.
func (c *client) once(method, path, body string) (int, string, error) {
	r, err := http.NewRequest(method, c.bases[c.at]+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.https[c.at].Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// do tries until an answer is no 503.
func (c *client) do(method, path, body string) (int, string, error) {
	started := time.Now()
	defer func() { c.longest = max(c.longest, time.Since(started)) }()
	for {
		status, text, err := c.once(method, path, body)
		if err == nil && status != http.StatusServiceUnavailable {
			return status, text, nil
		}
		if time.Since(started) > 2*time.Minute {
			return status, text, fmt.Errorf("no answer in time: %d %s: %w", status, text, err)
		}
		c.retries++
		c.at = (c.at + 1) % len(c.https)
		time.Sleep(20 * time.Millisecond)
	}
}

var count atomic.Int64

// network is a body that creates a network, and its UUID.
func network() (string, string) {
	id := model.NewUUID()
	return fmt.Sprintf(`{"virtual-network": {"fq_name": ["default-domain", "default-project", "n%d"], "uuid": %q}}`, count.Add(1), id), id
}

func (c *client) mustCreate(t *testing.T) string {
	t.Helper()
	body, id := network()
	if status, text, err := c.do(http.MethodPost, "/virtual-networks", body); err != nil || status != http.StatusOK {
		t.Fatalf("create: %d %s (%v)", status, text, err)
	}
	return id
}

func (c *client) mustRead(t *testing.T, id string) {
	t.Helper()
	if status, text, err := c.do(http.MethodGet, "/virtual-network/"+id, ""); err != nil || status != http.StatusOK {
		t.Fatalf("read %s at %s: %d %s (%v)", id, c.bases[c.at], status, text, err)
	}
}

type member struct{ Name, State string }

// list returns the members by name, as one controller sees them.
func list(t *testing.T, c *controllers.Controller) map[string]string {
	t.Helper()
	out, err := c.Command(append([]string{"controller", "list", "-o", "json"}, c.StoreFlags()...)...)
	if err != nil {
		t.Fatal(err)
	}
	var members []member
	if err := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(&members); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	states := map[string]string{}
	for _, m := range members {
		states[m.Name] = m.State
	}
	return states
}

// threeVote waits until none of three members is a learner any more, so that two
// go on without the third.
func threeVote(t *testing.T, m *controllers.Controller) {
	t.Helper()
	eventually(t, "three full members", func() bool {
		states := list(t, m)
		return len(states) == 3 && strings.Count(strings.Join(values(states), " "), "follower") == 2
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leader returns the controller that leads, and the others.
func leader(t *testing.T, set *controllers.Set) (*controllers.Controller, []*controllers.Controller) {
	t.Helper()
	var lead *controllers.Controller
	var others []*controllers.Controller
	states := list(t, set.Members[0])
	for _, m := range set.Members {
		if states[m.Name] == "leader" {
			lead = m
		} else {
			others = append(others, m)
		}
	}
	if lead == nil {
		t.Fatalf("no leader: %v", states)
	}
	return lead, others
}
