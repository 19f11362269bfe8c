package vrouter

import (
	"fmt"
	"path/filepath"
	"testing"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
)

// TestPassage: what leaves an interface of a service is looked up where the
// control node says, as long as it says so, and also after a restart of the
// agent that hears nothing yet.
func TestPassage(t *testing.T) {
	const passage = 1 << 31
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap"}}
	rec := portRecord("p", "container", "tap", 3, testAgent(t, dir, newFakePlane(), links).bootID)
	if err := (portFiles{filepath.Join(dir, "state", portsName)}).write(rec); err != nil {
		t.Fatal(err)
	}
	run := func(t *testing.T) (a *Agent, wantVRF func(uint32), say func(uint32)) {
		plane := newFakePlane()
		a = testAgent(t, dir, plane, links)
		runAgent(t, a)
		wantVRF = func(want uint32) {
			t.Helper()
			eventually(t, fmt.Sprintf("the port is in VRF %d", want), func() error {
				if p, ok := plane.holds(3); !ok || p.VRF != want {
					return fmt.Errorf("it is in %d", p.VRF)
				}
				return nil
			})
		}
		say = func(passage uint32) {
			a.routing.mu.Lock()
			a.routing.believed.ports["p"] = &controlv1.Port{
				InterfaceId: "p", Vrf: rec.VRF, Passage: passage, Label: rec.Label, Mac: rec.MAC,
				Addresses: []string{rec.Addresses[0].Address}, Namespace: rec.Namespace, Revision: rec.Revision,
			}
			a.routing.mu.Unlock()
			a.registry.touch()
		}
		return a, wantVRF, say
	}
	t.Run("a service", func(t *testing.T) {
		a, wantVRF, say := run(t)
		wantVRF(rec.VRF)
		say(passage)
		wantVRF(passage)
		if !a.registry.usesVRF(passage) || !a.registry.usesVRF(rec.VRF) {
			t.Error("the routes of the passage, or of the network, would be dropped")
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		_, wantVRF, say := run(t)
		wantVRF(passage)
		say(0)
		wantVRF(rec.VRF)
	})
}
