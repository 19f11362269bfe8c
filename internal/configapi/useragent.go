package configapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Bounds of what clients may keep here: 16 MiB in all.
const (
	maxAgentKeys  = 1000
	maxAgentKey   = 512
	maxAgentValue = 16 << 10
)

// userAgent keeps what clients want to remember, by key. It means nothing to
// the API.
func (a *API) userAgent(r *http.Request) (*answer, error) {
	var q struct {
		Operation string          `json:"operation"`
		Key       *string         `json:"key"`
		Value     json.RawMessage `json:"value"`
	}
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if q.Operation == "RETRIEVE" && q.Key == nil {
		return a.listAgent(r)
	}
	if q.Key == nil || *q.Key == "" || len(*q.Key) > maxAgentKey {
		return nil, invalid("Bad Request, key is %s; want a string of 1 to %d bytes", quoteText(model.ValueOr(q.Key, "")), maxAgentKey)
	}
	switch q.Operation {
	case "STORE":
		return a.storeAgent(r, *q.Key, q.Value)
	case "RETRIEVE":
		return a.retrieveAgent(r, *q.Key)
	case "DELETE":
		at, err := a.write(r.Context(), audit{"useragent-kv DELETE", *q.Key}, func(c *change) error {
			c.Delete(store.AgentKey(*q.Key))
			return nil
		})
		return &answer{at: at}, err
	default:
		return nil, invalid("Bad Request: operation should be STORE, RETRIEVE or DELETE: %s", brief(q.Operation))
	}
}

func (a *API) storeAgent(r *http.Request, name string, value json.RawMessage) (*answer, error) {
	if isAbsent(value) {
		value = json.RawMessage("null")
	}
	if len(value) > maxAgentValue {
		return nil, invalid("Bad Request, value has %d bytes; at most %d are possible", len(value), maxAgentValue)
	}
	held, err := a.store.Range(r.Context(), store.SpaceAgent, maxAgentKeys)
	if err != nil {
		return nil, err
	}
	if len(held) == maxAgentKeys {
		if _, replaces := held[store.AgentKey(name)]; !replaces {
			return nil, taken("%d keys are kept already; delete some before storing %s", maxAgentKeys, brief(name))
		}
	}
	at, err := a.write(r.Context(), audit{"useragent-kv STORE", name}, func(c *change) error {
		c.Put(store.AgentKey(name), value)
		return nil
	})
	return &answer{at: at}, err
}

func (a *API) retrieveAgent(r *http.Request, name string) (*answer, error) {
	value, ok, err := a.store.Value(r.Context(), store.AgentKey(name))
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, missing("Unknown User-Agent key %s", brief(name))
	}
	return &answer{at: a.graph.Position(), body: map[string]json.RawMessage{"value": value}}, nil
}

func (a *API) listAgent(r *http.Request) (*answer, error) {
	type element struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value"`
	}
	held, err := a.store.Range(r.Context(), store.SpaceAgent, maxAgentKeys)
	if err != nil {
		return nil, err
	}
	list := []element{}
	for _, k := range slices.Sorted(maps.Keys(held)) {
		s, err := k.Split(1)
		if err != nil {
			return nil, err
		}
		list = append(list, element{s[0], held[k]})
	}
	return &answer{at: a.graph.Position(), body: list}, nil
}

// bodyID reads a UUID of a body.
func bodyID(name, id string) (string, error) {
	if id == "" {
		return "", invalid("Bad Request, no %s in POST body", name)
	}
	if !model.IsUUID(id) {
		return "", invalid("Invalid UUID format: %s", brief(id))
	}
	return strings.ToLower(id), nil
}
