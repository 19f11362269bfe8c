package master

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// registry is what outlives the process: the agents. It is one file, replaced
// as a whole.
type registry struct {
	path string
	// Agents that were admitted and are not removed.
	Agents map[string]registeredAgent `json:"agents"`
	// Unreachable agents may come back.
	Unreachable map[string]unreachableAgent `json:"unreachable"`
	// Gone agents may not. The value is when they were marked.
	Gone map[string]time.Time `json:"gone"`
}

type registeredAgent struct {
	// Info is mesos.v1.AgentInfo in Mesos's JSON.
	Info json.RawMessage `json:"info"`
	// Node is whose certificate the agent has.
	Node string `json:"node"`
}

type unreachableAgent struct {
	registeredAgent
	Since time.Time `json:"since"`
}

func openRegistry(dir string) (*registry, error) {
	r := &registry{path: filepath.Join(dir, "registry.json")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	data, err := os.ReadFile(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("registry: %w", err)
	default:
		if err := json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("registry %s: %w; remove it to forget all agents", r.path, err)
		}
	}
	if r.Agents == nil {
		r.Agents = map[string]registeredAgent{}
	}
	if r.Unreachable == nil {
		r.Unreachable = map[string]unreachableAgent{}
	}
	if r.Gone == nil {
		r.Gone = map[string]time.Time{}
	}
	return r, nil
}

// save writes the registry; agents come and go seldom, so it is written whole.
func (r *registry) save() error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	if err := renameio.WriteFile(r.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

func (r *registry) admit(info *mesosv1.AgentInfo, node string) error {
	id := info.GetId().GetValue()
	r.Agents[id] = registeredAgent{Info: codec.MarshalJSON(info), Node: node}
	delete(r.Unreachable, id)
	return r.save()
}

func (r *registry) markUnreachable(id string, now time.Time) error {
	if agent, ok := r.Agents[id]; ok {
		r.Unreachable[id] = unreachableAgent{agent, now}
		delete(r.Agents, id)
	}
	return r.save()
}

func (r *registry) markGone(id string, now time.Time) error {
	delete(r.Agents, id)
	delete(r.Unreachable, id)
	r.Gone[id] = now
	return r.save()
}

func (r *registry) remove(id string) error {
	delete(r.Agents, id)
	delete(r.Unreachable, id)
	return r.save()
}

// nodeOf returns whose agent the id is, if it is known.
func (r *registry) nodeOf(id string) (string, bool) {
	if agent, ok := r.Agents[id]; ok {
		return agent.Node, true
	}
	agent, ok := r.Unreachable[id]
	return agent.Node, ok
}
