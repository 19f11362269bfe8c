package configapi

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/contrail-mesos/contrail/internal/auth"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// tenancy is what the store says about who may do what: the mode, the lists of
// rules, and the keys of users' tokens. It is fed by the store's watch before
// the graph is, so whoever sees a revision in the graph finds it here too.
type tenancy struct {
	// fallback is the mode of a cluster whose mode nobody has set.
	fallback Mode

	mu sync.RWMutex
	settings
	// loading is a snapshot that is not complete yet.
	loading *settings
}

// settings are what tenancy knows of the store.
type settings struct {
	mode    Mode
	lists   map[string]accessList // by UUID
	above   map[string][]ruleset  // by UUID of the parent
	keys    map[string]auth.Key
	signing string
}

func newSettings() *settings {
	return &settings{lists: map[string]accessList{}, above: map[string][]ruleset{}, keys: map[string]auth.Key{}}
}

// accessList is what of an api-access-list decides.
type accessList struct {
	parent string
	rules  ruleset
}

// accessLists is where the store has them.
const accessLists = string(store.SpaceObject) + "/" + string(model.KindAPIAccessList) + "/"

// anywhere stands for the parent of lists that hold in the whole cluster.
const anywhere = ""

func newTenancy(fallback Mode) *tenancy {
	return &tenancy{fallback: fallback, settings: *newSettings()}
}

// Reset implements store.Follower.
func (t *tenancy) Reset(uint64, int64) error {
	t.loading = newSettings()
	return nil
}

// Load implements store.Follower.
func (t *tenancy) Load(entries []store.Entry) error {
	return t.loading.apply(entries)
}

// Loaded implements store.Follower.
func (t *tenancy) Loaded() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settings, t.loading = *t.loading, nil
	return nil
}

// Apply implements store.Follower.
func (t *tenancy) Apply(_ int64, changes []store.Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.apply(changes)
}

// apply takes changes over.
func (t *settings) apply(entries []store.Entry) error {
	lists := false
	for _, e := range entries {
		switch e.Key.Space() {
		case store.SpaceSetting:
			if e.Key == store.SettingKey(modeSetting) {
				t.mode = Mode(e.Value)
			}
		case store.SpaceToken:
			if err := t.noteKey(e); err != nil {
				return err
			}
		case store.SpaceObject:
			if id, ok := strings.CutPrefix(string(e.Key), accessLists); ok {
				lists = true
				t.noteList(id, e)
			}
		}
	}
	if !lists {
		return nil
	}
	clear(t.above)
	for _, l := range t.lists {
		t.above[l.parent] = append(t.above[l.parent], l.rules)
	}
	return nil
}

// noteList keeps the rules of a list. One that cannot be read allows nothing.
func (t *settings) noteList(id string, e store.Entry) {
	if e.Deleted {
		delete(t.lists, id)
		return
	}
	var o struct {
		ParentType string                     `json:"parent_type"`
		ParentUUID string                     `json:"parent_uuid"`
		Entries    *model.RbacRuleEntriesType `json:"api_access_list_entries"`
	}
	if err := json.Unmarshal(e.Value, &o); err != nil {
		delete(t.lists, id)
		return
	}
	l := accessList{parent: o.ParentUUID, rules: newRuleset(o.Entries)}
	if o.ParentType == string(model.KindGlobalSystemConfig) {
		l.parent = anywhere
	}
	t.lists[id] = l
}

// Mode is what holds in the cluster.
func (t *tenancy) Mode() Mode {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.mode == "" {
		return t.fallback
	}
	return t.mode
}

// rules are the lists that hold in a project.
func (t *tenancy) rules(project, domain string) []ruleset {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var list []ruleset
	for _, parent := range []string{project, domain, anywhere} {
		list = append(list, t.above[parent]...)
	}
	return list
}
