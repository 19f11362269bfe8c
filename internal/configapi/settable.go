package configapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// checkSettable refuses properties of a new object that are not the client's
// to set. Giving one its default says nothing and is allowed: some clients send
// every property that they know.
func checkSettable(t *model.Type, properties map[string]json.RawMessage) error {
	if t.Kind == model.KindAccessControlList {
		return denied("access-control-list follows from its network or security group and cannot be created by itself; change those")
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p, ok := t.Property(name)
		if !ok || strings.Contains(p.Ops, "C") || isAbsent(properties[name]) || sameJSON(properties[name], json.RawMessage(p.Value.Default)) {
			continue
		}
		switch name {
		case "security_group_id":
			return denied("Cannot set the security group ID")
		case "configuration_version":
			continue // the system counts; what a client sends is left out
		}
		return invalid("Bad property in create: %s can not be set", name)
	}
	return nil
}
