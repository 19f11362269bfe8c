package container

import (
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be container-init too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "container-init" {
		unix.Exit(Init()) // os.Exit takes a second with the race detector
	}
	goleak.VerifyTestMain(m)
}
