// Package container starts, limits, enters and ends the containers of one
// Mesos agent, with nothing but the kernel.
//
//	caller (executor)                       container-init (PID 1 of the container)
//	  Start: thread in the container's
//	  network namespace  -- fork ---------> slave mounts, overlay of the layers,
//	  spec   ------------ pipe -----------> pivot_root, /proc /sys /dev, binds
//	                                          fork: join cgroups, drop capabilities,
//	  report <----------- pipe ------------   exec the command
//	  Process.Signal -- SIGTERM ----------> to every process of the container
//	  Process.Wait   <--- wait status ----- reaps; ends with the command
//
// The root file system is mounted inside the container's own mount namespace,
// so it vanishes with the last process; nobody else can keep it busy. PID 1 is
// a process of this program, outside the memory limit of the container; it dies
// with the process that started it, and the whole container with it.
//
// To inspect a container: its PID 1 is a child of its executor; `nsenter -t PID
// -a` enters it as Exec does. To test: `go test -tags net` as root.
package container
