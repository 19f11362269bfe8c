//go:build net

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	base "github.com/contrail-mesos/contrail/test/cluster"
)

// routerObject is a bgp-router with a peering to the controller.
func (c *cluster) routerObject(name string, as int, at netip.Addr, more map[string]any) map[string]any {
	fabric := []string{"default-domain", "default-project", "ip-fabric", "__default__"}
	parameters := map[string]any{
		"router_type": "router", "autonomous_system": as, "identifier": at.String(), "address": at.String(),
		"address_families": map[string]any{"family": []string{"route-target", "inet-vpn"}},
	}
	for key, value := range more {
		parameters[key] = value
	}
	return map[string]any{"bgp-router": map[string]any{
		"parent_type": "routing-instance", "fq_name": append(fabric, name), "bgp_router_parameters": parameters,
		"bgp_router_refs": []map[string]any{{
			"to":   append(fabric, c.Name+"-controller"),
			"attr": map[string]any{"session": []map[string]any{{"attributes": []map[string]any{{"hold_time": 30}}}}},
		}},
	}}
}

// router makes such an object, for as long as the test lasts.
func (c *cluster) router(t *testing.T, name string, as int, at netip.Addr, more map[string]any) {
	t.Helper()
	var made struct {
		Router struct {
			UUID string `json:"uuid"`
		} `json:"bgp-router"`
	}
	c.api(t, "POST", "/bgp-routers", c.routerObject(name, as, at, more), &made)
	t.Cleanup(func() { c.api(t, "DELETE", "/bgp-router/"+made.Router.UUID, nil, nil) })
}

// api asks the configuration API, and fails the test if it refuses.
func (c *cluster) api(t *testing.T, method, path string, in, out any) {
	t.Helper()
	body := ""
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = string(data)
	}
	got := c.curl(t, method, config+path, body)
	if got.Status != 200 {
		t.Fatalf("%s %s: %d %s", method, path, got.Status, got.Body)
	}
	if out != nil {
		decode(t, got, out)
	}
}

// find is the UUID of an object.
func (c *cluster) find(t *testing.T, kind string, name ...string) string {
	t.Helper()
	var found struct {
		UUID string `json:"uuid"`
	}
	c.api(t, "POST", "/fqname-to-id", map[string]any{"type": kind, "fq_name": name}, &found)
	return found.UUID
}

// forget deletes a network that a user has changed. It is his since then, and
// does not go with its last container; nor does what it needs.
func (c *cluster) forget(t *testing.T, network string) {
	t.Helper()
	for _, object := range [][]string{
		{"virtual-network", "default-domain:mesos-default:" + network},
		{"network-ipam", "default-domain:mesos-default:" + network},
		{"project", "default-domain:mesos-default"},
	} {
		eventually(t, recovery, "delete "+object[1], func() error {
			_, err := c.InHost(contextOf(t), "env", "CONTRAIL_API_URL=unix:/run/"+c.Name+"/config.sock", c.Bin+"/contrail", "delete", object[0], object[1])
			return err
		})
	}
}

// shownPeer is a peer as `contrail control peers` tells it.
type shownPeer struct {
	Name, State, Error string
	Flaps              int
	Since              time.Time
	Families           []struct {
		Family          string
		Received, Stale int
	}
}

func (p shownPeer) received() (n int) {
	for _, f := range p.Families {
		n += f.Received
	}
	return n
}

func (c *cluster) peer(t *testing.T, name string) (shownPeer, error) {
	text, err := c.InHost(contextOf(t), c.Bin+"/contrail", "control", "peers", "-o", "json", "--control", "unix:/run/"+c.Name+"/control.sock")
	if err != nil {
		return shownPeer{}, err
	}
	var all struct{ Peers []shownPeer }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return shownPeer{}, err
	}
	for _, p := range all.Peers {
		if p.Name == name {
			return p, nil
		}
	}
	return shownPeer{}, fmt.Errorf("no peer %s: %s", name, text)
}

// session waits for the session with a peer.
func (c *cluster) session(t *testing.T, name string) shownPeer {
	t.Helper()
	var p shownPeer
	eventually(t, time.Minute, "session with "+name, func() (err error) {
		if p, err = c.peer(t, name); err == nil && p.State != "Established" {
			err = fmt.Errorf("%+v", p)
		}
		return err
	})
	return p
}

