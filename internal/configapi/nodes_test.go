package configapi

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Of nodes that join at one moment with one address, through two controllers,
// one does.
func TestOneAddressOneNode(t *testing.T) {
	at := store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/any%d/", prefixCount.Add(1)), Shared: true}
	benches := []*bench{openBenchAt(t, at, testConfig()), openBenchAt(t, at, testConfig())}
	for round := range 20 {
		var racing sync.WaitGroup
		var mu sync.Mutex
		var joined []string
		for i, b := range benches {
			racing.Go(func() {
				name := fmt.Sprintf("racer-%d-%d", round, i)
				_, err := (&nodes{b.api}).Join(b.ctx(), connect.NewRequest(&configv1.JoinRequest{
					Node: model.NewUUID(), Name: name, Address: fmt.Sprintf("172.31.9.%d", round), FabricMtu: 1500, BootId: "boot",
				}))
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					joined = append(joined, name)
				case connect.CodeOf(err) != connect.CodeAlreadyExists || !strings.Contains(err.Error(), "node remove"):
					t.Errorf("join: %v", err)
				}
			})
		}
		racing.Wait()
		if len(joined) != 1 {
			t.Fatalf("round %d: joined with one address: %v", round, joined)
		}
		if err := benches[1].api.waitNewest(benches[1].ctx()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := benches[1].api.removeNode(benches[1].ctx(), joined[0]); err != nil {
			t.Fatal(err)
		}
	}
	benches[0].fits()
}

// A node that joins through two controllers at one moment is not told that
// another has its address.
func TestNodeJoinsTwice(t *testing.T) {
	at := store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/any%d/", prefixCount.Add(1)), Shared: true}
	benches := []*bench{openBenchAt(t, at, testConfig()), openBenchAt(t, at, testConfig())}
	for round := range 20 {
		node, name, address := model.NewUUID(), fmt.Sprintf("twice-%d", round), fmt.Sprintf("172.31.8.%d", round)
		// The router is there before, so nothing else is in the way.
		benches[0].create("virtual-router", fmt.Sprintf(
			`{"fq_name": ["default-global-system-config", %q], "uuid": %q, "virtual_router_ip_address": %q}`, name, node, address))
		var racing sync.WaitGroup
		for _, b := range benches {
			racing.Go(func() {
				if _, err := (&nodes{b.api}).Join(b.ctx(), connect.NewRequest(&configv1.JoinRequest{
					Node: node, Name: name, Address: address, FabricMtu: 1500, BootId: "boot",
				})); err != nil {
					t.Errorf("join: %v", err)
				}
			})
		}
		racing.Wait()
	}
	benches[0].fits()
}
