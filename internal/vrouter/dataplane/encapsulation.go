package dataplane

import "fmt"

// Encapsulation is what packets have around them in a tunnel.
type Encapsulation uint8

// The encapsulations.
const (
	MPLSoUDP Encapsulation = 0 // RFC 7510
	MPLSoGRE Encapsulation = 1 // RFC 4023
	VXLAN    Encapsulation = 2 // RFC 7348
)

func (e Encapsulation) String() string {
	switch e {
	case MPLSoUDP:
		return "MPLSoUDP"
	case MPLSoGRE:
		return "MPLSoGRE"
	case VXLAN:
		return "VXLAN"
	}
	return fmt.Sprintf("encapsulation %d", uint8(e))
}

// MarshalText writes the name, for JSON.
func (e Encapsulation) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// number is the label, or with VXLAN the VNI.
func (n NextHop) number() uint32 {
	if n.Encapsulation == VXLAN {
		return n.VNI
	}
	return n.Label
}

// with is the next hop with another number.
func (n NextHop) with(number uint32) NextHop {
	if n.Encapsulation == VXLAN {
		n.VNI = number
	} else {
		n.Label = number
	}
	return n
}

// shared is what routes to it have alike: all but number and identity.
func (n NextHop) shared() NextHop {
	n = n.with(0)
	n.Identity = Identity{}
	return n
}

// PutVNI has the node take what comes by VXLAN with the identifier into a VRF.
// Nothing else comes by VXLAN.
func (d *Dataplane) PutVNI(vni, vrf uint32) error {
	err := validateVNI(vni)
	if err == nil && (vrf == 0 || vrf >= flowScopeVRF) {
		err = fmt.Errorf("vrf %d is outside 1..%d", vrf, flowScopeVRF-1)
	}
	if err == nil {
		err = d.maps().VniV1.Put(vni, vrf)
	}
	if err != nil {
		return fmt.Errorf("put VXLAN network identifier %d: %w", vni, err)
	}
	return nil
}

// DeleteVNI ends that; absent is success.
func (d *Dataplane) DeleteVNI(vni uint32) error {
	if err := deleted(d.maps().VniV1.Delete(vni)); err != nil {
		return fmt.Errorf("delete VXLAN network identifier %d: %w", vni, err)
	}
	return nil
}

// validateVNI refuses what has no place in a VXLAN header.
func validateVNI(vni uint32) error {
	if vni == 0 || vni > 1<<24-1 {
		return fmt.Errorf("vni %d is outside 1..16777215", vni)
	}
	return nil
}
