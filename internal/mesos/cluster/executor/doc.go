// Package executor is the command executor: one process per task, which starts
// the task's container, watches over it, and tells the agent what happens, over
// the executor API of Mesos v1.
//
//	agent -- SUBSCRIBED, LAUNCH, KILL, ACKNOWLEDGED, SHUTDOWN --> executor
//	agent <-- SUBSCRIBE, UPDATE ---------------------------------- executor -> container
//
// It is in a session of its own and outlives the agent. While the agent is
// away it subscribes again and again, with the updates that the agent has not
// acknowledged; when the agent stays away for the recovery timeout, it kills
// the container and ends. When the executor itself dies, the container dies
// with it.
//
// State machine of the task:
//
//	STARTING -> RUNNING -> FINISHED | FAILED
//	               |-> (KILLING) -> KILLED    TERM, grace period, KILL
package executor
