// Package agent is the Mesos agent of Mesos in a box: it runs tasks on one node
// for our master, each in a container with an executor process of its own.
//
//	master <== stream (session.go) ==> Agent ==> task (task.go, launch.go)
//	                                     |          |-- image, network, cgroup
//	executor <== executor API (executorapi.go) =====|-- executor process
//	operators, managers <== operator API (operator.go, legacy.go, files.go)
//
// A task's life is one record on disk (record.go), written before the step it
// tells of; whatever kills the agent, the next start reads the records and
// takes over the executors that live, cleans up after those that do not, and
// removes what no record knows (recover.go). Status updates are in the record
// until the framework has acknowledged them; the first of each task is sent
// again after 10 s, doubling to 10 minutes (updates.go).
//
// Directories, all below two flags:
//
//	WORK/meta/agent.json               id given by the master, boot id
//	WORK/meta/tasks/CID.json           records
//	WORK/slaves/AID/frameworks/FID/executors/EID/runs/CID   sandbox
//	WORK/containers/CID/{upper,work}   what a container with an image writes
//	WORK/images                        package image
//	RUNTIME/containers/CID             plan.json, pid, rootfs (mount point)
//	RUNTIME/isolators/network/cni/CID  package isolator
//
// Containers have cgroups of their own below CGROUPS, named by CID; executors
// share CGROUPS/executors.
//
// When a container has ended, everything of it is removed but the sandbox; the
// newest --sandboxes-kept of those stay for people to read.
//
// Locks: Agent.mu guards the maps, task.mu one task; Agent.mu is never taken
// under task.mu.
package agent
