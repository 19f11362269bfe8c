// Package dbcheck compares the keys of a store with each other, and mends what
// has only one right answer.
//
//	every key, at one revision --> Check --> findings, some with a repair
//	findings --> Repair --> one guarded transaction each
//
// The API writes what belongs together in one transaction, so a finding comes
// from a store that was edited by hand, damaged, or written by a version with
// an error. A repair demands that everything it was decided on is as it was:
// it can run beside the API. What is ambiguous (two objects with one name, two
// owners of one address, a value that cannot be read) is told and never
// touched.
package dbcheck
