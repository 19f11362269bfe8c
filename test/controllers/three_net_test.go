//go:build net

package controllers_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/test/controllers"
)

func TestNetThreeControllers(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	a, b, c := set.Members[0], set.Members[1], set.Members[2]

	// One that was alone, with data, becomes the first of three.
	a.Alone = true
	a.Start()
	a.WaitReady()
	old := newClient(t, a).mustCreate(t)
	a.Stop()
	a.Alone = false
	set.StartAll()
	full := func() { threeVote(t, b) }
	full()
	for _, m := range set.Members {
		newClient(t, m).mustRead(t, old)
	}

	t.Run("reads see writes anywhere", func(t *testing.T) { readsSeeWrites(t, set) })
	t.Run("leader killed", func(t *testing.T) {
		for range 4 { // what goes wrong then does not every time
			full()
			leaderKilled(t, set)
		}
		full()
	})
	t.Run("cut off", func(t *testing.T) { cutOff(t, set) })
	t.Run("replaced", func(t *testing.T) {
		c.Kill()
		c.Wipe()
		if out, err := a.Command(append([]string{"controller", "remove", "c"}, a.StoreFlags()...)...); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if states := list(t, a); len(states) != 2 {
			t.Fatalf("members %v, want two", states)
		}
		id := newClient(t, a, b).mustCreate(t)
		c.Start()
		c.WaitReady()
		eventually(t, "c is a full member again", func() bool { s := list(t, a)["c"]; return s == "follower" || s == "leader" })
		newClient(t, c).mustRead(t, id)
	})
	t.Run("first one's store dead", func(t *testing.T) { storeDead(t, set) })
	t.Run("rolling restart", func(t *testing.T) { rollingRestart(t, set) })
}

func values(m map[string]string) []string {
	var out []string
	for v := range maps.Values(m) {
		out = append(out, v)
	}
	return out
}

func readsSeeWrites(t *testing.T, set *controllers.Set) {
	writers, readers := make([]*client, 3), make([]*client, 3)
	for i, m := range set.Members {
		writers[i], readers[i] = newClient(t, m), newClient(t, m)
	}
	for i := range 60 {
		id := writers[i%3].mustCreate(t)
		readers[(i+1)%3].mustRead(t, id)
		readers[(i+2)%3].mustRead(t, id)
		if status, text, err := writers[(i+1)%3].do(http.MethodDelete, "/virtual-network/"+id, ""); err != nil || status != http.StatusOK {
			t.Fatalf("delete at another controller: %d %s (%v)", status, text, err)
		}
		if status, text, err := readers[(i+2)%3].do(http.MethodGet, "/virtual-network/"+id, ""); err != nil || status != http.StatusNotFound {
			t.Fatalf("read of what was deleted: %d %s (%v)", status, text, err)
		}
	}
}

