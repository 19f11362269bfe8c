package compile

import (
	"net/netip"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// LinkLocalService is a service outside of the overlay that the tasks of all
// networks find at a link-local address.
type LinkLocalService struct {
	Name string
	// At is what tasks use, in 169.254.0.0/16.
	At netip.AddrPort
	// To is where it is, or DNSName the name of that for the nodes' resolvers.
	To      netip.Addr
	DNSName string
	Port    uint16
}

// linkLocalNet is of RFC 3927.
var linkLocalNet = netip.MustParsePrefix("169.254.0.0/16")

// LinkLocalServices are those of the configuration, in its order; not nil. Left out
// is what cannot be: validation refuses it, but an older version may have stored it.
func LinkLocalServices(v *model.View) []LinkLocalService {
	list := []LinkLocalService{}
	o, ok := v.ByName(model.KindGlobalVrouterConfig, []string{globalSystemConfig, "default-global-vrouter-config"})
	if !ok || o.(*model.GlobalVrouterConfig).LinklocalServices == nil {
		return list
	}
	for _, e := range o.(*model.GlobalVrouterConfig).LinklocalServices.LinklocalServiceEntry {
		at, err := netip.ParseAddr(e.LinklocalServiceIP)
		port, toPort := model.ValueOr(e.LinklocalServicePort, 0), model.ValueOr(e.IPFabricServicePort, 0)
		if err != nil || !linkLocalNet.Contains(at) || port < 1 || port > 65535 || toPort < 1 || toPort > 65535 {
			continue
		}
		s := LinkLocalService{Name: e.LinklocalServiceName, At: netip.AddrPortFrom(at, uint16(port)), Port: uint16(toPort)}
		if to, err := netip.ParseAddr(e.IPFabricServiceIP); err == nil && to.Is4() {
			s.To = to
		} else if s.DNSName = e.IPFabricDNSServiceName; s.DNSName == "" {
			continue
		}
		list = append(list, s)
	}
	return list
}

// machineKinds are those of machines that serve the cluster, with the property that
// has their address on the underlay. Nodes are known by themselves.
var machineKinds = map[model.Kind]string{
	model.KindConfigNode:         "config_node_ip_address",
	model.KindConfigDatabaseNode: "config_database_node_ip_address",
	model.KindDatabaseNode:       "database_node_ip_address",
	model.KindAnalyticsNode:      "analytics_node_ip_address",
	model.KindAnalyticsAlarmNode: "analytics_alarm_node_ip_address",
	model.KindAnalyticsSNMPNode:  "analytics_snmp_node_ip_address",
	model.KindWebuiNode:          "webui_node_ip_address",
}

// IsMachine tells whether an object stands for a machine that serves the cluster.
func IsMachine(kind model.Kind) bool { return machineKinds[kind] != "" }

// Machines are the addresses of machines that serve the cluster, as far as there are
// objects for them, in no order; not nil.
func Machines(v *model.View) []netip.Addr {
	list := []netip.Addr{}
	for kind, property := range machineKinds {
		for o := range v.AllStored(kind) {
			if a, err := netip.ParseAddr(o.Text(property)); err == nil {
				list = append(list, a)
			}
		}
	}
	return list
}

// FabricNetwork is the UUID of the network that the nodes' own addresses are in, and
// all outside of the overlay; empty where there is none.
func FabricNetwork(v *model.View) string {
	o, ok := v.ByName(model.KindVirtualNetwork, strings.Split(fabricNetwork, ":"))
	if !ok {
		return ""
	}
	return o.GetMeta().UUID
}
