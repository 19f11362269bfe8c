package control

import (
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

func restoreState(phase string) []store.Entry {
	return []store.Entry{{Key: store.RestoreStateKey, Value: []byte(`{"phase":"` + phase + `"}`)}}
}

// Agents hear that the store settles before anything else, and that it is whole
// after all that makes it so.
func TestSettlingIsToldFirstAndItsEndLast(t *testing.T) {
	tables := newTables(discard(), newMetrics())
	w := newWorld()
	tables.apply(tables.facts.read(w.graph, model.Changes{Everything: true, Position: w.graph.Position()}))
	s, _ := tables.open(id("node", "node-1"), hello, func(error) {})
	told := func() (list []*controlv1.ControlMessage) {
		for {
			_, bodies, more := s.collect(nil)
			for _, b := range bodies {
				m := &controlv1.ControlMessage{}
				if err := proto.Unmarshal(b, m); err != nil {
					t.Fatal(err)
				}
				list = append(list, m)
			}
			if !more {
				return list
			}
		}
	}
	if first := told()[0].GetCluster(); first == nil || first.Settling {
		t.Fatalf("first message is %v, want that the store is whole", first)
	}
	// The store is restored, and opened at revision 1000 with a last attachment.
	if err := tables.recovery.Apply(500, restoreState("awaiting")); err != nil {
		t.Fatal(err)
	}
	w.network("blue", 5, nil, nil)
	w.node("node-1", "172.31.0.11", 1500)
	tables.apply(tables.facts.read(w.graph, model.Changes{Everything: true, Position: w.graph.Position()}))
	if first := told()[0].GetCluster(); first == nil || !first.Settling {
		t.Fatalf("first message is %v, want that the store settles", first)
	}
	w.attach("c", "blue", "node-1", "10.0.0.4", 16)
	opened := int64(w.revision)
	if err := tables.recovery.Apply(opened, restoreState("open")); err != nil {
		t.Fatal(err)
	}
	if list := told(); len(list) != 0 {
		t.Fatalf("before the graph shows that the store is open: %v", list)
	}
	tables.apply(tables.facts.read(w.graph, model.Changes{Everything: true, Position: w.graph.Position()}))
	list := told()
	last := list[len(list)-1].GetCluster()
	if len(list) < 3 || last == nil || last.Settling {
		t.Fatalf("messages are %v, want ports and routes and then that the store is whole", list)
	}
}
