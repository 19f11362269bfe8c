// Package cni measures how long a runtime waits for the CNI plugin, next to
// the reference plugins bridge and host-local called the same way: a process
// with the environment of a Mesos agent, the configuration on stdin, the time
// from the start of the process to its end.
//
// Our plugin is measured with everything behind it: its own controller (store,
// configuration API, control), Mesos manager and vRouter agent, as processes of
// this build in network namespaces, with mutual TLS between them and the data
// on disk. Every container gets a namespace of its own; making and removing it
// is not measured. Rounds alternate between the two.
package cni
