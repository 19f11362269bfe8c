package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// phase of a task's container.
type phase string

const (
	// launching: parts of the container may exist.
	launching phase = "launching"
	// running: the executor process was started.
	running phase = "running"
	// ended: nothing of the container is left; updates may be.
	ended phase = "ended"
)

// record is a task on disk. Messages are in Mesos's JSON.
type record struct {
	Framework json.RawMessage `json:"framework"`
	Task      json.RawMessage `json:"task"`
	Container string          `json:"container"`
	Phase     phase           `json:"phase"`
	// PID of the executor, and its start in clock ticks since boot, which tells
	// it from another process of the same number.
	PID      int               `json:"pid,omitempty"`
	Started  uint64            `json:"started,omitempty"`
	Launched bool              `json:"launched,omitempty"`
	Statuses []json.RawMessage `json:"statuses,omitempty"`
	// Acknowledged is how many of Statuses the framework has acknowledged.
	Acknowledged int `json:"acknowledged"`
}

func (a *Agent) recordPath(cid string) string {
	return filepath.Join(a.config.WorkDir, "meta", "tasks", cid+".json")
}

// save writes the record of t, or removes it where nothing is left to know. The
// lock of t is held. A failure leaves the old record.
func (a *Agent) save(t *task) error {
	path := a.recordPath(t.cid)
	if t.phase == ended && t.acknowledged == len(t.statuses) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove record of task: %w", err)
		}
		return nil
	}
	r := record{
		Framework: codec.MarshalJSON(t.framework), Task: codec.MarshalJSON(t.info), Container: t.cid, Phase: t.phase,
		PID: t.pid, Started: t.started, Launched: t.launched, Acknowledged: t.acknowledged,
	}
	for _, s := range t.statuses {
		r.Statuses = append(r.Statuses, codec.MarshalJSON(s))
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = renameio.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write record of task %s: %w", t.id(), err)
	}
	return nil
}

// records reads all tasks. One that cannot be read is an error: to start
// without it would be to lose a container.
func (a *Agent) records() ([]*task, error) {
	dir := filepath.Join(a.config.WorkDir, "meta", "tasks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list records of tasks: %w", err)
	}
	var all []*task
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // half written when the process was killed
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove what is left of a record: %w", err)
			}
			continue
		}
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		t, err := readRecord(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read record of task %s: %w; the container is only known from it: repair or remove the file",
				filepath.Join(dir, e.Name()), err)
		}
		all = append(all, t)
	}
	return all, nil
}

func readRecord(path string) (*task, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	t := &task{
		framework: &mesosv1.FrameworkInfo{}, info: &mesosv1.TaskInfo{}, cid: r.Container, phase: r.Phase,
		pid: r.PID, started: r.Started, launched: r.Launched, acknowledged: r.Acknowledged, wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	texts, messages := []json.RawMessage{r.Framework, r.Task}, []proto.Message{t.framework, t.info}
	for _, s := range r.Statuses {
		status := &mesosv1.TaskStatus{}
		t.statuses = append(t.statuses, status)
		texts, messages = append(texts, s), append(messages, status)
	}
	for i, m := range messages {
		if err := codec.UnmarshalJSON(texts[i], m); err != nil {
			return nil, err
		}
	}
	if t.cid == "" || t.cid+".json" != filepath.Base(path) || t.acknowledged > len(t.statuses) {
		return nil, errors.New("it contradicts itself")
	}
	return t, nil
}

// identity is what the agent knows of itself.
type identity struct {
	AgentID string `json:"agent_id"`
	BootID  string `json:"boot_id"`
}

func (a *Agent) identityPath() string { return filepath.Join(a.config.WorkDir, "meta", "agent.json") }

func (a *Agent) loadIdentity() (identity, error) {
	var id identity
	data, err := os.ReadFile(a.identityPath())
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &id)
	}
	if err != nil {
		return id, fmt.Errorf("read agent's id: %w", err)
	}
	return id, nil
}

func (a *Agent) saveIdentity(agentID string) error {
	data, err := json.Marshal(identity{AgentID: agentID, BootID: a.bootID})
	if err == nil {
		err = renameio.WriteFile(a.identityPath(), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write agent's id: %w", err)
	}
	return nil
}
