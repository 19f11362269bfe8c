package master

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

// metrics are the values of /metrics/snapshot, by Mesos's names.
func (m *Master) metrics() map[string]float64 {
	values := map[string]float64{
		"master/elected": 1, "master/uptime_secs": time.Since(m.started).Seconds(),
		"master/slaves_unreachable": float64(len(m.registry.Unreachable)), "master/outstanding_offers": float64(len(m.offers)),
		"master/slave_registrations":      float64(m.counters.agentRegistrations),
		"master/slave_removals":           float64(m.counters.agentRemovals),
		"master/slave_unreachable_marked": float64(m.counters.agentUnreachable),
		"master/valid_status_updates":     float64(m.counters.statusUpdates - m.counters.invalidUpdates),
		"master/invalid_status_updates":   float64(m.counters.invalidUpdates),
		"master/recovered_slaves":         float64(len(m.recovered)), "registrar/registry_size_agents": float64(len(m.registry.Agents)),
	}
	for state, name := range taskMetrics {
		values["master/tasks_"+name] = 0
		if terminal(state) {
			values["master/tasks_"+name] = float64(m.counters.terminal[state])
		}
	}
	for _, name := range []string{"connected", "disconnected", "active", "inactive"} {
		values["master/slaves_"+name], values["master/frameworks_"+name] = 0, 0
	}
	var total, used quantities
	for _, a := range sorted(m.agents) {
		total, used = total.plus(a.total), used.plus(a.used())
		count(values, "master/slaves_", a.session != nil, a.active())
	}
	for _, f := range m.frameworks {
		count(values, "master/frameworks_", f.stream != nil, f.stream != nil)
		values["master/tasks_unreachable"] += float64(len(f.unreachable))
		for _, t := range f.tasks {
			if !terminal(t.info.GetState()) {
				values["master/tasks_"+taskMetrics[t.info.GetState()]]++
			}
		}
	}
	for _, name := range []string{"cpus", "mem", "disk", "gpus"} {
		all, taken := float64(total.of(name).milli)/1000, float64(used.of(name).milli)/1000
		values["master/"+name+"_total"], values["master/"+name+"_used"], values["master/"+name+"_percent"] = all, taken, 0
		if all > 0 {
			values["master/"+name+"_percent"] = taken / all
		}
	}
	return values
}

func count(values map[string]float64, prefix string, connected, active bool) {
	for _, one := range []struct {
		holds   bool
		yes, no string
	}{{connected, "connected", "disconnected"}, {active, "active", "inactive"}} {
		if one.holds {
			values[prefix+one.yes]++
		} else {
			values[prefix+one.no]++
		}
	}
}

var taskMetrics = map[mesosv1.TaskState]string{
	mesosv1.TaskState_TASK_STAGING: "staging", mesosv1.TaskState_TASK_STARTING: "starting", mesosv1.TaskState_TASK_RUNNING: "running",
	mesosv1.TaskState_TASK_KILLING: "killing", mesosv1.TaskState_TASK_FINISHED: "finished", mesosv1.TaskState_TASK_FAILED: "failed",
	mesosv1.TaskState_TASK_KILLED: "killed", mesosv1.TaskState_TASK_ERROR: "error", mesosv1.TaskState_TASK_LOST: "lost",
	mesosv1.TaskState_TASK_DROPPED: "dropped", mesosv1.TaskState_TASK_GONE: "gone", mesosv1.TaskState_TASK_GONE_BY_OPERATOR: "gone_by_operator",
	mesosv1.TaskState_TASK_UNREACHABLE: "unreachable",
}

func (m *Master) metricMessages() []*mesosv1.Metric {
	values := m.metrics()
	all := make([]*mesosv1.Metric, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, &mesosv1.Metric{Name: &name, Value: proto.Float64(values[name])})
	}
	return all
}

// flags are the master's settings under the names that Mesos has for them.
func (m *Master) flags() map[string]string {
	_, port := splitAddress(m.cfg.Address)
	ip, _ := splitAddress(m.cfg.Address)
	return map[string]string{
		"agent_ping_timeout": mesosDuration(m.cfg.PingInterval), "max_agent_ping_timeouts": fmt.Sprint(int(m.cfg.PingTimeout / m.cfg.PingInterval)),
		"agent_reregister_timeout": mesosDuration(m.cfg.ReregisterTimeout), "allocation_interval": mesosDuration(m.cfg.AllocationInterval),
		"authenticate_agents": "true", "authenticate_frameworks": "false", "cluster": m.cfg.Cluster, "hostname": m.cfg.Hostname,
		"ip": ip, "port": fmt.Sprint(port), "work_dir": m.cfg.WorkDir,
		"max_completed_frameworks": fmt.Sprint(maxCompletedFrameworks), "max_completed_tasks_per_framework": fmt.Sprint(maxCompletedTasks),
		"max_operator_event_stream_subscribers": fmt.Sprint(maxSubscribers), "root_submissions": "true", "zk_session_timeout": "10secs",
	}
}

// mesosDuration writes a duration as Mesos's flags do.
func mesosDuration(d time.Duration) string {
	switch {
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dmins", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%dsecs", d/time.Second)
	default:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	}
}

func (m *Master) flagMessages() []*mesosv1.Flag {
	flags := m.flags()
	all := make([]*mesosv1.Flag, 0, len(flags))
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		value := flags[name]
		all = append(all, &mesosv1.Flag{Name: &name, Value: &value})
	}
	return all
}
