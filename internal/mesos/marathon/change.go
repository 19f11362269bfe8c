package marathon

import (
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// change replaces an application's definition, or adds it, and begins a
// deployment. The lock is held.
func (m *Marathon) change(app *App, force, restart bool, now time.Time) (*deployment, error) {
	e := m.store.Apps[app.ID]
	if err := m.unlocked(app.ID, force); err != nil {
		return nil, err
	}
	version := m.nextVersion(e, now)
	var before *App
	if e != nil && !e.Removed {
		before = e.App
	}
	app.Version = version
	action := actionName(before, app, false)
	switch {
	case before != nil && action == "ScaleApplication" && !restart:
		app.VersionInfo = VersionInfo{LastScalingAt: version, LastConfigChangeAt: before.VersionInfo.LastConfigChangeAt}
	default:
		app.VersionInfo = VersionInfo{LastScalingAt: version, LastConfigChangeAt: version}
		if before != nil {
			action = "RestartApplication"
		}
	}
	if e == nil {
		e = &entry{}
		m.store.Apps[app.ID] = e
	} else if before != nil {
		e.History = append(e.History, before)
		if len(e.History) > maxHistory {
			e.History = e.History[len(e.History)-maxHistory:]
		}
	}
	if action != "ScaleApplication" {
		e.delay, e.until = 0, time.Time{}
	}
	e.App, e.Removed = app, false
	return m.deploy(app.ID, action, version)
}

// remove begins the end of an application.
func (m *Marathon) remove(id string, force bool, now time.Time) (*deployment, error) {
	e := m.store.Apps[id]
	if e == nil || e.Removed {
		return nil, notFound(fmt.Sprintf("App '%s' does not exist", id))
	}
	if err := m.unlocked(id, force); err != nil {
		return nil, err
	}
	version := m.nextVersion(e, now)
	e.Removed = true
	return m.deploy(id, "StopApplication", version)
}

// nextVersion is now, but later than every version of the application: versions
// are its order.
func (m *Marathon) nextVersion(e *entry, now time.Time) string {
	if e != nil {
		if last, err := time.Parse(time.RFC3339, e.App.Version); err == nil && !now.Truncate(time.Millisecond).After(last) {
			now = last.Add(time.Millisecond)
		}
	}
	return timestamp(now)
}

func (m *Marathon) unlocked(id string, force bool) error {
	d := m.deploymentOf(id)
	if d == nil {
		return nil
	}
	if !force {
		return &problem{
			status: http.StatusConflict,
			message: "App is locked by one or more deployments. Override with the option '?force=true'. " +
				"View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
			deployments: []idOnly{{d.ID}},
		}
	}
	delete(m.store.Deployments, d.ID)
	m.publish("deployment_failed", map[string]any{"id": d.ID})
	return nil
}

func (m *Marathon) deploymentOf(app string) *deployment {
	for _, d := range m.store.Deployments {
		if d.AppID == app {
			return d
		}
	}
	return nil
}

// deploy records a deployment durably, as its answer is a promise.
func (m *Marathon) deploy(app, action, version string) (*deployment, error) {
	d := &deployment{ID: uuid.NewString(), AppID: app, Action: action, Version: version}
	m.store.Deployments[d.ID] = d
	m.dirty = true
	if err := m.store.save(); err != nil {
		return nil, err
	}
	m.publish("group_change_success", map[string]any{"groupId": "/", "version": version})
	m.publish("deployment_info", map[string]any{"plan": m.planOf(d), "currentStep": stepOf(d)})
	m.changed()
	return d, nil
}

// finishDeployments ends what is reached.
func (m *Marathon) finishDeployments(id string, e *entry, p plan, _ time.Time) {
	if !p.done {
		return
	}
	if d := m.deploymentOf(id); d != nil {
		delete(m.store.Deployments, d.ID)
		m.dirty = true
		m.publish("deployment_step_success", map[string]any{"plan": m.planOf(d), "currentStep": stepOf(d)})
		m.publish("deployment_success", map[string]any{"id": d.ID, "plan": m.planOf(d)})
		m.log.Info("deployment done", "app", id, "action", d.Action)
	}
	if e.Removed {
		delete(m.store.Apps, id)
		m.dirty = true
		m.publish("app_terminated_event", map[string]any{"appId": id})
	}
}

// stepOf is the one step that each deployment has.
func stepOf(d *deployment) map[string]any {
	return map[string]any{"actions": []map[string]any{{"action": d.Action, "app": d.AppID}}}
}

func (m *Marathon) planOf(d *deployment) map[string]any {
	return map[string]any{
		"id": d.ID, "version": d.Version, "steps": []any{stepOf(d)},
		"original": emptyGroup(d.Version), "target": emptyGroup(d.Version),
	}
}

func emptyGroup(version string) map[string]any {
	return map[string]any{"id": "/", "apps": []any{}, "pods": []any{}, "groups": []any{}, "dependencies": []any{}, "version": version}
}
