package compile

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

// The ids are in stores that exist: these must never change.
func TestIDsAreFixed(t *testing.T) {
	const network = "753a65ef-918a-4d2b-9a3c-0f3c1d2e4b5a"
	if got := InstanceUUID(network); got != "753a65ef-918a-4d2b-9aff-55aa125fa377" {
		t.Errorf("instance %s", got)
	}
	for target, id := range map[Target]string{
		"target:64512:8000001":    "72746172-6765-8000-8000-fc00007a1201",
		"target:192.0.2.1:7":      "72746172-6765-8000-8100-c00002010007",
		"target:4200000000:65535": "72746172-6765-8000-8200-fa56ea00ffff",
	} {
		if got := TargetUUID(target); got != id || !model.IsUUID(id) {
			t.Errorf("%s has id %s, want %s", target, got, id)
		}
		if got, ok := TargetOfUUID(id); !ok || got != target {
			t.Errorf("%s is %s, want %s", id, got, target)
		}
	}
}

func TestIDsReadBackwards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := model.DerivedUUID(rapid.String().Draw(t, "name"))
		instance := InstanceUUID(id)
		if instance == id || NetworkOfInstance(instance) != id || !model.IsUUID(instance) {
			t.Fatalf("network %s has instance %s, which belongs to %s", id, instance, NetworkOfInstance(instance))
		}
		if target, ok := TargetOfUUID(id); ok {
			t.Fatalf("%s is the target %s", id, target)
		}
	})
}

func TestCanonical(t *testing.T) {
	for in, want := range map[Target]Target{
		"target:064512:07": "target:64512:7", "target:70000:8": "target:70000:8", "target:70000:70000": "target:70000:70000",
		"target:192.0.2.1:70000": "target:192.0.2.1:70000", "rt:1:2": "rt:1:2", "target:::1": "target:::1",
	} {
		if got := in.Canonical(); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	for _, bad := range []Target{"", "target:1", "target:x:1", "target:1:x", "target:99999999999:1", "target:70000:70000"} {
		if id := TargetUUID(bad); id != "" {
			t.Errorf("%q has id %s", bad, id)
		}
	}
	for _, id := range []string{"", "x", "72746172-6765-8000-8300-fc00007a1201", "72746172-6765-8000-8001-fc00007a1201"} {
		if target, ok := TargetOfUUID(id); ok {
			t.Errorf("%q is %s", id, target)
		}
	}
}
