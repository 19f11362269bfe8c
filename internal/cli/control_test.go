package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestControlTables shows what a control node answers as tables.
func TestControlTables(t *testing.T) {
	answers := map[string]string{
		"/agents": `[{"node":"u1","name":"n1","address":"172.31.0.11","connected":true,"ports":3,"down_ports":["a"],"unhealthy_ports":["b","c"],"vrfs":[1,2],"changes_behind":7},
			{"node":"u2","name":"","address":"","stale":true,"ports":1,"vrfs":[1]}]`,
		"/health": `[{"name":"d:p:h","kind":"HTTP","address":"10.0.0.3","network":"d:p:n","node":"n1","failing":true,"reason":"HTTP status 503"},
			{"name":"d:p:h","kind":"HTTP","address":"10.0.0.4","network":"d:p:n","node":"n2"}]`,
		"/peers": `{"router":"c1","running":true,"peers":[{"name":"gw","address":"192.0.2.254","as":64500,"state":"Established","flaps":1,"families":[{"family":"inet-vpn","received":12}]},
			{"name":"odd","state":"refused","error":"it has no address","families":[]},
			{"name":"d:p:bird","address":"10.0.0.3","as":65001,"state":"Established","flaps":0,"families":[{"family":"inet","received":2}],
			"task":{"accepted":1,"refused":1,"refusals":[{"prefix":"10.9.0.0/24","reason":"it is not its own"}]}}]}`,
		"/routes?network=blue": `{"routes":[{"key":"10.0.0.3/32","paths":[
			{"source":"attachment","name":"i1","used":true,"why":"better than the next by sequence","next_hop":"172.31.0.11","label":16,"routing_policies":["term 2 of routing-policy p: med 5"]},
			{"source":"attachment","name":"i2","why":"its node says that the port is down","next_hop":"172.31.0.12","vni":5,"state":["down"],"imported_from":"vrf 2"}]}]}`,
		"/explain?network=red&prefix=10.0.0.3": `[{"name":"red","missing":[{"from":"vrf 1","path":{"source":"attachment","name":"i1","why":"the vrf imports nothing","next_hop":"172.31.0.11","label":16}},
				{"from":"vrf 3","rejected":true,"path":{"source":"static","name":"s","why":"rejected by term 1 of routing-policy p","next_hop":"172.31.0.12","label":17}}]},
			{"name":"green"}]`,
		"/policy?interface=d%3Ap%3Ai": `{"sets":[{"name":"network","rules":[{"rule":"r1","action":"pass","service":"tcp to 80","src":"own network","dst":"network 2"},
			{"rule":"r2","action":"deny","service":"any","src":"any","dst":"any","same_tags":["0x0004"]}]},{"name":"arriving","rules":[]}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, ok := answers[r.URL.String()]; ok {
			w.Write([]byte(answer))
			return
		}
		http.Error(w, "no such question: "+r.URL.String(), http.StatusBadRequest)
	}))
	defer server.Close()
	c, err := NewControl(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, test := range map[string]struct {
		ask  func(out *bytes.Buffer) error
		want string
	}{
		"agents": {func(out *bytes.Buffer) error { return c.Agents(context.Background(), out, Text) }, `
NAME  ADDRESS      SESSION  PORTS  DOWN  WAITING  UNHEALTHY  HELD  NETWORKS  BEHIND
n1    172.31.0.11  up       3      1     0        2          0     2         7
u2    -            lost     1      0     0        0          0     1         0`},
		"health": {func(out *bytes.Buffer) error { return c.Health(context.Background(), out, Text) }, `
CHECK  KIND  ADDRESS   NETWORK  NODE  STATE    REASON
d:p:h  HTTP  10.0.0.3  d:p:n    n1    failing  HTTP status 503
d:p:h  HTTP  10.0.0.4  d:p:n    n2    passing  -`},
		"peers": {func(out *bytes.Buffer) error { return c.Peers(context.Background(), out, Text) }, `
NAME      ADDRESS      AS     STATE        SINCE  FLAPS  RECEIVED           REASON
gw        192.0.2.254  64500  Established  -      1      inet-vpn 12        -
odd       -            0      refused      -      0      -                  it has no address
d:p:bird  10.0.0.3     65001  Established  -      0      inet 2, 1 refused  10.9.0.0/24: it is not its own`},
		"routes": {func(out *bytes.Buffer) error { return c.Routes(context.Background(), out, "blue", Text) }, `
ROUTE        USED  NEXT HOP     LABEL  SOURCE         FROM   STATE  WHY
10.0.0.3/32  yes   172.31.0.11  16     attachment i1  -      -      better than the next by sequence; changed by term 2 of routing-policy p: med 5
             no    172.31.0.12  vni 5  attachment i2  vrf 2  down   its node says that the port is down`},
		"explain": {func(out *bytes.Buffer) error {
			return c.Explain(context.Background(), out, "10.0.0.3", "red", Text)
		}, `
NETWORK  ROUTE         USED  NEXT HOP     LABEL  SOURCE         FROM   STATE  WHY
red      not imported  no    172.31.0.11  16     attachment i1  vrf 1  -      the vrf imports nothing
red      rejected      no    172.31.0.12  17     static s       vrf 3  -      rejected by term 1 of routing-policy p
green    none          no    -            -      -              -      -      no network has a path to it`},
		"policy": {func(out *bytes.Buffer) error { return c.Policy(context.Background(), out, "d:p:i", Text) }, `
SET       ACTION  SERVICE                        FROM         TO         RULE
network   pass    tcp to 80                      own network  network 2  r1
          deny    any with the same tags 0x0004  any          any        r2
          deny    any                            any          any        no other
arriving  deny    any                            any          any        no other`},
		"names with types": {func(out *bytes.Buffer) error {
			if err := c.Policy(context.Background(), io.Discard, "virtual-machine-interface/d:p:i", Text); err != nil {
				return err
			}
			return c.Routes(context.Background(), out, "virtual-network/blue", JSON)
		}, "\n" + answers["/routes?network=blue"]},
		"json": {func(out *bytes.Buffer) error { return c.Routes(context.Background(), out, "blue", JSON) }, "\n" + answers["/routes?network=blue"]},
	} {
		var out bytes.Buffer
		if err := test.ask(&out); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := strings.TrimSpace(out.String()); got != strings.TrimPrefix(test.want, "\n") {
			t.Errorf("%s:\n%s\nwant:%s", name, got, test.want)
		}
	}
	if err := c.Imports(context.Background(), &bytes.Buffer{}, "x", Text); err == nil || !strings.Contains(err.Error(), "no such question") {
		t.Errorf("a refusal is %v", err)
	}
}
