package marathon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// state is what is on disk.
type state struct {
	FrameworkID string                 `json:"frameworkId"`
	Apps        map[string]*entry      `json:"apps"`
	Instances   map[string]*instance   `json:"instances"`
	Deployments map[string]*deployment `json:"deployments"`
}

// entry is an application with its past.
type entry struct {
	App *App `json:"app"`
	// Removed applications are not shown; they stay until nothing of them runs.
	Removed bool `json:"removed,omitempty"`
	// History has earlier definitions, oldest first.
	History     []*App   `json:"history,omitempty"`
	LastFailure *failure `json:"lastTaskFailure,omitempty"`

	// Delay is the pause before the next launch, and Until when it ends.
	delay time.Duration
	until time.Time
	since time.Time // when instances began to be missing
	// unfit says why the last offers were not used, by reason.
	unfit map[string]int
}

// maxHistory bounds the definitions kept of an application.
const maxHistory = 25

// failure is why the last instance ended.
type failure struct {
	AppID     string `json:"appId"`
	Host      string `json:"host"`
	Message   string `json:"message"`
	State     string `json:"state"`
	TaskID    string `json:"taskId"`
	Timestamp string `json:"timestamp"`
	Version   string `json:"version"`
	SlaveID   string `json:"slaveId,omitempty"`
}

// instance is one task, from before it is sent to the master until it is known
// to have ended.
type instance struct {
	ID      string `json:"id"`
	AppID   string `json:"appId"`
	Version string `json:"version"` // of the configuration
	State   string `json:"state"`
	AgentID string `json:"agentId"`
	Place   place  `json:"place"`
	Ports   []int  `json:"ports"`
	// Addresses are those of the newest status that has some.
	Addresses     []address `json:"addresses,omitempty"`
	StagedAt      time.Time `json:"stagedAt"`
	StartedAt     time.Time `json:"startedAt,omitzero"`
	UnreachableAt time.Time `json:"unreachableAt,omitzero"`
	Killing       bool      `json:"killing,omitempty"`
	// Overdue instances did not start in time; nothing waits for their end.
	Overdue bool `json:"overdue,omitempty"`

	killSent time.Time
	// confirmed is set once the master has said something about it since the
	// last subscription.
	confirmed bool
	asked     time.Time
}

type address struct {
	IPAddress string `json:"ipAddress"`
	Protocol  string `json:"protocol"`
}

// running tells whether the instance is known to run: what was so before the
// last subscription may be over.
func (i *instance) running() bool { return i.confirmed && i.State == "TASK_RUNNING" }

// mayRun includes instances that ran when they were heard of last.
func (i *instance) mayRun() bool { return i.State == "TASK_RUNNING" }

// starting tells whether the instance is known not to run yet.
func (i *instance) starting() bool {
	return i.confirmed && (i.State == "TASK_STAGING" || i.State == "TASK_STARTING")
}

// shownState is the state as far as it is certain.
func (i *instance) shownState() string {
	if !i.confirmed {
		return "TASK_UNKNOWN"
	}
	return i.State
}

// deployment is a change of one application that is under way.
type deployment struct {
	ID      string `json:"id"`
	AppID   string `json:"appId"`
	Action  string `json:"action"`
	Version string `json:"version"`
}

// store keeps the state in one file.
type store struct {
	path string
	state
}

func openStore(dir string) (*store, error) {
	s := &store{path: filepath.Join(dir, "marathon.json")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	data, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("state: %w", err)
	default:
		if err := json.Unmarshal(data, &s.state); err != nil {
			return nil, fmt.Errorf("state %s: %w; remove it to forget all applications", s.path, err)
		}
	}
	if s.Apps == nil {
		s.Apps = map[string]*entry{}
	}
	if s.Instances == nil {
		s.Instances = map[string]*instance{}
	}
	if s.Deployments == nil {
		s.Deployments = map[string]*deployment{}
	}
	return s, nil
}

// save writes the state; an error means that nothing may be done that relies
// on it.
func (s *store) save() error {
	data, err := json.Marshal(s.state)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := renameio.WriteFile(s.path, data, 0o600); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}
