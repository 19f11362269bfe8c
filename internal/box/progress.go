package box

import (
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// progress tells a person what has been done, a line per step.
type progress struct{ out io.Writer }

// step runs one step and tells how it went; its error names the step.
func (p *progress) step(name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		p.failed(name)
		return fmt.Errorf("%s: %w", name, err)
	}
	p.done(name, time.Since(began).Round(10*time.Millisecond).String())
	return nil
}

func (p *progress) done(name, detail string) { fmt.Fprintf(p.out, "  ok    %-58s %s\n", name, detail) }
func (p *progress) failed(name string)       { fmt.Fprintf(p.out, "  FAIL  %s\n", name) }

// permanent marks an error that waiting does not mend.
func permanent(err error) error { return backoff.Permanent(err) }
