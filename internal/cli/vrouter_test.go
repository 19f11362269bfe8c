package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
)

// vrouterAnswers are those of a node.
var vrouterAnswers = map[string]string{
	"/vif": `{"vifs":[{"vif":2,"device":"eth0","type":"physical","addresses":["172.31.0.11"],"drops_packets":4},
		{"vif":12,"device":"tap1","type":"virtual","vrf":5,"network":"d:p:blue","label":16,"mac":"02:00:00:00:00:01","addresses":["10.32.0.3"],"foreign":[{"address":"198.51.100.3","vrf":9,"fixed":"10.32.0.3"}],
			"policy":{"network_id":5,"sets":{},"generation":1},"flows":{"flows":3,"unanswered":1},"others_flows":{"flows":1,"unanswered":0},"egress":{"rate":2500000,"burst":100},"ingress":{"rate":1000000000,"burst":100},"from_packets":10,"to_packets":20,"status":{"state":"applied"}},
		{"vif":13,"device":"tap2","type":"virtual","vrf":5,"network":"d:p:blue","label":17,"mac":"02:00:00:00:00:02","blocked":true,"from_packets":0,"to_packets":0,"policy":{},"status":{"state":"applied"}},
		{"vif":14,"device":"tap3","type":"virtual","vrf":6,"label":18,"mac":"02:00:00:00:00:03","from_packets":0,"to_packets":0,"status":{"state":"applied"}},
		{"vif":15,"device":"tap4","type":"virtual","vrf":6,"label":19,"mac":"02:00:00:00:00:04","from_packets":0,"to_packets":0,"status":{"state":"failed","error":"table of 4096 ports is full"}}]}`,
	"/rt?vrf=blue": `{"routes":[{"vrf":5,"network":"d:p:blue","family":"inet","destination":"10.32.0.3/32","next_hop":{"nh":1,"type":"local","vif":12,"device":"tap1","label":16},"status":{"state":"applied"}},
		{"vrf":5,"network":"d:p:blue","family":"inet","destination":"10.32.0.4/32","next_hop":{"nh":3,"type":"tunnel","remote":"172.31.0.12","encapsulation":"MPLSoUDP","label":17},"status":{"state":"failed","error":"no room"}},
		{"vrf":5,"network":"d:p:blue","family":"inet","destination":"10.32.0.9/32","next_hop":{"nh":7,"type":"ecmp","members":[{"nh":0,"type":"local","label":30,"behind":true,"weight":3},{"nh":0,"type":"tunnel","remote":"172.31.0.13","encapsulation":"VXLAN","vni":5,"mac":"02:00:00:00:00:09","weight":1}]},"status":{"state":"applied"}},
		{"vrf":5,"network":"d:p:blue","family":"inet","destination":"10.40.0.0/16","next_hop":{"nh":0,"type":"discard"}}],"left":23}`,
	"/nh":    `{"next_hops":[{"nh":0,"type":"discard","routes":1},{"nh":1,"type":"local","routes":2},{"nh":3,"type":"tunnel","remote":"172.31.0.12","encapsulation":"MPLSoGRE","routes":4}]}`,
	"/mpls":  `{"labels":[{"label":16,"vif":12,"device":"tap1","port":"u1","vrf":5,"network":"d:p:blue"}]}`,
	"/vxlan": `{"vnis":[{"vni":5,"vrf":5,"network":"d:p:blue"},{"vni":6,"vrf":6,"bridge":{"routes":true,"remotes":[{"address":"172.31.0.12","vni":6},{"address":"172.31.0.13","vni":6}]}}]}`,
	"/rules": `{"rules":[{"vifs":[12],"kind":"network","pass":true,"place":1,"owner":"network-policy d:p:a","owner_place":2,"match":"any -> any, tcp","count":7},
		{"vifs":[12],"kind":"network","place":2,"match":"any -> any, udp"},{"vifs":[12],"kind":"network","place":3,"owner":"network-policy d:p:a","match":"any -> any, any protocol","count":0},
		{"vifs":[12],"kind":"firewall","pass":true,"place":1,"owner":"firewall-rule d:p:r","match":"any -> any, tcp","count":0},
		{"vifs":[12,13,14,15,16],"kind":"arriving","count":3},{"vifs":[16],"kind":"leaving","error":"it is too big"}]}`,
	"/drops":   `{"drops":[{"reason":"no-route","description":"no route to the destination","vif":12,"device":"tap1","packets":7,"bytes":700},{"reason":"arp","description":"ARP that is not to be answered","vif":0,"packets":3,"bytes":126}]}`,
	"/vrf":     `{"vrfs":[{"vrf":5,"network":"d:p:blue","vnis":[5],"ports":2,"inet_routes":4,"inet6_routes":1,"macs":3,"from_packets":10,"to_packets":20,"drops_packets":1},{"vrf":6,"bridge":{"routes":false},"from_packets":0,"to_packets":0}]}`,
	"/stats":   `{"stats":[{"vif":2,"device":"eth0","drops_packets":4,"drops_bytes":240},{"vif":12,"device":"tap1","network":"d:p:blue","from_packets":10,"from_bytes":1000,"to_packets":20,"to_bytes":2000,"drops_packets":1,"drops_bytes":60}],"totals":{"from_packets":10,"from_bytes":1000,"to_packets":20,"to_bytes":2000,"drops_packets":5,"drops_bytes":300}}`,
	"/fabric":  `{"address":"172.31.0.11","ports":"61000-65535","services":[{"name":"metadata","address":"169.254.169.254","port":80,"to":["192.0.2.10"],"to_port":8775},{"name":"db","address":"169.254.169.254","port":81,"to":null,"to_port":5432,"dns_name":"db.example.org","problem":"the name has not been found yet"}],"snat":[{"vif":12,"port":"u1","network":2}],"refused":["172.31.0.11"]}`,
	"/objects": `{"objects":[{"table":"ports","object":"tap4","wanted":true,"status":{"state":"failed","error":"table of 4096 ports is full"}},{"table":"routes","object":"9:10.0.0.0/8","wanted":false,"status":{"state":"pending"}}],"left":2}`,
	"/flow": `{"flows":[{"state":"established","protocol":"tcp","forward":{"source":"10.32.0.3","source_port":40000,"destination":"10.32.0.4","destination_port":80,"vrf":5,"vif":12,"next_hop":{"type":"tunnel","remote":"172.31.0.12","encapsulation":"MPLSoUDP","label":17},"nat":{"source":"198.51.100.3","destination":"172.31.0.1","destination_port":179},"packets":5,"bytes":500,"age_seconds":61.2,"idle_seconds":0.4,"current":true,"generation":12,"policy_generation":3},
		"reverse":{"source":"10.32.0.4","source_port":80,"destination":"10.32.0.3","destination_port":40000,"vrf":5,"vif":12,"next_hop":{"type":"local","vif":12,"device":"tap1"},"packets":4,"bytes":400,"current":false}},
		{"state":"unanswered","protocol":"icmp","forward":{"source":"10.32.0.3","source_port":77,"destination":"10.32.0.5","destination_port":8,"vrf":5,"vif":12,"next_hop":{"type":"discard"},"current":true}},
		{"state":"established","protocol":"udp","reverse":{"source":"10.32.0.6","source_port":53,"destination":"10.32.0.3","destination_port":9,"vrf":5,"vif":12,"next_hop":{"type":"bridged","vif":12,"device":"tap1"},"current":true}}]}`,
}

