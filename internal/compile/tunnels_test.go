package compile

import (
	"slices"
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestEncapsulations(t *testing.T) {
	all := []Encapsulation{MPLSoUDP, MPLSoGRE, VXLAN}
	for name, c := range map[string]struct {
		list     *model.EncapsulationPrioritiesType
		want     []Encapsulation
		overhead uint32
	}{
		"no list":      {nil, all, 50},
		"empty list":   {&model.EncapsulationPrioritiesType{}, all, 50},
		"one":          {&model.EncapsulationPrioritiesType{Encapsulation: []string{"MPLSoGRE"}}, []Encapsulation{MPLSoGRE}, 28},
		"in its order": {&model.EncapsulationPrioritiesType{Encapsulation: []string{"VXLAN", "MPLSoUDP"}}, []Encapsulation{VXLAN, MPLSoUDP}, 50},
		"MPLS":         {&model.EncapsulationPrioritiesType{Encapsulation: []string{"MPLSoGRE", "MPLSoUDP"}}, []Encapsulation{MPLSoGRE, MPLSoUDP}, 32},
		"unknown":      {&model.EncapsulationPrioritiesType{Encapsulation: []string{"STT", "MPLSoUDP"}}, []Encapsulation{MPLSoUDP}, 32},
	} {
		t.Run(name, func(t *testing.T) {
			g := model.NewGraph()
			g.Reset(model.Batch{Position: model.Position{Epoch: 1, Revision: 1}, Objects: []model.Object{&model.GlobalVrouterConfig{
				Meta: model.Meta{UUID: model.DerivedUUID("gvc"), FQName: []string{globalSystemConfig, "default-global-vrouter-config"}}, EncapsulationPriorities: c.list,
			}}})
			g.View(func(v *model.View) {
				got := Encapsulations(v)
				if !slices.Equal(got, c.want) || Overhead(got) != c.overhead {
					t.Errorf("%v with an overhead of %d, want %v with %d", got, Overhead(got), c.want, c.overhead)
				}
			})
		})
	}
}
