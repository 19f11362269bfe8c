package master

import (
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"

	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// differences are all known ones from what a real Mesos answered, by file and
// number of the exchange, or by path of the request.
var differences = map[string]string{
	"/api/v1 GET_OPERATIONS":           "501: no operations on resources",
	"/api/v1 GET_QUOTA":                "501: no quotas",
	"/api/v1 GET_MAINTENANCE_STATUS":   "501: no maintenance schedule",
	"/api/v1 GET_MAINTENANCE_SCHEDULE": "501: no maintenance schedule",
	"/roles":                           "404: nobody that we know reads it; GET_ROLES has the same",
	"/master/state-summary":            "404: nobody that we know reads it",
	"/maintenance/status":              "404: no maintenance schedule",
	"/quota":                           "404: no quotas",
	"/weights":                         "404: no weights",
	"/system/stats.json":               "404: belongs to libprocess",
	"/logging/toggle":                  "404: belongs to libprocess",
	"/__processes__":                   "404: belongs to libprocess",
	"/help":                            "404: belongs to libprocess",
	"/registrar(1)/registry":           "404: our registry is our own",
	"/master/machine/down":             "404: no maintenance schedule",
	"errors-04-call-type-unknown-crashes-master.json call": "a call of type UNKNOWN aborts Mesos; ours answers 400",
}

// missingFields are parts of recorded documents that ours do not have, by the
// end of their path.
var missingFields = []string{
	"agent_info.checkpoint", // leaks from Mesos's internal schema
	".offer_constraints",    // not supported
	".get_weights", ".flags.", ".get_flags.", ".get_metrics.",
	".reserved_resources_full", ".unavailability",
}

func nothing(exchange) bool { return false }

func TestReplayScheduler(t *testing.T) {
	for _, file := range []string{
		"errors-01-scheduler-http.json", "errors-02-accept-and-tasks.json", "errors-03-accept-not-partition-aware.json",
		"scheduler-01-subscribe-offers-decline-suppress-revive.json", "scheduler-02-task-lifecycle-on-network.json",
		"scheduler-03-launch-group-default-executor.json", "scheduler-05-several-roles.json",
	} {
		t.Run(file, func(t *testing.T) { newReplayer(t, file).run(recorded(t, file), nothing) })
	}
}

// A scheduler goes and comes back, in time and too late.
func TestReplayFailover(t *testing.T) {
	const file = "scheduler-04-failover-shutdown-message-teardown.json"
	r := newReplayer(t, file)
	r.past = ".get_frameworks.completed_frameworks[]"
	r.before[18] = func() { // the failover timeout of the second framework
		r.until("the framework is removed", func() bool { return len(r.h.master.completed) == 2 })
	}
	r.run(recorded(t, file), nothing)
	want := []string{"FrameworkMessage", "ShutdownExecutor", "ShutdownFramework", "ShutdownFramework", "ShutdownFramework"}
	r.until("the agent hears of everything", func() bool {
		r.agent.mu.Lock()
		defer r.agent.mu.Unlock()
		return slices.Equal(r.agent.heard, want)
	})
}

// An agent stays away for longer than the ping timeout, and comes back.
func TestReplayAgentLost(t *testing.T) {
	const file = "agent-lost-01-unreachable-and-return.json"
	cfg := quickConfig()
	cfg.PingInterval, cfg.PingTimeout = 200*time.Millisecond, 4*time.Second
	r := replayerWith(t, file, cfg)
	r.past = ".get_tasks.completed_tasks[]"
	r.notes["SIGKILL of the agent"] = func() {
		r.until("the agent hears acknowledgements", func() bool { return r.agent.heardAll(r.acknowledged) })
		r.agent.leave()
	}
	r.before[12] = func() { r.until("the agent is unreachable", func() bool { return len(r.h.master.agents) == 0 }) }
	r.notes["agent starts again"] = func() { r.comeBack() }
	r.run(recorded(t, file), nothing)
}

// A second agent is deactivated, drained, marked gone, and leaves.
func TestReplayAgentGone(t *testing.T) {
	const file = "agent-gone-01-mark-gone-drain-unregister.json"
	r := newReplayer(t, file)
	r.past = ".get_agents.agents[].reregistered_time" // of another node
	r.agent = &playedAgent{}                          // the first of them
	r.before[2] = func() { r.startAgent("node2.example") }
	r.before[13] = func() {
		r.until("the agent is drained", func() bool {
			return r.h.master.agents[r.agent.id.GetValue()].drain.GetState() == mesosv1.DrainState_DRAINED
		})
	}
	r.notes["agent2 process ended by itself"] = func() {
		<-r.agent.done // the master has ended the session
		r.agent.mu.Lock()
		heard := r.agent.heard
		r.agent.mu.Unlock()
		if !slices.Equal(heard, []string{"Kill", "Shutdown"}) {
			t.Errorf("the agent that is gone heard %v", heard)
		}
		r.startAgent("node2.example")
	}
	r.notes["SIGUSR1 to agent2"] = func() {
		r.agent.mu.Lock()
		defer r.agent.mu.Unlock()
		r.agent.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Unregister{Unregister: &clusterv1.Unregister{}}})
	}
	// Exchange 7 declines what another node offers, which the recording leaves out.
	r.run(recorded(t, file), func(e exchange) bool { return e.N == 7 })
}

// The master is killed and starts again without its registry, as the recorded
// one, which had it in memory.
func TestReplayMasterRestart(t *testing.T) {
	const file = "master-restart-01.json"
	r := newReplayer(t, file)
	r.notes["SIGKILL of the master"] = func() {
		r.h.stop()
		if err := os.RemoveAll(r.h.cfg.WorkDir); err != nil {
			t.Fatal(err)
		}
		r.h.start()
	}
	r.before[16] = func() { r.comeBack() }
	// Ours knows its registry before it answers, so there is no 503.
	r.run(recorded(t, file), func(e exchange) bool { return e.N == 5 })
}

// What operators are told of frameworks, tasks and agents that come and go.
func TestReplayOperatorStream(t *testing.T) {
	const file = "master-05-subscribe-stream.json"
	r := newReplayer(t, file)
	var second *testAgent
	r.notes["second agent starts"] = func() { second = r.h.agent(nodeB, registration("node2.example")) }
	r.notes["second agent gets SIGUSR1"] = func() {
		second.send(&clusterv1.AgentMessage{Body: &clusterv1.AgentMessage_Unregister{Unregister: &clusterv1.Unregister{}}})
		second.end()
	}
	// Exchange 13 races with the end of the recorded scheduler's stream.
	r.run(recorded(t, file), func(e exchange) bool { return e.N == 13 })
}

// Mesos aborts here; we answer and live on.
func TestCallOfTypeUnknown(t *testing.T) {
	h := newHarness(t, quickConfig())
	client, base := h.client(ctls.RoleAdmin, "", false)
	s := h.subscribe(frameworkInfo("test", 60))
	response := post(t.Context(), t, client, base+"/api/v1/scheduler", s.stream, &schedulerv1.Call{FrameworkId: s.id, Type: schedulerv1.Call_UNKNOWN.Enum()})
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("%s", response.Status)
	}
	s.simple(schedulerv1.Call_REVIVE)
}