// agentRoutes are the routes in the data plane of a node: prefix to next hop.
func (c *cluster) agentRoutes(t *testing.T, node int) (map[string]string, error) {
	token, err := os.ReadFile(fmt.Sprintf("/run/%s/node-%d/token", c.Name, node))
	if err != nil {
		return nil, err
	}
	text, err := base.Run(contextOf(t), "nsenter", "--net=/run/netns/"+c.Node(node), "curl", "--silent", "--fail-with-body",
		"--header", "Authorization: Bearer "+strings.TrimSpace(string(token)), "http://127.0.0.1:8085/routes")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Routes []struct {
			Key struct {
				Prefix string `json:"prefix"`
			} `json:"key"`
			Wanted json.RawMessage `json:"wanted"`
			Status struct {
				State string `json:"state"`
			} `json:"status"`
		} `json:"routes"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	routes := map[string]string{}
	for _, r := range answer.Routes {
		if r.Wanted != nil {
			routes[r.Key.Prefix] = string(r.Wanted) + " " + r.Status.State
		}
	}
	return routes, nil
}

// wantRoute waits until a node has a route, or has it no more where parts is
// empty.
func (c *cluster) wantRoute(t *testing.T, node int, prefix string, parts ...string) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("route to %s on node %d", prefix, node), func() error {
		routes, err := c.agentRoutes(t, node)
		if err != nil {
			return err
		}
		have, ok := routes[prefix]
		if ok != (len(parts) > 0) {
			return fmt.Errorf("has it: %t; routes: %v", ok, routes)
		}
		for _, part := range parts {
			if !strings.Contains(have, part) {
				return fmt.Errorf("%s: no %s", have, part)
			}
		}
		return nil
	})
}

// keeps has a node watched: it must not lose these routes until the function that
// is returned is called.
func (c *cluster) keeps(t *testing.T, node int, prefixes ...string) (end func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
			routes, err := c.agentRoutes(t, node)
			for _, prefix := range prefixes {
				if _, ok := routes[prefix]; err == nil && !ok {
					t.Errorf("node %d has lost %s: %v", node, prefix, routes)
					return
				}
			}
		}
	})
	return func() { close(done); watching.Wait() }
}

// TestNetRouters: a task in a network that is known outside talks with an
// address behind a router, which speaks BGP with the controller and MPLS over
// UDP with the nodes. What nobody asked for does not come in.
func TestNetRouters(t *testing.T) {
	c := start(t)
	t.Cleanup(func() { c.clean(t) }) // the last, after the routers are deleted
	c.post(t, app("/out/inside", "gate", 1, c.On(1)))
	c.post(t, app("/out/other", "closed", 1, c.On(1)))
	inside, other := c.running(t, "/out/inside", 1)[0], c.running(t, "/out/other", 1)[0]
	network := c.find(t, "virtual-network", "default-domain", "mesos-default", "gate")
	var object struct {
		Network struct {
			Number int `json:"virtual_network_network_id"`
		} `json:"virtual-network"`
	}
	c.api(t, "GET", "/virtual-network/"+network, nil, &object)
	automatic := fmt.Sprintf("64512:%d", 8000000+object.Network.Number)
	c.api(t, "PUT", "/virtual-network/"+network, map[string]any{"virtual-network": map[string]any{
		"route_target_list": map[string]any{"route_target": []string{"target:64512:100"}},
	}}, nil)

	// One router in our autonomous system, one in another, with a password.
	gobgp := c.gobgpd(t, 1)
	frr := c.frr(t, 2, automatic)
	c.router(t, "gobgpd", 64512, gobgp.address, nil)
	c.router(t, "frr", 64600, frr.address, map[string]any{
		"auth_data": map[string]any{"key_type": "md5", "key_items": []map[string]any{{"key_id": 0, "key": "open-sesame"}}},
	})
	c.session(t, "gobgpd")
	c.session(t, "frr")

	// The task is known there, as the node takes what is sent to it.
	route := gobgp.route(t, inside.Address(), "172.31.0.11", "64512:100", automatic, "MPLS in UDP")
	frr.knows(t, inside.Address(), "172.31.0.11", "RT:64512:100")
	gobgp.lacks(t, other.Address())

	// What they announce arrives in the data plane, if it is the network's
	// business: FRR, which knows no route-target constraint, sends all it has.
	gobgp.announce(t, "203.0.113.0/24", 3001, "64512:100")
	gobgp.announce(t, "203.0.114.0/24", 3002, automatic)
	c.wantRoute(t, 1, "203.0.113.0/24", gobgp.address.String(), "3001", "applied")
	c.wantRoute(t, 1, "198.51.100.0/24", frr.address.String(), "2001", "applied")
	if p := c.session(t, "frr"); p.received() != 2 {
		t.Errorf("FRR sent %d routes, want one for the network and one it must not take: %+v", p.received(), p)
	}
	c.wantRoute(t, 1, "198.51.101.0/24")
	c.wantRoute(t, 1, "203.0.114.0/24")

	gobgp.forward(t, inside.Address(), route)
	if err := c.check(t, inside, "203.0.113.9", "icmp", "10s"); err != nil {
		t.Errorf("the task does not reach what is behind the router: %v", err)
	}
	if err := c.check(t, other, "203.0.113.9", "icmp", "500ms"); err == nil {
		t.Error("a task of another network reaches it")
	}

	t.Run("a peer that cannot be one", func(t *testing.T) {
		before := c.session(t, "frr")
		c.router(t, "twin", 64601, frr.address, nil)
		eventually(t, recovery, "twin is refused", func() error {
			p, err := c.peer(t, "twin")
			if err == nil && (p.State != "refused" || !strings.Contains(p.Error, "is that of peer frr")) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		if now := c.session(t, "frr"); !now.Since.Equal(before.Since) {
			t.Errorf("the session with frr began anew: %+v, before %+v", now, before)
		}
	})
	t.Run("a router is killed", func(t *testing.T) {
		before := c.session(t, "frr")
		gobgp.kill()
		c.wantRoute(t, 1, "203.0.113.0/24")
		c.wantRoute(t, 1, "198.51.100.0/24", "2001")
		gobgp.start(t)
		gobgp.announce(t, "203.0.113.0/24", 3003, "64512:100")
		c.wantRoute(t, 1, "203.0.113.0/24", gobgp.address.String(), "3003", "applied")
		if now := c.session(t, "frr"); !now.Since.Equal(before.Since) || now.Flaps != before.Flaps {
			t.Errorf("the session with frr began anew: %+v, before %+v", now, before)
		}
	})
	t.Run("a router restarts gracefully", func(t *testing.T) {
		system := "/global-system-config/" + c.find(t, "global-system-config", "default-global-system-config")
		set := func(value any) {
			c.api(t, "PUT", system, map[string]any{"global-system-config": map[string]any{"graceful_restart_parameters": value}}, nil)
		}
		t.Cleanup(func() { set(nil) })
		set(map[string]any{"enable": true, "bgp_helper_enable": true, "restart_time": 120, "long_lived_restart_time": 300, "end_of_rib_timeout": 60})
		c.wantGraceful(t, "gobgpd")
		c.wantRoute(t, 1, "203.0.113.0/24", "3003", "applied")
		gobgp.kill()
		eventually(t, time.Minute, "routes are stale", func() error {
			p, err := c.peer(t, "gobgpd")
			if err == nil && (p.State == "Established" || len(p.Families) == 0 || p.Families[0].Stale+p.Families[len(p.Families)-1].Stale == 0) {
				err = fmt.Errorf("%+v", p)
			}
			return err
		})
		c.wantRoute(t, 1, "203.0.113.0/24", "3003", "applied")
		gobgp.start(t)
		gobgp.announce(t, "203.0.113.0/24", 3004, "64512:100")
		c.wantRoute(t, 1, "203.0.113.0/24", "3004", "applied")
	})
	t.Run("the controller is killed", func(t *testing.T) {
		// Graceful restart is off now: routers drop our routes, but what the node has
		// of theirs stays until they have told that again.
		c.session(t, "gobgpd")
		c.session(t, "frr")
		c.wantRoute(t, 1, "203.0.113.0/24", "3004", "applied")
		c.wantRoute(t, 1, "198.51.100.0/24", "2001", "applied")
		gobgp.route(t, inside.Address(), "172.31.0.11")
		frr.knows(t, inside.Address(), "172.31.0.11")
		pid, err := c.pidOf("controller control")
		if err != nil {
			t.Fatal(err)
		}
		stays := c.keeps(t, 1, "203.0.113.0/24", "198.51.100.0/24")
		kill(t, pid, syscall.SIGKILL)
		began := time.Now()
		for _, name := range []string{"gobgpd", "frr"} {
			eventually(t, time.Minute, "session with "+name, func() error {
				p, err := c.peer(t, name)
				if err == nil && (p.State != "Established" || p.received() == 0) {
					err = fmt.Errorf("%+v", p)
				}
				return err
			})
			t.Logf("session with %s after %s", name, time.Since(began).Round(100*time.Millisecond))
		}
		gobgp.route(t, inside.Address(), "172.31.0.11")
		frr.knows(t, inside.Address(), "172.31.0.11")
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("routers knew all again after %s", took)
		} else {
			t.Logf("routers knew all again after %s", took.Round(100*time.Millisecond))
		}
		stays()
	})
	c.api(t, "PUT", "/virtual-network/"+network, map[string]any{"virtual-network": map[string]any{"route_target_list": nil}}, nil)
	c.wantRoute(t, 1, "203.0.113.0/24")
	gobgp.lacks(t, inside.Address())
	c.destroy(t, "/out/inside")
	c.destroy(t, "/out/other")
	c.forget(t, "gate")
}

// wantGraceful waits until a peer's session is one with graceful restart.
func (c *cluster) wantGraceful(t *testing.T, name string) {
	t.Helper()
	eventually(t, time.Minute, "graceful session with "+name, func() error {
		text, err := c.InHost(contextOf(t), c.Bin+"/contrail", "control", "peers", "-o", "json", "--control", "unix:/run/"+c.Name+"/control.sock")
		if err != nil {
			return err
		}
		var all struct {
			Peers []struct {
				Name, State string
				Graceful    bool
			}
		}
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return err
		}
		for _, p := range all.Peers {
			if p.Name == name && p.State == "Established" && p.Graceful {
				return nil
			}
		}
		return fmt.Errorf("%s", text)
	})
}
