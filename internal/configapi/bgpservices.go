package configapi

import (
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// bgpServices are the numbers of the interfaces of a bgp-as-a-service: the ports
// by which control nodes tell their sessions apart.
const bgpServices = string(model.KindBGPAsAService)

// isNumbered tells whether references of this kind have numbers.
func isNumbered(e model.Edge) bool {
	return e.From.Kind == model.KindBGPAsAService && e.To.Kind == model.KindVirtualMachineInterface
}

// numberOf takes the number of a new reference, 0 where such have none.
func (c *change) numberOf(e model.Edge) (uint32, error) {
	if !isNumbered(e) {
		return 0, nil
	}
	c.holdSystem()
	first, last := compile.BGPServicePorts(c.v)
	n, err := c.takeNumber(bgpServices, uint32(first), uint32(last), e.From.UUID)
	if err != nil {
		return 0, exhausted("bgp-as-a-service %s: all ports from %d to %d that identify the sessions of interfaces are in use; remove references to interfaces, or have an administrator raise bgpaas_parameters.port_end of the global-system-config",
			e.From.UUID, first, last)
	}
	return n, nil
}

// returnNumberOf gives back the number of a reference that goes.
func (c *change) returnNumberOf(e model.Edge) error {
	if !isNumbered(e) {
		return nil
	}
	if r, ok := c.v.Reference(e.From.UUID, e.To.UUID); ok && r.Number != 0 {
		return c.giveBack(store.NumberKey(bgpServices, r.Number), "")
	}
	return nil
}

// changeBGPServicePorts refuses a range of ports that leaves out one in use.
func (c *change) changeBGPServicePorts(o, old *model.GlobalSystemConfig) error {
	first, last := compile.BGPServicePortsOf(o)
	if from, to := compile.BGPServicePortsOf(old); o.Name() != systemConfig || first <= from && last >= to {
		return nil
	}
	for s := range c.v.All(model.KindBGPAsAService) {
		for r := range c.v.ReferenceSeq(s.GetMeta().UUID, model.KindVirtualMachineInterface) {
			if r.Number != 0 && (r.Number < uint32(first) || r.Number > uint32(last)) {
				return invalid("Bad property: bgpaas_parameters: BGP Port range cannot be shrunk to %d-%d: port %d is that of bgp-as-a-service %s and interface %s; remove that reference first",
					first, last, r.Number, model.FQString(s.GetMeta().FQName), r.To.UUID)
			}
		}
	}
	c.Guard(store.Guard{Condition: store.RangeUnchanged, Key: store.NumberPrefix(bgpServices), Revision: int64(c.since)})
	return nil
}
