package vrouter

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

func TestLimitsOfAConfiguration(t *testing.T) {
	ten, hundred := dataplane.Limit{Rate: 10e6, Burst: 1e6}, dataplane.Limit{Rate: 100e6, Burst: 2e6}
	for text, want := range map[string]limits{
		``:                            {},
		`{}`:                          {},
		`{"runtimeConfig":{}}`:        {},
		`{"runtimeConfig":{"ips":1}}`: {},
		`{"runtimeConfig":{"bandwidth":{"ingressRate":100000000,"ingressBurst":2000000}}}`:                               {ingress: hundred},
		`{"runtimeConfig":{"bandwidth":{"egressRate":10000000,"egressBurst":1000000,"ingressRate":0,"ingressBurst":0}}}`: {egress: ten},
		`{"egressRate":10000000,"egressBurst":1000000,"ingressRate":100000000,"ingressBurst":2000000}`:                   {ten, hundred},
		// The runtime says it of the container.
		`{"egressRate":10000000,"egressBurst":1000000,"runtimeConfig":{"bandwidth":{}}}`: {},
	} {
		got, err := parseLimits([]byte(text))
		if err != nil || got != want {
			t.Errorf("%s: %+v (%v), want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"runtimeConfig":{"bandwidth":{"ingressRate":1000}}}`:                             "runtimeConfig.bandwidth.ingressRate is 1000 without a burst; set runtimeConfig.bandwidth.ingressBurst",
		`{"runtimeConfig":{"bandwidth":{"egressBurst":1000}}}`:                             "runtimeConfig.bandwidth.egressBurst is 1000 without a rate; set runtimeConfig.bandwidth.egressRate",
		`{"egressRate":999,"egressBurst":1}`:                                               "egressRate is 999: want 1000 to 1000000000000 bits in a second, or 0 for no limit",
		`{"ingressRate":1000000000001,"ingressBurst":1}`:                                   "ingressRate is 1000000000001: want",
		`{"ingressRate":1000,"ingressBurst":34359738369}`:                                  "ingressBurst is 34359738369: want 1 to 34359738368 bits",
		`{"runtimeConfig":{"bandwidth":{"ingressRate":-5,"ingressBurst":1}}}`:              "runtimeConfig.bandwidth.ingressRate is -5: want",
		`{"runtimeConfig":{"bandwidth":{"ingressRate":1e30,"ingressBurst":1}}}`:            "runtimeConfig.bandwidth.ingressRate is 1e30: want",
		`{"runtimeConfig":{"bandwidth":{"ingressRate":"fast","ingressBurst":1}}}`:          "network configuration: ",
		`{"runtimeConfig":{"bandwidth":{"egressRate":1e500,"egressBurst":99999999999999}}`: "network configuration: ",
	} {
		_, err := parseLimits([]byte(text))
		var refusal *portapi.Error
		if !errors.As(err, &refusal) || refusal.Kind != portapi.KindInvalid || !strings.Contains(refusal.Message, want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// TestAddAgainChangesLimits: a runtime that adds a container again may say other
// rates; these hold at once and after a restart of the agent. Bad ones change
// nothing.
func TestAddAgainChangesLimits(t *testing.T) {
	dir := t.TempDir()
	plane, links := newFakePlane(), &fakeLinks{links: map[int]string{2: "eth0", 3: "tap-here"}}
	before := testAgent(t, dir, plane, links)
	r := portRecord("here", "c1", "tap-here", 3, before.bootID)
	if err := before.files.write(r); err != nil {
		t.Fatal(err)
	}
	a := testAgent(t, dir, plane, links)
	stop := startAgent(t, a)
	eventually(t, "the port is plugged", func() error {
		if _, here := plane.holds(3); !here {
			return errors.New("it is not")
		}
		return nil
	})
	add := func(configuration string) error {
		_, err := a.attach(t.Context(), portapi.AttachRequest{
			ContainerID: r.ContainerID, Interface: r.Interface, Namespace: r.Namespace, NetworkConfiguration: []byte(configuration),
		}, func() (string, error) { return "tap-here", nil })
		return err
	}
	want := func(egress dataplane.Limit) {
		t.Helper()
		if p, _ := plane.holds(3); p.Egress != egress || p.Ingress != (dataplane.Limit{}) {
			t.Errorf("limits are %+v and %+v, want %+v", p.Egress, p.Ingress, egress)
		}
	}
	ten := dataplane.Limit{Rate: 10e6, Burst: 1e6}
	if err := add(`{"runtimeConfig":{"bandwidth":{"egressRate":10000000,"egressBurst":1000000}}}`); err != nil {
		t.Fatal(err)
	}
	want(ten)
	if err := add(`{"runtimeConfig":{"bandwidth":{"egressRate":10000000}}}`); err == nil {
		t.Error("a rate without a burst is taken")
	}
	want(ten)
	stop()
	plane.ports = map[int]dataplane.Port{}
	again := testAgent(t, dir, plane, links)
	runAgent(t, again)
	eventually(t, "the port is plugged again", func() error {
		if _, here := plane.holds(3); !here {
			return errors.New("it is not")
		}
		return nil
	})
	want(ten)
	if text, err := os.ReadFile(again.files.path("here")); err != nil || !strings.Contains(string(text), `"rate": 10000000`) {
		t.Errorf("the port's file has no rate: %v\n%s", err, text)
	}
}
