package marathon

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
)

// listener is one stream of /v2/events.
type listener struct {
	types  []string // none is all
	events chan []byte
}

// queued bounds what waits for a slow listener, in events; one that is further
// behind is cut off.
const queued = 1000

// publish sends an event to all listeners.
func (m *Marathon) publish(kind string, fields map[string]any) {
	if len(m.listeners) == 0 {
		return
	}
	fields["eventType"], fields["timestamp"] = kind, timestamp(time.Now())
	data, err := json.Marshal(fields)
	if err != nil {
		m.log.Error("event cannot be encoded", "event", kind, "error", err)
		return
	}
	text := fmt.Appendf(nil, "event: %s\ndata: %s\n\n", kind, data)
	for l := range m.listeners {
		if len(l.types) > 0 && !slices.Contains(l.types, kind) {
			continue
		}
		select {
		case l.events <- text:
		default:
			delete(m.listeners, l)
			close(l.events)
		}
	}
}

func (m *Marathon) publishStatus(i *instance, status *mesosv1.TaskStatus, now time.Time) {
	addresses := i.Addresses
	if addresses == nil {
		addresses = []address{}
	}
	m.publish("status_update_event", map[string]any{
		"slaveId": i.AgentID, "taskId": i.ID, "taskStatus": i.State, "message": status.GetMessage(), "appId": i.AppID,
		"host": i.Place.Host, "ipAddresses": addresses, "ports": i.Ports, "version": i.Version,
	})
	m.publish("instance_changed_event", map[string]any{
		"instanceId": i.ID, "slaveId": i.AgentID, "condition": condition(i.State), "host": i.Place.Host, "runSpecId": i.AppID, "runSpecVersion": i.Version,
	})
}

// condition is Marathon's word for a state of Mesos.
func condition(state string) string {
	words := map[string]string{
		"TASK_STAGING": "Staging", "TASK_STARTING": "Starting", "TASK_RUNNING": "Running", "TASK_KILLING": "Killing",
		"TASK_FINISHED": "Finished", "TASK_FAILED": "Failed", "TASK_KILLED": "Killed", "TASK_ERROR": "Error",
		"TASK_UNREACHABLE": "Unreachable", "TASK_GONE": "Gone", "TASK_DROPPED": "Dropped", "TASK_UNKNOWN": "Unknown",
	}
	if word := words[state]; word != "" {
		return word
	}
	return "Gone"
}

// keepAlive is the interval of empty lines on an event stream.
const keepAlive = 10 * time.Second

// serveEvents is GET /v2/events.
func (m *Marathon) serveEvents(w http.ResponseWriter, r *http.Request) {
	l := &listener{types: r.URL.Query()["event_type"], events: make(chan []byte, queued)}
	m.mu.Lock()
	m.listeners[l] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.listeners, l)
		m.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-cache")
	control := http.NewResponseController(w)
	attached := mustJSON(map[string]any{"eventType": "event_stream_attached", "timestamp": timestamp(time.Now()), "remoteAddress": r.RemoteAddr})
	text := fmt.Appendf(nil, "event: event_stream_attached\ndata: %s\n\n", attached)
	ticker := time.NewTicker(keepAlive)
	defer ticker.Stop()
	for {
		if _, err := w.Write(text); err != nil || control.Flush() != nil {
			return
		}
		var open bool
		select {
		case <-r.Context().Done():
			return
		case text, open = <-l.events:
			if !open {
				return
			}
		case <-ticker.C:
			text = []byte("\n")
		}
	}
}

func (m *Marathon) closeListeners() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.listeners {
		delete(m.listeners, l)
		close(l.events)
	}
}
