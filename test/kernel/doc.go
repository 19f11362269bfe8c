// Package kernel tests the data plane on the oldest kernel that is supported,
// the one of Debian 12, whatever this machine runs:
//
//	setup -> bin/tools/debian-kernel: the package's kernel and network modules
//	test  -> initramfs: busybox, the modules, the test binary of the data plane
//	      -> qemu (KVM where it works, else emulated) -> verdict by its serial console
//
// The tests in the machine are those of internal/vrouter/dataplane that make
// namespaces with real traffic. What the kernel lacks shows there: a program
// that its verifier refuses, a helper, a flag, a hook.
//
// It takes root as all network tests do, and about a minute where the machine is
// emulated.
package kernel