// leaderKilled kills the leader under clients of the others: they pause.
func leaderKilled(t *testing.T, set *controllers.Set) {
	lead, others := leader(t, set)
	stop := make(chan struct{})
	clients := make([]*client, 8)
	var wg sync.WaitGroup
	for i := range clients {
		clients[i] = newClient(t, others[i%2])
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				body, _ := network()
				if status, text, err := clients[i].once(http.MethodPost, "/virtual-networks", body); err != nil || status != http.StatusOK {
					t.Errorf("create while the leader dies: %d %s (%v)", status, text, err)
					return
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // a load, as it is
	killed := time.Now()
	lead.Kill()
	probe := newClient(t, others[0])
	probe.mustCreate(t)
	pause := time.Since(killed)
	time.Sleep(time.Second)
	close(stop)
	wg.Wait()
	t.Logf("first write %v after the leader was killed", pause.Round(time.Millisecond))
	if pause > 8*time.Second {
		t.Errorf("writes paused for %v", pause)
	}
	lead.Start()
	lead.WaitReady()
}

// cutOff cuts one off: it must not answer old states as new ones.
func cutOff(t *testing.T, set *controllers.Set) {
	lead, others := leader(t, set)
	connected, alone := newClient(t, others[0], others[1]), newClient(t, lead)
	body, id := network()
	body = strings.Replace(body, "virtual-network", "network-policy", 1)
	if status, text, err := connected.do(http.MethodPost, "/network-policys", body); err != nil || status != http.StatusOK {
		t.Fatalf("create policy: %d %s (%v)", status, text, err)
	}
	refer := fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": "ADD", "attr": {"sequence": {"major": 0, "minor": 0}}}`,
		connected.mustCreate(t), id)
	for _, c := range []*client{connected, alone} {
		if status, text, err := c.do(http.MethodPost, "/ref-update", refer); err != nil || status != http.StatusOK {
			t.Fatalf("refer to the policy: %d %s (%v)", status, text, err)
		}
	}
	lead.Cut()
	// What is as it should be at the one cut off need not be so elsewhere.
	drop := strings.Replace(refer, "ADD", "DELETE", 1)
	if status, text, err := connected.do(http.MethodPost, "/ref-update", drop); err != nil || status != http.StatusOK {
		t.Fatalf("drop the reference: %d %s (%v)", status, text, err)
	}
	status, text, err := alone.once(http.MethodPost, "/ref-update", refer)
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "quorum") || !strings.Contains(text, "nothing was changed") {
		t.Errorf("refer to the policy at the one cut off: %d %s (%v), want 503 about the quorum", status, text, err)
	}
	id = connected.mustCreate(t)
	for _, path := range []string{"/virtual-network/" + id, "/virtual-networks"} {
		status, text, err := alone.once(http.MethodGet, path, "")
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "quorum") {
			t.Errorf("GET %s of the one cut off: %d %s (%v), want 503 about the quorum", path, status, text, err)
		}
	}
	// It is known by now that there is no quorum: nothing is sent.
	body, _ = network()
	status, text, err = alone.once(http.MethodPost, "/virtual-networks", body)
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "quorum") || !strings.Contains(text, "nothing was changed") {
		t.Errorf("create at the one cut off: %d %s (%v), want 503 about the quorum", status, text, err)
	}
	lead.Heal()
	alone.mustRead(t, id)
}

// storeDead takes the first one's store away for good. Nobody has told the first
// one where the others are.
func storeDead(t *testing.T, set *controllers.Set) {
	a, b := set.Members[0], set.Members[1]
	c := newClient(t, a)
	mend := a.Break()
	id := c.mustCreate(t)
	newClient(t, b).mustRead(t, id)
	// It knows them also when it has not seen its store since it was started.
	a.Stop()
	a.Start()
	a.WaitReady()
	newClient(t, b).mustRead(t, c.mustCreate(t))
	if state := list(t, b)["a"]; state != "unreachable" {
		t.Errorf("the member whose store is dead is %q", state)
	}
	mend()
	eventually(t, "the first is a member again", func() bool { return list(t, b)["a"] == "follower" })
}

// rollingRestart restarts one after the other under clients that retry.
func rollingRestart(t *testing.T, set *controllers.Set) {
	stop := make(chan struct{})
	clients := make([]*client, 6)
	counts := make([]int, len(clients))
	var wg sync.WaitGroup
	for i := range clients {
		clients[i] = newClient(t, set.Members...)
		clients[i].at = i % 3
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				body, id := network()
				status, text, err := clients[i].do(http.MethodPost, "/virtual-networks", body)
				if err != nil || status != http.StatusOK {
					t.Errorf("create: %d %s (%v)", status, text, err)
					return
				}
				if status, text, err = clients[i].do(http.MethodGet, "/virtual-network/"+id, ""); err != nil || status != http.StatusOK {
					t.Errorf("read: %d %s (%v)", status, text, err)
					return
				}
				counts[i]++
			}
		})
	}
	for _, m := range set.Members {
		m.Stop()
		m.Start()
		m.WaitReady()
	}
	close(stop)
	wg.Wait()
	total, retries, longest := 0, 0, time.Duration(0)
	for i, c := range clients {
		total, retries, longest = total+counts[i], retries+c.retries, max(longest, c.longest)
	}
	t.Logf("%d creates and reads, %d tries at another controller, the longest request took %v", total, retries, longest.Round(time.Millisecond))
}
