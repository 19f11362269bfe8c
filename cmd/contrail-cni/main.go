// Command contrail-cni is the CNI plugin; see package cni. It is a binary of
// its own because it is executed once per container and must start in a
// millisecond.
package main

import (
	"os"

	"github.com/contrail-mesos/contrail/internal/cni"
)

func main() {
	os.Exit(cni.Run(os.Stdout, os.Stderr))
}
