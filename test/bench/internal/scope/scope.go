// Package scope stands in for a test where namespaces are made by a program.
//
//	s := &scope.Scope{}
//	err := s.Run(func() error { ns := nstest.New(s, "a"); ... })
package scope

import (
	"errors"
	"fmt"
)

// Scope collects what to clean up, and a failure of the set-up becomes an
// error.
type Scope struct {
	cleanups []func()
	problems []error
}

type setupError struct{ err error }

// Helper is for nstest.TB.
func (s *Scope) Helper() {}

// Cleanup calls f when Run ends, the last one first.
func (s *Scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// Errorf is a problem that Run returns in the end.
func (s *Scope) Errorf(f string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(f, args...))
}

// Fatalf ends Run.
func (s *Scope) Fatalf(f string, args ...any) { panic(setupError{fmt.Errorf(f, args...)}) }

// Must ends Run if err is one.
func (s *Scope) Must(err error) {
	if err != nil {
		panic(setupError{err})
	}
}

// Run calls f, then cleans up, and returns what failed.
func (s *Scope) Run(f func() error) (err error) {
	defer func() {
		for i := len(s.cleanups) - 1; i >= 0; i-- {
			s.cleanups[i]()
		}
		err = errors.Join(append(s.problems, err)...)
	}()
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(setupError)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("set up: %w", failed.err)
		}
	}()
	return f()
}
