package executor

import (
	"fmt"
	"strings"
	"syscall"

	"github.com/contrail-mesos/contrail/internal/mesos/cluster/container"
)

// describe words the end of a command as Mesos does, and says whether it is
// success.
func describe(status container.Status) (string, bool) {
	if status.Signal == 0 {
		return fmt.Sprintf("Command exited with status %d", status.Code), status.Code == 0
	}
	name := syscall.Signal(status.Signal).String()
	return "Command terminated with signal " + strings.ToUpper(name[:1]) + name[1:], false
}
