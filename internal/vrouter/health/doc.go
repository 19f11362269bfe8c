// Package health asks ports whether they work: it sends the probes of health
// checks and keeps what came of them.
//
//	Set(checks) --> a goroutine per check --ask--> Network (package prober) --> port
//	                        |
//	                     verdict --changed--> the agent, who tells the control nodes
//
// # Verdicts
//
//	            as many failures in a row as Retries
//	passing --------------------------------------------> failing
//	        <--------------------------------------------
//	                       one success
//
// A check that has not failed passes, also before its first probe: a port is
// taken out of its routes on evidence only. A probe that the node cannot send, as it
// has no descriptors or its device has gone, is none. The verdict of an earlier process is
// taken over (Adopt) and stands until probes say something else; that of a check
// which is changed stands likewise.
//
// What ports send is bounded: time, the header of an HTTP answer, whose body is
// not read, and no redirect is followed. Reasons have no content of theirs.
// Each check has one probe on its way at most, and there are at most MaxChecks of
// them, MaxPortChecks at a port; others are not asked and pass.
package health
