package health

import (
	"net/netip"
	"time"
)

// Kind is how a port is asked.
type Kind string

// The kinds.
const (
	Ping Kind = "ping"
	TCP  Kind = "tcp"
	HTTP Kind = "http"
)

// Bounds of what is asked.
const (
	MaxChecks     = 1024
	MaxPortChecks = 8
)

// Key names a check at a port, both by UUID.
type Key struct {
	Port string `json:"port"`
	ID   string `json:"check"`
}

// Check is one check of one port. It is never changed.
type Check struct {
	Key
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Alias is where the Network reaches the port, Address its own.
	Alias   netip.Addr `json:"-"`
	Address netip.Addr `json:"address"`
	// Delay from the beginning of one probe to that of the next, Timeout of each.
	Delay   time.Duration `json:"delay_ns"`
	Timeout time.Duration `json:"timeout_ns"`
	// Retries are the probes in a row that have to fail.
	Retries int `json:"retries"`
	// TCPPort is of TCP.
	TCPPort uint16 `json:"tcp_port,omitempty"`
	// Method, URL and Codes are of HTTP. The host local-ip of the URL stands for
	// the address.
	Method string  `json:"method,omitempty"`
	URL    string  `json:"url,omitempty"`
	Codes  []Codes `json:"codes,omitempty"`
	// Left says why it is not asked; empty where it is.
	Left string `json:"not_asked,omitempty"`
}

// Codes is a range of HTTP status codes with both ends.
type Codes struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Failure is a check that has failed, with its last failure for people.
type Failure struct {
	Check  string `json:"check"`
	Reason string `json:"reason"`
}

// State is a check and what came of it.
type State struct {
	Check
	// Failing since Since; else passing.
	Failing bool      `json:"failing"`
	Since   time.Time `json:"since"`
	// Reason is the last failure, Failures how many came in a row.
	Reason   string `json:"reason,omitempty"`
	Failures int    `json:"failures"`
	// Asked counts the probes, and Took is the time of the last one.
	Asked uint64        `json:"asked"`
	Took  time.Duration `json:"took_ns"`
}

// judge takes the outcome of a probe in, nil being success, and tells whether the
// verdict is another.
func (s *State) judge(reason string, failed bool, now time.Time) (changed bool) {
	s.Asked++
	if !failed {
		changed = s.Failing
		s.Failures, s.Reason = 0, ""
	} else {
		s.Failures++
		s.Reason = reason
		changed = !s.Failing && s.Failures >= s.Retries
	}
	if changed {
		s.Failing, s.Since = failed, now
	}
	return changed
}
