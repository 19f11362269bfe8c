// Package api holds the contracts: the object model, the messages between
// processes, and what others speak with us. What is generated of them is formatted
// like all code.
package api

//go:generate find contrail mesos -name *.go -exec ../bin/tools/gofumpt -w {} +
