// Package marathon is a framework that runs applications, with the REST API of
// Marathon: a subset, for Mesos in a box.
//
//	REST --> definitions --+
//	                       +--> step: what to start, what to kill --> calls
//	Mesos events --> tasks-+                                      \-> REST, SSE
//
// It is a scheduler like any other: it speaks the v1 API with RecordIO to our
// master over mutual TLS, or to a real one over plain HTTP, and has no other
// way into the cluster.
//
// All state is under one lock. Each change wakes one goroutine, which compares
// wanted with running and acts. State goes to disk, as one file replaced as a
// whole, before what it describes is done: a task is on disk before it is sent
// to the master, so that no restart starts it twice; after a restart every task
// is asked for, and running tasks that nobody wants are killed.
//
// Not there: pods, health and readiness checks, persistent volumes, secrets.
// Definitions that use them are refused with 422, as an application must not
// look checked when it is not.
package marathon
