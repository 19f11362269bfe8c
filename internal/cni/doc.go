// Package cni is the CNI plugin: it gives a container an interface of the
// cluster's virtual networks, and takes it back.
//
//	runtime (Mesos network/cni isolator, ClusterD, podman, cnitool)
//	   | env + stdin                                     ^ result or error on stdout
//	   v                                                 |
//	Run -- veth, peer straight in the container's netns  |
//	   |-- one request on the agent's unix socket --> vrouter agent --> manager
//	   `-- MAC, MTU, address, route in the netns --------'
//
// The plugin is executed once per container and call, and has no state: what
// it decides, it decides from its input and from the kernel. It knows nothing
// of the manager; the agent relays, plugs the port and remembers.
//
// ADD either succeeds or leaves nothing. DEL succeeds whatever is gone or away:
// without an agent it removes the host side of the veth, which blocks the
// container at once, and leaves a note in the detach queue for the agent.
// CHECK and GC are not implemented and answer with an error of code 4.
package cni
