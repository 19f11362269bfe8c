package container

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be container-init too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "container-init" {
		os.Exit(Init())
	}
	goleak.VerifyTestMain(m)
}
