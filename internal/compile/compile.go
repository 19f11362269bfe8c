// Package compile derives from the configuration what forwarding needs and no
// user writes: for each virtual network a routing instance (a VRF) and its
// route targets, and of all rules that users write the policy sets of ports.
//
//	              .--Compiler--> control: results, and which of them a change concerns
//	graph -- units
//	              `--Derive, AccessLists--> configuration API: objects and references of one view
//
// Everything here is a pure function of the graph. All numbers were allocated
// in the transaction that created the user's object, and ids follow from the
// network's, so that every process that needs a derived object computes the
// same one for itself, and none is stored.
//
// Compiling is divided into units: an instance, for example, is a unit, and
// every network owns one. A unit reads from a graph, which remembers what was
// read; so a Compiler knows what a change of the configuration concerns, and
// nobody has to write down what depends on what.
package compile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

const (
	// DefaultASN is the autonomous system where the configuration names none.
	DefaultASN = 64512
	// lastShortASN is the highest autonomous system that leaves 32 bits of a
	// route target for the number; higher ones leave 16 (RFC 5668).
	lastShortASN = 1<<16 - 1
)

// FirstTarget is added to a network's number in its own route target; lower
// ones are left to users.
func FirstTarget(asn int64) int64 {
	if asn > lastShortASN {
		return 8_000
	}
	return 8_000_000
}

// LastNumber is the highest number of a network whose own route target can be
// encoded.
func LastNumber(asn int64) int64 {
	if asn > lastShortASN {
		return 1<<16 - 1 - FirstTarget(asn)
	}
	return 1<<32 - 1 - FirstTarget(asn)
}

// Target is a route target in the form target:ASN:NUMBER.
type Target string

// Names of the objects with the cluster's configuration.
const (
	globalSystemConfig  = "default-global-system-config"
	globalVrouterConfig = globalSystemConfig + ":default-global-vrouter-config"
)

// system is what all networks need of the cluster's configuration.
type system struct {
	asn int64
	// mode is the forwarding mode of networks that have none of their own.
	mode string
	// ownVXLAN: networks and routers say their VXLAN network identifiers.
	ownVXLAN bool
	// strict: between networks with policies nothing passes that no rule allows,
	// by whatever route.
	strict bool
}

var systemUnit = &unit[system]{name: "system", layer: 0, compute: func(g *graph, _ string) *system {
	s := &system{asn: DefaultASN}
	if o, ok := byName[*model.GlobalSystemConfig](g, model.KindGlobalSystemConfig, globalSystemConfig); ok {
		if n := model.ValueOr(o.AutonomousSystem, 0); n > 0 {
			s.asn = n
		}
		s.strict = !IsTuned(o, TuneLogicalRouters)
	}
	if vrouters, ok := byName[*model.GlobalVrouterConfig](g, model.KindGlobalVrouterConfig, globalVrouterConfig); ok {
		s.mode, s.ownVXLAN = vrouters.ForwardingMode, vrouters.VXLANNetworkIdentifierMode == "configured"
	}
	return s
}}

// Tunings are settings of the whole cluster that classic releases had as options
// of one of their processes. Here they are among the plugin_tuning of the
// global-system-config, by the same names, so that all processes compile the
// same.
const (
	// TuneLogicalRouters: routes may connect networks by other means than
	// policies, and what no rule of a network's policies is about passes there.
	TuneLogicalRouters = "logical_routers_enabled"
	// TuneDefaultGroup: each project has a security group default, which new
	// containers of its networks get.
	TuneDefaultGroup = "default_security_group_enabled"
)

// Tunings are all of them with their defaults.
var Tunings = map[string]bool{TuneLogicalRouters: true, TuneDefaultGroup: false}

// IsTuned tells whether a tuning is on.
func IsTuned(o *model.GlobalSystemConfig, name string) bool {
	if o != nil && o.PluginTuning != nil {
		for _, p := range o.PluginTuning.PluginProperty {
			if p.Property == name && (p.Value == "true" || p.Value == "false") {
				return p.Value == "true"
			}
		}
	}
	return Tunings[name]
}

// ASN is the cluster's autonomous system.
func ASN(v *model.View) int64 { return systemUnit.get(graphOf(v), "").asn }

func ownTarget(asn int64, number uint32) Target {
	return Target(fmt.Sprintf("target:%d:%d", asn, FirstTarget(asn)+int64(number)))
}

func listed(list *model.RouteTargetList) []Target {
	if list == nil {
		return nil
	}
	var targets []Target
	for _, t := range list.RouteTarget {
		targets = append(targets, Target(t).Canonical())
	}
	return targets
}

// sorted sorts a list in place, and leaves out what is in it twice.
func sorted[T cmp.Ordered](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}
