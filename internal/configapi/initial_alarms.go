package configapi

import (
	"encoding/json"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Severities of alarms.
const (
	critical = 0
	major    = 1
	minor    = 2
)

// Where the states are that alarms look at.
var (
	everyNode = []string{
		"analytics-node", "analytics-alarm-node", "analytics-snmp-node", "config-node", "control-node",
		"database-node", "config-database-node", "vrouter",
	}
	databaseNodes = []string{"database-node", "config-database-node"}
	vrouterNodes  = []string{"vrouter"}
	controlNodes  = []string{"control-node"}
)

// systemAlarm is an alarm that every cluster has.
type systemAlarm struct {
	name     string
	severity int64
	on       []string
	// rules are raised when all conditions of one of them hold.
	rules [][]condition
}

// condition compares an attribute of a state with a JSON value or, when other
// is set, with another attribute.
type condition struct {
	attribute, operation, value, other string
	// shown are attributes that explain the alarm.
	shown []string
}

func anyOf(list ...condition) [][]condition {
	var rules [][]condition
	for _, c := range list {
		rules = append(rules, []condition{c})
	}
	return rules
}

// systemAlarms are in the order of their severity.
var systemAlarms = []systemAlarm{
	{"node-status", critical, everyNode, anyOf(condition{attribute: "NodeStatus", operation: "==", value: "null"})},
	{"process-status", critical, everyNode, anyOf(
		condition{attribute: "NodeStatus.process_info", operation: "==", value: "null"},
		condition{attribute: "NodeStatus.process_info.process_state", operation: "!=", value: `"PROCESS_STATE_RUNNING"`, shown: []string{"NodeStatus.process_info.process_name"}},
	)},
	{"process-connectivity", critical, everyNode, anyOf(
		condition{attribute: "NodeStatus.process_status", operation: "==", value: "null"},
		condition{attribute: "NodeStatus.process_status.state", operation: "!=", value: `"Functional"`, shown: []string{"NodeStatus.process_status.module_id", "NodeStatus.process_status.instance_id"}},
	)},
	{"disk-usage-critical", critical, everyNode, anyOf(condition{
		attribute: "NodeStatus.disk_usage_info.*.percentage_partition_space_used", operation: ">", value: "90", shown: []string{"NodeStatus.disk_usage_info.__key"},
	})},
	{"core-files", critical, everyNode, [][]condition{{
		{attribute: "NodeStatus.all_core_file_list", operation: "!=", value: "null"},
		{attribute: "NodeStatus.all_core_file_list", operation: "size!=", value: "0"},
	}}},
	{"package-version-mismatch", critical, everyNode, anyOf(condition{
		attribute: "NodeStatus.running_package_version", operation: "!=", other: "NodeStatus.installed_package_version",
	})},
	{"vrouter-table-limit-exceeded", critical, vrouterNodes, anyOf(condition{
		attribute: "VrouterAgent.res_table_limit", operation: "==", value: "true", shown: []string{"VrouterAgent.vr_limit_exceeded_list"},
	})},
	{"disk-usage-high", major, everyNode, anyOf(condition{
		attribute: "NodeStatus.disk_usage_info.*.percentage_partition_space_used", operation: "range", value: "[70, 90]", shown: []string{"NodeStatus.disk_usage_info.__key"},
	})},
	{"partial-sysinfo", major, everyNode, anyOf(condition{attribute: "NodeStatus.build_info", operation: "==", value: "null"})},
	{"conf-incorrect", major, everyNode, anyOf(condition{attribute: "ContrailConfig", operation: "==", value: "null"})},
	{"address-mismatch-compute", major, vrouterNodes, anyOf(condition{
		attribute: "ContrailConfig.elements.virtual_router_ip_address", operation: "!=", other: "VrouterAgent.control_ip",
	})},
	{"address-mismatch-control", major, controlNodes, anyOf(condition{
		attribute: "ContrailConfig.elements.bgp_router_parameters.address", operation: "not in", other: "BgpRouterState.bgp_router_ip_list",
	})},
	{"bgp-connectivity", major, controlNodes, anyOf(
		condition{attribute: "BgpRouterState.num_up_bgp_peer", operation: "==", value: "null"},
		condition{attribute: "BgpRouterState.num_up_bgp_peer", operation: "!=", other: "BgpRouterState.num_bgp_peer"},
	)},
	{"xmpp-connectivity", major, controlNodes, anyOf(
		condition{attribute: "BgpRouterState.num_up_xmpp_peer", operation: "==", value: "null"},
		condition{attribute: "BgpRouterState.num_up_xmpp_peer", operation: "!=", other: "BgpRouterState.num_xmpp_peer"},
	)},
	{"xmpp-close-reason", major, []string{"xmpp-peer"}, [][]condition{{
		{attribute: "XmppPeerInfoData.close_reason", operation: "!=", value: "null"},
		{attribute: "XmppPeerInfoData.state_info.state", operation: "!=", value: `"Established"`},
	}}},
	{"vrouter-interface", major, vrouterNodes, anyOf(condition{
		attribute: "VrouterAgent.down_interface_count", operation: ">=", value: "1", shown: []string{"VrouterAgent.error_intf_list", "VrouterAgent.no_config_intf_list"},
	})},
	{"vrouter-limit-exceeded", major, vrouterNodes, anyOf(condition{
		attribute: "VrouterAgent.res_limit", operation: "==", value: "true", shown: []string{"VrouterAgent.vr_limit_exceeded_list"},
	})},
	{"prouter-connectivity", major, []string{"prouter"}, [][]condition{{
		{attribute: "ContrailConfig.elements.virtual_router_refs", operation: "!=", value: "null"},
		{attribute: "ProuterData.connected_agent_list", operation: "size!=", value: "1"},
	}}},
	{"prouter-tsn-connectivity", major, []string{"prouter"}, [][]condition{{
		{attribute: "ContrailConfig.elements.virtual_router_refs", operation: "!=", value: "null"},
		{attribute: "ProuterData.tsn_agent_list", operation: "size!=", value: "1"},
		{attribute: "ProuterData.gateway_mode", operation: "!=", value: `"SERVER"`},
	}, {
		{attribute: "ContrailConfig.elements.virtual_router_refs", operation: "!=", value: "null"},
		{attribute: "ProuterData.tsn_agent_list", operation: "size!=", value: "0"},
		{attribute: "ProuterData.gateway_mode", operation: "==", value: `"SERVER"`},
	}}},
	{"storage-cluster-state", major, []string{"storage-cluster"}, anyOf(condition{
		attribute: "StorageCluster.info_stats.status", operation: "!=", value: "0", shown: []string{"StorageCluster.info_stats.health_summary"},
	})},
	{"pending-cassandra-compaction-tasks", major, databaseNodes, anyOf(condition{
		attribute: "CassandraStatusData.cassandra_compaction_task.pending_compaction_tasks", operation: ">=", value: "300",
	})},
	{"bottle-request-size-limit", major, []string{"config-node"}, anyOf(condition{
		attribute: "ConfigApiStats.requests_too_large", operation: ">=", value: "1",
	})},
	{"phyif-bandwidth", minor, vrouterNodes, anyOf(
		condition{attribute: "VrouterStatsAgent.in_bps_ewm.*.sigma", operation: ">=", value: "2"},
		condition{attribute: "VrouterStatsAgent.in_bps_ewm.*.sigma", operation: "<=", value: "-2"},
		condition{attribute: "VrouterStatsAgent.out_bps_ewm.*.sigma", operation: ">=", value: "2"},
		condition{attribute: "VrouterStatsAgent.out_bps_ewm.*.sigma", operation: "<=", value: "-2"},
	)},
}

// initialAlarms are the objects of the alarms.
func initialAlarms() ([]initial, error) {
	var list []initial
	for _, s := range systemAlarms {
		severity := s.severity
		o := model.Alarm{
			AlarmSeverity: &severity, UveKeys: &model.UveKeysType{UveKey: s.on}, AlarmRules: &model.AlarmOrList{},
		}
		for _, rule := range s.rules {
			var all model.AlarmAndList
			for _, c := range rule {
				all.AndList = append(all.AndList, model.AlarmExpression{
					Operand1: c.attribute, Operation: c.operation, Variables: c.shown,
					Operand2: &model.AlarmOperand2{JSONValue: c.value, UveAttribute: c.other},
				})
			}
			o.AlarmRules.OrList = append(o.AlarmRules.OrList, all)
		}
		properties, err := json.Marshal(&o)
		if err != nil {
			return nil, err
		}
		list = append(list, initial{
			kind: model.KindAlarm, fqName: []string{systemConfig, "system-defined-" + s.name}, parent: model.KindGlobalSystemConfig,
			properties: string(properties), globalAccess: 4,
		})
	}
	return list, nil
}
