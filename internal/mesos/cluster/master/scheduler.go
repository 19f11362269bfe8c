package master

import (
	"net/http"
	"time"

	clusterv1 "github.com/contrail-mesos/contrail/api/contrail/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// maxCall bounds the body of a call, in bytes.
const maxCall = 16 << 20

const streamHeader = "Mesos-Stream-Id"

// scheduler is POST /api/v1/scheduler.
func (m *Master) scheduler(w http.ResponseWriter, r *http.Request) {
	call := &schedulerv1.Call{}
	err := codec.ReadCall(w, r, maxCall, call)
	if err == nil {
		err = validateSchedulerCall(call)
	}
	var mediaType codec.Type
	if err == nil {
		mediaType, err = codec.ResponseType(r)
	}
	streams := r.Header.Values(streamHeader)
	if err == nil && call.GetType() == schedulerv1.Call_SUBSCRIBE {
		if len(streams) > 0 {
			err = codec.Errorf(http.StatusBadRequest, "Subscribe calls should not include the 'Mesos-Stream-Id' header")
		} else {
			m.serveScheduler(w, r, call.GetSubscribe(), mediaType)
			return
		}
	}
	status := http.StatusAccepted
	if err == nil {
		status, err = m.schedulerCall(call, streams)
	}
	if err != nil {
		codec.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// serveScheduler writes events until the subscription ends.
func (m *Master) serveScheduler(w http.ResponseWriter, r *http.Request, call *schedulerv1.Call_Subscribe, mediaType codec.Type) {
	m.mu.Lock()
	f, stream := m.subscribeFramework(call, mediaType, time.Now())
	m.mu.Unlock()
	defer m.disconnectFramework(f, stream)
	w.Header().Set(streamHeader, stream.id)
	records := codec.NewRecordWriter(w, mediaType, mediaType.String())
	ticker := time.NewTicker(m.cfg.Heartbeat)
	defer ticker.Stop()
	err := stream.events.drain(r.Context(), ticker.C, func() *schedulerv1.Event {
		return &schedulerv1.Event{Type: schedulerv1.Event_HEARTBEAT.Enum()}
	}, func(event *schedulerv1.Event) error { return records.Write(event) })
	if err != nil {
		m.log.Debug("scheduler stream ended", "stream", stream.id, "error", err)
	}
}

// validateSchedulerCall checks what does not depend on state.
func validateSchedulerCall(call *schedulerv1.Call) error {
	if text := invalidSchedulerCall(call); text != "" {
		return codec.Errorf(http.StatusBadRequest, "Failed to validate scheduler::Call: %s", text)
	}
	return nil
}

func invalidSchedulerCall(call *schedulerv1.Call) string {
	if call.Type == nil || call.GetType() == schedulerv1.Call_UNKNOWN {
		return "Expecting 'type' to be present"
	}
	if call.GetType() == schedulerv1.Call_SUBSCRIBE {
		if call.Subscribe == nil {
			return "Expecting 'subscribe' to be present"
		}
		if call.GetFrameworkId().GetValue() != call.GetSubscribe().GetFrameworkInfo().GetId().GetValue() {
			return "'framework_id' differs from 'subscribe.framework_info.id'"
		}
		return ""
	}
	if call.FrameworkId == nil {
		return "Expecting 'framework_id' to be present"
	}
	body, present := "", true
	switch call.GetType() {
	case schedulerv1.Call_ACCEPT:
		body, present = "accept", call.Accept != nil
	case schedulerv1.Call_DECLINE:
		body, present = "decline", call.Decline != nil
	case schedulerv1.Call_ACCEPT_INVERSE_OFFERS:
		body, present = "accept_inverse_offers", call.AcceptInverseOffers != nil
	case schedulerv1.Call_DECLINE_INVERSE_OFFERS:
		body, present = "decline_inverse_offers", call.DeclineInverseOffers != nil
	case schedulerv1.Call_KILL:
		body, present = "kill", call.Kill != nil
	case schedulerv1.Call_SHUTDOWN:
		body, present = "shutdown", call.Shutdown != nil
	case schedulerv1.Call_ACKNOWLEDGE:
		body, present = "acknowledge", call.Acknowledge != nil
	case schedulerv1.Call_ACKNOWLEDGE_OPERATION_STATUS:
		body, present = "acknowledge_operation_status", call.AcknowledgeOperationStatus != nil
	case schedulerv1.Call_RECONCILE:
		body, present = "reconcile", call.Reconcile != nil
	case schedulerv1.Call_RECONCILE_OPERATIONS:
		body, present = "reconcile_operations", call.ReconcileOperations != nil
	case schedulerv1.Call_MESSAGE:
		body, present = "message", call.Message != nil
	case schedulerv1.Call_REQUEST:
		body, present = "request", call.Request != nil
	case schedulerv1.Call_UPDATE_FRAMEWORK:
		body, present = "update_framework", call.UpdateFramework != nil
	}
	if !present {
		return "Expecting '" + body + "' to be present"
	}
	if call.GetType() == schedulerv1.Call_ACKNOWLEDGE && !validUUID(call.GetAcknowledge().GetUuid()) {
		return "Not a valid UUID"
	}
	if call.GetType() == schedulerv1.Call_UPDATE_FRAMEWORK &&
		call.GetUpdateFramework().GetFrameworkInfo().GetId().GetValue() != call.GetFrameworkId().GetValue() {
		return "'framework_id' differs from 'update_framework.framework_info.id'"
	}
	return ""
}

// schedulerCall carries out a call other than SUBSCRIBE and returns the status
// of the answer.
func (m *Master) schedulerCall(call *schedulerv1.Call, streams []string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.frameworks[call.GetFrameworkId().GetValue()]
	switch {
	case f == nil:
		return 0, codec.Errorf(http.StatusBadRequest, "Framework cannot be found")
	case f.stream == nil:
		return 0, codec.Errorf(http.StatusForbidden, "Framework is not subscribed")
	case len(streams) == 0:
		return 0, codec.Errorf(http.StatusBadRequest, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
	case streams[0] != f.stream.id:
		return 0, codec.Errorf(http.StatusBadRequest,
			"The stream ID '%s' included in this request didn't match the stream ID currently associated with framework ID %s", streams[0], f.id())
	}
	now := time.Now()
	if call.GetType() == schedulerv1.Call_UPDATE_FRAMEWORK {
		return http.StatusOK, m.updateFramework(f, call.GetUpdateFramework(), now)
	}
	m.carryOut(f, call, now)
	return http.StatusAccepted, nil
}

func (m *Master) carryOut(f *framework, call *schedulerv1.Call, now time.Time) {
	switch call.GetType() {
	case schedulerv1.Call_TEARDOWN:
		m.removeFramework(f, now)
		m.allocate(now)
	case schedulerv1.Call_ACCEPT:
		m.accept(f, call.GetAccept(), now)
	case schedulerv1.Call_DECLINE:
		m.decline(f, call.GetDecline(), now)
	case schedulerv1.Call_REVIVE:
		m.revive(f, call.GetRevive().GetRoles(), now)
	case schedulerv1.Call_SUPPRESS:
		roles := call.GetSuppress().GetRoles()
		if len(roles) == 0 {
			roles = f.roles()
		}
		for _, role := range roles {
			f.suppressed[role] = true
		}
	case schedulerv1.Call_KILL:
		m.kill(f, call.GetKill(), now)
	case schedulerv1.Call_ACKNOWLEDGE:
		m.acknowledge(f, call.GetAcknowledge())
	case schedulerv1.Call_RECONCILE:
		m.reconcile(f, call.GetReconcile(), now)
	case schedulerv1.Call_SHUTDOWN:
		if a := m.agents[call.GetShutdown().GetAgentId().GetValue()]; a != nil {
			a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_ShutdownExecutor{ShutdownExecutor: &clusterv1.ShutdownExecutor{
				FrameworkId: f.info.GetId(), ExecutorId: call.GetShutdown().GetExecutorId(),
			}}})
		}
	case schedulerv1.Call_MESSAGE:
		if a := m.agents[call.GetMessage().GetAgentId().GetValue()]; a != nil {
			a.send(&clusterv1.MasterMessage{Body: &clusterv1.MasterMessage_FrameworkMessage{FrameworkMessage: &clusterv1.FrameworkMessage{
				FrameworkId: f.info.GetId(), ExecutorId: call.GetMessage().GetExecutorId(), Data: call.GetMessage().GetData(),
			}}})
		}
	}
	// REQUEST, inverse offers and operations are accepted and mean nothing here.
}

func (m *Master) decline(f *framework, call *schedulerv1.Call_Decline, now time.Time) {
	for _, id := range call.GetOfferIds() {
		if o := m.offers[id.GetValue()]; o != nil && o.framework == f {
			delete(m.offers, o.id)
			f.refuse(o.agent, o.role, o.amounts, call.GetFilters(), now)
		}
	}
	m.allocate(now)
}

func (m *Master) revive(f *framework, roles []string, now time.Time) {
	if len(roles) == 0 {
		clear(f.filters)
		clear(f.suppressed)
	}
	for _, role := range roles {
		delete(f.suppressed, role)
		for key := range f.filters {
			if key.role == role {
				delete(f.filters, key)
			}
		}
	}
	m.allocate(now)
}
