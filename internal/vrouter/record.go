package vrouter

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// attachKey names an interface of a container on this node.
type attachKey struct {
	container string
	ifname    string
}

func (k attachKey) String() string { return k.container + " " + k.ifname }

// record is one port of the node, and the content of its file. Records are
// replaced, never changed.
type record struct {
	// ID is the interface's UUID in the configuration.
	ID string `json:"id"`
	// ContainerID, Interface, Namespace and BootID are the attachment's key.
	// ContainerID is empty for ports of the classic port API.
	ContainerID string `json:"container_id,omitempty"`
	Interface   string `json:"interface,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	NetnsPath   string `json:"netns_path,omitempty"`
	BootID      string `json:"boot_id"`
	// Sequence of the request that attached it; see portapi.Sequence.
	Sequence uint64 `json:"sequence,omitempty"`

	HostInterface string `json:"host_interface"`
	HostIndex     int    `json:"host_index"`

	VirtualMachineID string `json:"virtual_machine_id,omitempty"`
	// InstanceIPs are the objects of the addresses, by address; ProjectID is
	// that of the interface. The node has no use for them: after a restore it
	// tells the store what it does not know any more.
	InstanceIPs map[string]string `json:"instance_ips,omitempty"`
	ProjectID   string            `json:"project_id,omitempty"`
	NetworkID   string            `json:"network_id,omitempty"`
	NetworkName []string          `json:"network_name,omitempty"`
	VRF         uint32            `json:"vrf"`
	// Passage is the VRF in which what leaves the port is looked up, where it is
	// an interface of a service that traffic is led through; else 0.
	Passage   uint32            `json:"passage,omitempty"`
	Label     uint32            `json:"label"`
	MAC       string            `json:"mac"`
	Addresses []portapi.Address `json:"addresses"`
	// Foreign are addresses that it has in other networks.
	Foreign     []dataplane.ForeignAddress `json:"foreign,omitempty"`
	MTU         uint32                     `json:"mtu"`
	DisplayName string                     `json:"display_name,omitempty"`
	// Egress and Ingress bound what the container sends and is sent.
	Egress  dataplane.Limit `json:"egress,omitzero"`
	Ingress dataplane.Limit `json:"ingress,omitzero"`
	// Epoch and Revision of the store at which the attachment was made.
	Epoch    uint64 `json:"epoch,omitempty"`
	Revision uint64 `json:"revision,omitempty"`

	// Disabled ports drop everything (PUT /disable-port).
	Disabled bool `json:"disabled,omitempty"`
	// Classic is what a client of the classic port API posted.
	Classic map[string]any `json:"classic,omitempty"`
}

func (r *record) key() attachKey {
	if r.ContainerID == "" {
		return attachKey{container: r.ID}
	}
	return attachKey{r.ContainerID, r.Interface}
}

// outlives tells whether a detach means an earlier life of the same interface:
// another namespace, or what was there before a newer request.
func (r *record) outlives(q portapi.DetachRequest) bool {
	return q.Namespace != "" && q.Namespace != r.Namespace ||
		q.Sequence != 0 && q.BootID == r.BootID && r.Sequence > q.Sequence
}

func (r *record) isClassic() bool { return r.ContainerID == "" }

// port is the record as the data plane wants it; ok is false while something
// that it needs is not known yet.
func (r *record) port() (p dataplane.Port, ok bool, err error) {
	if r.HostIndex == 0 || r.VRF == 0 || r.Label == 0 || len(r.Addresses) == 0 {
		return p, false, nil
	}
	p = dataplane.Port{IfIndex: r.HostIndex, Name: r.HostInterface, VRF: cmp.Or(r.Passage, r.VRF), Label: r.Label, Foreign: r.Foreign, Egress: r.Egress, Ingress: r.Ingress, Blocked: r.Disabled}
	if p.MAC, err = dataplane.ParseMAC(r.MAC); err != nil {
		return p, false, err
	}
	for _, a := range r.Addresses {
		address, err := netip.ParseAddr(a.Address)
		if err != nil {
			return p, false, fmt.Errorf("address of port %s: %w", r.ID, err)
		}
		p.Addresses = append(p.Addresses, address)
		gateway, err := netip.ParseAddr(a.Gateway)
		if err == nil && !gateway.IsUnspecified() && !slices.Contains(p.Gateways, gateway) && len(p.Gateways) < dataplane.MaxGateways {
			p.Gateways = append(p.Gateways, gateway)
		}
	}
	return p, true, nil
}

// running is the record as a restored store has to be told it.
func (r *record) running(node string) *configv1.Running {
	at := &configv1.Attachment{
		Key: &configv1.AttachmentKey{
			Node: node, ContainerId: r.ContainerID, Interface: r.Interface, BootId: r.BootID, Namespace: r.Namespace,
		},
		VirtualMachineId: r.VirtualMachineID, InterfaceId: r.ID, NetworkId: r.NetworkID, NetworkFqName: r.NetworkName,
		ProjectId: r.ProjectID, Vrf: r.VRF, Label: r.Label, Mac: r.MAC, DisplayName: r.DisplayName,
	}
	for _, a := range r.Addresses {
		at.Addresses = append(at.Addresses, &configv1.Address{
			Address: a.Address, PrefixLength: uint32(a.PrefixLength), Gateway: a.Gateway, DnsServer: a.DNSServer,
			InstanceIpId: r.InstanceIPs[a.Address],
		})
	}
	return &configv1.Running{Attachment: at, Sequence: r.Sequence}
}

func (r *record) answer() *portapi.AttachResponse {
	return &portapi.AttachResponse{
		InterfaceID: r.ID, MAC: r.MAC, Addresses: r.Addresses, MTU: r.MTU, NetworkName: r.NetworkName,
	}
}
