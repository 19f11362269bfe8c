package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// State of a component.
type State string

const (
	// StateWaiting: a component that it needs is not ready.
	StateWaiting State = "waiting"
	// StateStarting: its process runs and does not answer yet.
	StateStarting State = "starting"
	// StateRunning: its process runs and has answered.
	StateRunning State = "running"
	// StateFailed: its process ended; it is started again after a pause.
	StateFailed State = "failed"
	// StateGone: its process is not there, and no supervisor to start it.
	StateGone State = "gone"
)

// Status is what a cluster consists of and how it is.
type Status struct {
	Name string `json:"name"`
	Data string `json:"data"`
	// Namespace is the network namespace whose loopback has the open ports.
	Namespace  string            `json:"namespace"`
	Nodes      int               `json:"nodes"`
	Supervisor ProcessStatus     `json:"supervisor"`
	Components []ComponentStatus `json:"components"`
}

// ProcessStatus names one process.
type ProcessStatus struct {
	PID int `json:"pid"`
	// Started is in clock ticks since boot: with the pid it names one process.
	Started uint64 `json:"started"`
	Running bool   `json:"running"`
}

// ComponentStatus is one component's.
type ComponentStatus struct {
	Name string `json:"name"`
	// Node is the node's name, empty for the components of the fabric.
	Node  string `json:"node,omitempty"`
	State State  `json:"state"`
	ProcessStatus
	// Restarts counts since the supervisor started.
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"`
	// Reason says why the state is not running, or why it last ended; of a
	// controller that runs, what it refuses.
	Reason string `json:"reason,omitempty"`
	Log    string `json:"log"`
}

// Healthy tells whether everything runs and is supervised.
func (s *Status) Healthy() bool {
	for _, c := range s.Components {
		if c.State != StateRunning {
			return false
		}
	}
	return s.Supervisor.Running && len(s.Components) > 0
}

// ErrNotUp says that there is no such cluster on this machine.
var ErrNotUp = errors.New("no such cluster is up; start it with `contrail up`")

// ReadStatus tells how the cluster is. What the supervisor wrote last is
// compared with the processes that there are now.
func ReadStatus(cfg Config) (*Status, error) {
	status, err := readStatus(cfg.runDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, ErrNotUp)
	}
	if err != nil {
		return nil, err
	}
	status.Supervisor.Running = runs(status.Supervisor.PID, status.Supervisor.Started)
	for i := range status.Components {
		c := &status.Components[i]
		c.Running = runs(c.PID, c.Started)
		if !c.Running && !status.Supervisor.Running {
			c.State, c.Reason = StateGone, "ended while no supervisor was there; `contrail up` starts it again"
		}
		if c.Name == controllerName && c.Running && c.State == StateRunning {
			c.Reason = degradation(cfg.configSocket(), c.Reason)
		}
	}
	return status, nil
}

// degradation is what the configuration API says that it does not do at
// present, such as allocating after a restore; else the other reason.
func degradation(configSocket, otherwise string) string {
	api, err := socket(configSocket)
	if err != nil {
		return otherwise
	}
	defer api.client.CloseIdleConnections()
	var answer struct {
		Degraded string `json:"degraded"`
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if api.do(ctx, "GET", "/readyz", nil, &answer) != nil || answer.Degraded == "" {
		return otherwise
	}
	return answer.Degraded
}

// WaitHealthy blocks until everything runs, or ctx ends; it returns the last
// status in both cases.
func WaitHealthy(ctx context.Context, cfg Config) (*Status, error) {
	var status *Status
	err := eventually(ctx, func() error {
		now, err := ReadStatus(cfg)
		if err != nil {
			return err
		}
		if status = now; !status.Healthy() {
			return errors.New("not everything runs")
		}
		return nil
	})
	return status, err
}

func statusFile(runDir string) string { return filepath.Join(runDir, "status.json") }

func readStatus(runDir string) (*Status, error) {
	data, err := os.ReadFile(statusFile(runDir))
	if err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	var status Status
	if err := json.Unmarshal(data, &status); err != nil {
		return nil, fmt.Errorf("read status %s: %w", statusFile(runDir), err)
	}
	return &status, nil
}

func (s *Status) write(runDir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err := renameio.WriteFile(statusFile(runDir), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
