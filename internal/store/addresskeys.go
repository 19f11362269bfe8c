package store

import (
	"net/netip"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Spaces of what networks have beside the addresses of their objects.
const (
	SpaceAllocated Space = "alloc"
	SpaceMAC       Space = "mac"
)

// AllocatedKey is the key of an address that a network has by ip-alloc.
func AllocatedKey(network string, a netip.Addr) Key { return key(SpaceAllocated, network, a.String()) }

// AllocatedPrefix is the range of the addresses that a network has by ip-alloc.
func AllocatedPrefix(network string) Key { return key(SpaceAllocated, network) + "/" }

// MACKey is the key of a MAC address in a network.
func MACKey(network, mac string) Key { return key(SpaceMAC, network, mac) }

// NumberPrefix is the range of a kind's numbers.
func NumberPrefix(kind string) Key { return key(SpaceNumber, kind) + "/" }

// KindPrefix is the range of all objects of a kind.
func KindPrefix(kind model.Kind) Key { return key(SpaceObject, string(kind)) + "/" }