// vrouterNode is the agent of a node.
func vrouterNode(t *testing.T, name string, answers map[string]string) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(vrouterapi.HeaderNode, name)
		answer, ok := answers[r.URL.String()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = fmt.Sprintf(`{"kind":"not-found","message":"nothing of %s on %s"}`, r.URL, name)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server
}

// TestVRouterTables shows what an agent answers as tables.
func TestVRouterTables(t *testing.T) {
	v, err := NewVRouter([]string{vrouterNode(t, "node-1", vrouterAnswers).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for name, test := range map[string]struct {
		ask  func(context.Context, io.Writer, url.Values, Output) error
		q    url.Values
		want string
	}{
		"vif": {v.Vifs, nil, `
VIF  DEVICE  TYPE      NETWORK   VRF  LABEL  MAC                ADDRESSES               RX  TX  DROPS  FLOWS  LIMITS                     STATE
2    eth0    physical  -         -    -      -                  172.31.0.11             -   -   4      -      -                          -
12   tap1    virtual   d:p:blue  5    16     02:00:00:00:00:01  10.32.0.3,198.51.100.3  10  20  0      4      out 2500kbit/s, in 1Gbit/s  up
13   tap2    virtual   d:p:blue  5    17     02:00:00:00:00:02  -                       0   0   0      -      -                          blocked
14   tap3    virtual   -         6    18     02:00:00:00:00:03  -                       0   0   0      -      -                          closed: its policy has not come yet
15   tap4    virtual   -         6    19     02:00:00:00:00:04  -                       0   0   0      -      -                          failed: table of 4096 ports is full`},
		"rt": {v.Routes, url.Values{"vrf": {"blue"}}, `
VRF  NETWORK   DESTINATION   NH  TYPE     TO                             ENCAP     LABEL  STATE
5    d:p:blue  10.32.0.3/32  1   local    vif 12 tap1                    -         16     applied
5    d:p:blue  10.32.0.4/32  3   tunnel   172.31.0.12                    MPLSoUDP  17     failed: no room
5    d:p:blue  10.32.0.9/32  7   ecmp     2 members                      -         -      applied
                             local    behind no port, weight 3       -         30     
                             tunnel   172.31.0.13 02:00:00:00:00:09  VXLAN     vni 5  
5    d:p:blue  10.40.0.0/16  0   discard  -                              -         -      leaves
23 more are not shown; choose among them, or see --limit`},
		"nh": {v.NextHops, nil, `
NH  TYPE     TO                 ENCAP     LABEL  ROUTES
0   discard  -                  -         -      1
1   local    port of the label  -         -      2
3   tunnel   172.31.0.12        MPLSoGRE  -      4`},
		"mpls": {v.Labels, nil, `
LABEL  VIF  DEVICE  VRF  NETWORK   PORT
16     12   tap1    5    d:p:blue  u1`},
		"vxlan": {v.VNIs, nil, `
VNI  VRF  NETWORK   LAYER 2             BROADCASTS TO
5    5    d:p:blue  -                   -
6    6    -         bridges, routes IP  172.31.0.12,172.31.0.13`},
		"rules": {v.Rules, nil, `
VIFS          SET       RULE                         MATCH              VERDICT  COUNT
12            network   network-policy d:p:a rule 2  any -> any, tcp    pass     7
12            network   implied                      any -> any, udp    deny     -
12            network   follows from network-policy d:p:a  any -> any, any protocol  deny  0
12            firewall  firewall-rule d:p:r          any -> any, tcp    pass     0
12,13,14,15,+1  arriving  none matches  -  deny  3
16            leaving   it is too big                -                  deny     -`},
		"drops": {v.Drops, nil, `
REASON    VIF  DEVICE        PACKETS  BYTES  DESCRIPTION
no-route  12   tap1          7        700    no route to the destination
arp       0    former ports  3        126    ARP that is not to be answered`},
		"vrf": {v.VRFs, nil, `
VRF  NETWORK   VNI  PORTS  INET  INET6  MACS  LAYER 2  RX  TX  DROPS
5    d:p:blue  5    2      4     1      3     -        10  20  1
6    -         -    0      0     0      0     bridges  0   0   0`},
		"stats": {v.Stats, nil, `
VIF    DEVICE  NETWORK   RX PACKETS  RX BYTES  TX PACKETS  TX BYTES  DROPS  DROPPED BYTES
2      eth0    -         -           -         -           -         4      240
12     tap1    d:p:blue  10          1000      20          2000      1      60
total                    10          1000      20          2000      5      300`},
		"fabric": {v.Fabric, nil, `
KIND        NAME                 TASKS USE           TO                 PROBLEM
node        172.31.0.11          -                   ports 61000-65535  -
link-local  metadata             169.254.169.254:80  192.0.2.10:8775    -
link-local  db (db.example.org)  169.254.169.254:81  -                  the name has not been found yet
SNAT        u1                   vif 12              outside            -`},
		"objects": {v.Objects, nil, `
TABLE   OBJECT        STATE              SINCE  ERROR
ports   tap4          failed             -      table of 4096 ports is full
routes  9:10.0.0.0/8  pending, is to go  -      -
2 more are not shown; choose among them, or see --limit`},
		"flow": {v.Flows, nil, `
PROTO  SOURCE           DESTINATION       VIF  VRF  TO                       NAT                                   STATE              PACKETS  BYTES  AGE  IDLE  GENERATION
tcp    10.32.0.3:40000  10.32.0.4:80      12   5    172.31.0.12 MPLSoUDP 17  from 198.51.100.3 to 172.31.0.1:179  established        5        500    61s  0s    12/3
tcp    10.32.0.4:80     10.32.0.3:40000   12   5    vif 12 tap1              -                                     answers, outdated  4        400    0s   0s    0/0
icmp   10.32.0.3 id 77  10.32.0.5 type 8  12   5    not decided              -                                     unanswered         0        0      0s   0s    0/0
udp    10.32.0.6:53     10.32.0.3:9       12   5    vif 12 tap1              -                                     answers only       0        0      0s   0s    0/0`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := test.ask(context.Background(), &out, test.q, Text); err != nil {
				t.Fatal(err)
			}
			if got, want := squeezed(out.String()), squeezed(test.want); got != want {
				t.Errorf("shows\n%s\nwant\n%s", out.String(), test.want)
			}
		})
	}
}

// squeezed is a table without the width of its columns.
func squeezed(text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(text)) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// TestVRouterOfSeveralNodes: rows name their node, a node that has nothing of what
// is asked for is left out, and one that is away keeps nothing back.
func TestVRouterOfSeveralNodes(t *testing.T) {
	one := vrouterNode(t, "node-1", map[string]string{"/mpls": `{"labels":[{"label":16,"vif":12,"device":"tap1"}]}`, "/rt?vrf=blue": `{"routes":[]}`})
	two := vrouterNode(t, "node-2", map[string]string{"/mpls": `{"labels":[{"label":17,"vif":3,"device":"tap3"}]}`})
	v, err := NewVRouter([]string{one.URL, two.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx := context.Background()
	var out bytes.Buffer
	want := "NODE LABEL VIF DEVICE VRF NETWORK PORT\nnode-1 16 12 tap1 - - -\nnode-2 17 3 tap3 - - -"
	if err := v.Labels(ctx, &out, nil, Text); err != nil || squeezed(out.String()) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
	}
	out.Reset()
	if err := v.Labels(ctx, &out, nil, JSON); err != nil || strings.Count(out.String(), `"node": "node-`) != 2 {
		t.Errorf("%v\n%s", err, out.String())
	}
	out.Reset()
	if err := v.Routes(ctx, &out, url.Values{"vrf": {"blue"}}, Text); err != nil || !strings.HasPrefix(out.String(), "NODE") {
		t.Errorf("one has it: %v\n%s", err, out.String())
	}
	if err := v.Vifs(ctx, &out, nil, Text); err == nil || err.Error() != "nothing of /vif on node-1" {
		t.Errorf("none has it: %v", err)
	}
	two.Close()
	out.Reset()
	if err := v.Labels(ctx, &out, nil, Text); err == nil || !strings.Contains(err.Error(), "does not answer") || !strings.Contains(out.String(), "node-1") {
		t.Errorf("one is away: %v\n%s", err, out.String())
	}
}

// TestVRouterOfBadNodes: agents that answer something else, or nothing in time, keep
// back nobody's rows, and are waited for together.
func TestVRouterOfBadNodes(t *testing.T) {
	labels := map[string]string{"/mpls": `{"labels":[{"label":16,"vif":12,"device":"tap1"}]}`}
	bad := vrouterNode(t, "node-bad", map[string]string{"/mpls": `<html>`})
	waits := func() string {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		t.Cleanup(server.Close)
		return server.URL
	}
	slow, slow2 := waits(), waits()
	v, err := NewVRouter([]string{bad.URL, slow, slow2, vrouterNode(t, "node-1", labels).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.timeout = 2 * time.Second
	for output, want := range map[Output]string{Text: "node-1 16 12 tap1", JSON: `"node": "node-1"`} {
		var out bytes.Buffer
		begun := time.Now()
		err := v.Labels(context.Background(), &out, nil, output)
		if took := time.Since(begun); took > 2*v.timeout {
			t.Errorf("took %s, want %s for all", took, v.timeout)
		}
		if err == nil || !strings.Contains(squeezed(out.String()), want) {
			t.Fatalf("%v\n%s\nwant %s", err, out.String(), want)
		}
		for _, part := range []string{"vRouter agent at " + bad.URL + " answers no JSON", slow + " does not answer", slow2 + " does not answer"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error %q lacks %q", err, part)
			}
		}
	}
}

// TestVRouterRates: from the second look on there is what passed in a second, unless
// counters began anew.
func TestVRouterRates(t *testing.T) {
	answers := map[string]string{}
	v, err := NewVRouter([]string{vrouterNode(t, "node-1", answers).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.ShowRates()
	now := time.Now()
	v.rates.now = func() time.Time { return now }
	for _, step := range []struct {
		from, to, drops int
		want            string
	}{
		{10, 20, 1, "- - -"}, {30, 21, 1, "10 0 0"}, {30, 121, 5, "0 50 2"}, {3, 0, 0, "- - -"},
	} {
		answers["/stats"] = fmt.Sprintf(`{"stats":[{"vif":12,"device":"tap1","from_packets":%d,"to_packets":%d,"drops_packets":%d}],"totals":{}}`, step.from, step.to, step.drops)
		var out bytes.Buffer
		if err := v.Stats(context.Background(), &out, nil, Text); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(squeezed(out.String()), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], "RX/S TX/S DROPS/S") || !strings.HasSuffix(lines[1], " "+step.want) {
			t.Errorf("shows\n%s\nwant rates %s", out.String(), step.want)
		}
		now = now.Add(2 * time.Second)
	}
}

// TestWatch writes what has changed, tells failures, and ends with its context.
func TestWatch(t *testing.T) {
	for terminal, want := range map[bool]string{
		false: "a\nb\nit is away\nb\n",
		true:  "\x1b[H\x1b[2Ja\n\x1b[H\x1b[2Ja\n\x1b[H\x1b[2Jb\n\x1b[H\x1b[2Jit is away\n\x1b[H\x1b[2Jb\n",
	} {
		ctx, cancel := context.WithCancel(context.Background())
		shows := []string{"a\n", "a\n", "b\n", "", "b\n"}
		var out bytes.Buffer
		err := Watch(ctx, &out, terminal, time.Millisecond, func(w io.Writer) error {
			if len(shows) == 0 {
				cancel()
				return ctx.Err()
			}
			text := shows[0]
			shows = shows[1:]
			if text == "" {
				return errors.New("it is away")
			}
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil || out.String() != want {
			t.Errorf("terminal %t: %v, wrote %q, want %q", terminal, err, out.String(), want)
		}
		cancel()
	}
}
