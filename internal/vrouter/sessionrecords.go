package vrouter

import (
	"strings"

	"connectrpc.com/connect"

	"github.com/contrail-mesos/contrail/api/contrail/collector/v1/collectorv1connect"
	"github.com/contrail-mesos/contrail/internal/serve"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/records"
)

func (a *Agent) makeRecords() {
	if len(a.config.Collectors) == 0 {
		return
	}
	a.records = records.New(a.log, records.Config{
		Source: a.dataplane, Node: a.node, Boot: a.bootID, Ports: a.recordPorts, Collectors: a.config.Collectors,
		Dial: func(address string) (collectorv1connect.CollectorClient, error) {
			client, base, err := serve.Client(address, a.config.Credentials, true, ctls.RoleAnalytics)
			if err != nil {
				return nil, err
			}
			return collectorv1connect.NewCollectorClient(client, base, connect.WithGRPC()), nil
		},
	})
}

// recordPorts are what records call the ports of the node.
func (a *Agent) recordPorts() map[int]records.Port {
	who := map[string]dataplane.Identity{}
	for _, p := range a.routing.graphPorts() {
		if policy := p.GetPolicy(); policy != nil {
			who[p.GetInterfaceId()] = dataplane.NewIdentity(policy.GetNetwork(), policy.GetSecurityGroups(), policy.GetTags())
		}
	}
	all, _ := a.registry.all()
	ports := make(map[int]records.Port, len(all))
	for _, r := range all {
		ports[r.HostIndex] = records.Port{
			ID: r.ID, ProjectID: r.ProjectID, NetworkID: r.NetworkID, NetworkName: strings.Join(r.NetworkName, ":"),
			ContainerID: r.ContainerID, Name: r.DisplayName, VirtualMachineID: r.VirtualMachineID, Identity: who[r.ID],
		}
	}
	return ports
}

// recordState is how the sending of records does; empty where nobody is told.
func (a *Agent) recordState() records.State {
	if a.records == nil {
		return records.State{}
	}
	return a.records.State()
}
