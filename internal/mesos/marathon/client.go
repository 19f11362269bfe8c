package marathon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	mesosv1 "github.com/contrail-mesos/contrail/api/mesos/v1"
	schedulerv1 "github.com/contrail-mesos/contrail/api/mesos/v1/scheduler"
	"github.com/contrail-mesos/contrail/internal/mesos/codec"
)

// session is one subscription.
type session struct {
	m         *Marathon
	stream    string
	framework *mesosv1.FrameworkID
	cancel    context.CancelFunc
}

// errRemoved means that the master has removed the framework.
var errRemoved = errors.New("the master has removed this framework")

// stayConnected subscribes until ctx ends.
func (m *Marathon) stayConnected(ctx context.Context) {
	const first, most = 200 * time.Millisecond, 10 * time.Second
	pause := first
	for ctx.Err() == nil {
		began := time.Now()
		err := m.subscribe(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRemoved) {
			m.forgetFramework()
		}
		m.log.Warn("not subscribed to the master", "error", err)
		if time.Since(began) > time.Minute {
			pause = first
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
		pause = min(most, 2*pause)
	}
}

// failoverTimeout is how long the master keeps tasks while Marathon is away.
const failoverTimeout = 7 * 24 * time.Hour

func (m *Marathon) frameworkInfo() *mesosv1.FrameworkInfo {
	info := &mesosv1.FrameworkInfo{
		User: proto.String("root"), Name: &m.cfg.Name, Checkpoint: proto.Bool(true), Hostname: &m.cfg.Hostname, Roles: []string{"*"},
		FailoverTimeout: proto.Float64(failoverTimeout.Seconds()),
	}
	for _, c := range []mesosv1.FrameworkInfo_Capability_Type{
		mesosv1.FrameworkInfo_Capability_MULTI_ROLE, mesosv1.FrameworkInfo_Capability_PARTITION_AWARE, mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		info.Capabilities = append(info.Capabilities, &mesosv1.FrameworkInfo_Capability{Type: c.Enum()})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if id := m.store.FrameworkID; id != "" {
		info.Id = &mesosv1.FrameworkID{Value: &id}
	}
	return info
}

// subscribe holds one subscription until it ends, which is an error.
func (m *Marathon) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	info := m.frameworkInfo()
	call := &schedulerv1.Call{
		Type: schedulerv1.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id, Subscribe: &schedulerv1.Call_Subscribe{FrameworkInfo: info},
	}
	// The watchdog ends a stream on which not even heartbeats come.
	silence := time.AfterFunc(time.Minute, cancel)
	defer silence.Stop()
	response, err := m.post(ctx, "", call)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answerError(response)
	}
	s := &session{m: m, stream: response.Header.Get("Mesos-Stream-Id"), cancel: cancel}
	defer m.unsubscribed(s)
	reader := codec.NewRecordReader(response.Body, codec.MaxFrame)
	for {
		event := &schedulerv1.Event{}
		if err := reader.Read(codec.Protobuf, event); err != nil {
			return fmt.Errorf("event stream of the master: %w", err)
		}
		silence.Reset(time.Minute)
		if err := m.event(s, event); err != nil {
			return err
		}
	}
}

func answerError(response *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
	if err != nil {
		return fmt.Errorf("master answers %s: %w", response.Status, err)
	}
	return fmt.Errorf("master answers %s: %s", response.Status, text)
}

// post sends a call. A master that is not the leader redirects, which the
// client follows.
func (m *Marathon) post(ctx context.Context, stream string, call *schedulerv1.Call) (*http.Response, error) {
	data, err := codec.Protobuf.Marshal(call)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.cfg.URL+"/api/v1/scheduler", bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("call the master: %w", err)
	}
	request.Header.Set("Content-Type", codec.Protobuf.String())
	request.Header.Set("Accept", codec.Protobuf.String())
	if stream != "" {
		request.Header.Set("Mesos-Stream-Id", stream)
	}
	return m.cfg.Client.Do(request)
}

// callTimeout bounds one call.
const callTimeout = 10 * time.Second

func (s *session) call(ctx context.Context, call *schedulerv1.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call.FrameworkId = s.framework
	response, err := s.m.post(ctx, s.stream, call)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return answerError(response)
	}
	return nil
}

func (m *Marathon) unsubscribed(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session == s {
		m.session, m.offers, m.calls = nil, nil, nil
	}
}

// forgetFramework makes the next subscription that of a new framework. The
// tasks of the old one are dead with it.
func (m *Marathon) forgetFramework() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store.FrameworkID = ""
	clear(m.store.Instances)
	m.dirty = true
	m.changed()
}

// event handles what the master says.
func (m *Marathon) event(s *session, event *schedulerv1.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.changed()
	switch event.GetType() {
	case schedulerv1.Event_SUBSCRIBED:
		s.framework = event.GetSubscribed().GetFrameworkId()
		m.session, m.offers, m.calls = s, nil, nil
		m.store.FrameworkID = s.framework.GetValue()
		m.dirty = true
		m.revived = time.Time{}
		for _, i := range m.store.Instances {
			i.confirmed, i.asked, i.killSent = false, time.Time{}, time.Time{}
		}
		m.queue(&schedulerv1.Call{Type: schedulerv1.Call_RECONCILE.Enum(), Reconcile: &schedulerv1.Call_Reconcile{}})
		m.log.Info("subscribed", "framework", m.store.FrameworkID)
	case schedulerv1.Event_OFFERS:
		m.offers = append(m.offers, event.GetOffers().GetOffers()...)
	case schedulerv1.Event_RESCIND:
		id := event.GetRescind().GetOfferId().GetValue()
		for i, o := range m.offers {
			if o.GetId().GetValue() == id {
				m.offers = append(m.offers[:i:i], m.offers[i+1:]...)
				break
			}
		}
	case schedulerv1.Event_UPDATE:
		m.update(event.GetUpdate().GetStatus(), time.Now())
	case schedulerv1.Event_ERROR:
		text := event.GetError().GetMessage()
		if text == "Framework has been removed" {
			return errRemoved
		}
		return errors.New(text)
	}
	return nil
}

// queue adds a call; it is made after the state is saved.
func (m *Marathon) queue(call *schedulerv1.Call) { m.calls = append(m.calls, call) }
