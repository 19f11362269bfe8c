package compile

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Encapsulation is how packets travel between nodes, as the API names it.
type Encapsulation string

// The encapsulations.
const (
	MPLSoUDP Encapsulation = "MPLSoUDP"
	MPLSoGRE Encapsulation = "MPLSoGRE"
	VXLAN    Encapsulation = "VXLAN"
)

// overheads are what outer headers take, over IPv4: 20 bytes, and UDP 8 and a
// label 4 (RFC 7510), GRE 4 and a label 4 (RFC 4023), or UDP 8, VXLAN 8 and
// the frame's own 14 (RFC 7348).
var overheads = map[Encapsulation]uint32{MPLSoUDP: 32, MPLSoGRE: 28, VXLAN: 50}

// Encapsulations are those that the cluster uses, the preferred one first: all
// of them, if the configuration has no list.
func Encapsulations(v *model.View) []Encapsulation {
	var list []Encapsulation
	if o, ok := v.ByName(model.KindGlobalVrouterConfig, []string{globalSystemConfig, "default-global-vrouter-config"}); ok {
		if p := o.(*model.GlobalVrouterConfig).EncapsulationPriorities; p != nil {
			for _, name := range p.Encapsulation {
				if e := Encapsulation(name); overheads[e] != 0 && !slices.Contains(list, e) {
					list = append(list, e)
				}
			}
		}
	}
	if len(list) == 0 {
		list = []Encapsulation{MPLSoUDP, MPLSoGRE, VXLAN}
	}
	return list
}

// Overhead is what the largest of the encapsulations adds to a packet.
func Overhead(list []Encapsulation) uint32 {
	var largest uint32
	for _, e := range list {
		largest = max(largest, overheads[e])
	}
	return largest
}
