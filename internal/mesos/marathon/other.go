package marathon

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

func (m *Marathon) listTasks(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := append(r.URL.Query()["status"], r.URL.Query()["status[]"]...)
	all := []taskJSON{}
	for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
		for _, t := range tasksOf(m.store.Apps[id].App, m.instancesOf(id)) {
			kind := "staging"
			if t.State == "TASK_RUNNING" {
				kind = "running"
			}
			if len(wanted) == 0 || slices.Contains(wanted, kind) {
				all = append(all, t)
			}
		}
	}
	return http.StatusOK, map[string]any{"tasks": all}, nil
}

// killTasks is POST /v2/tasks/delete.
func (m *Marathon) killTasks(w http.ResponseWriter, r *http.Request) (int, any, error) {
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	byApp := map[string][]*instance{}
	for _, id := range body.IDs {
		if i := m.store.Instances[id]; i != nil {
			byApp[i.AppID] = append(byApp[i.AppID], i)
		}
	}
	killed := []taskJSON{}
	var last *deployment
	for _, id := range slices.Sorted(maps.Keys(byApp)) {
		e := m.store.Apps[id]
		killed = append(killed, tasksOf(e.App, byApp[id])...)
		if !flag(r, "scale", false) {
			m.killNow(byApp[id])
			continue
		}
		d, err := m.scaleDown(e, byApp[id], flag(r, "force", false))
		if err != nil {
			return 0, nil, err
		}
		last = d
	}
	if last != nil {
		return answerDeployment(w, http.StatusOK, last)
	}
	return http.StatusOK, map[string]any{"tasks": killed}, nil
}

func (m *Marathon) listDeployments(http.ResponseWriter, *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(m.store.Deployments)) {
		d := m.store.Deployments[id]
		all = append(all, map[string]any{
			"id": d.ID, "version": d.Version, "affectedApps": []string{d.AppID}, "affectedPods": []string{},
			"steps": []any{stepOf(d)}, "currentStep": 1, "totalSteps": 1,
			"currentActions": []any{map[string]any{"action": d.Action, "app": d.AppID, "readinessCheckResults": []any{}}},
		})
	}
	return http.StatusOK, all, nil
}

// listQueue shows what waits to be launched, and why.
func (m *Marathon) listQueue(http.ResponseWriter, *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	all := []any{}
	for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
		e := m.store.Apps[id]
		p := planFor(e, m.instancesOf(id), now)
		if p.start == 0 {
			continue
		}
		left := max(0, int(e.until.Sub(now).Round(time.Second).Seconds()))
		unused := 0
		reasons := []any{}
		for _, why := range slices.Sorted(maps.Keys(e.unfit)) {
			unused += e.unfit[why]
			reasons = append(reasons, map[string]any{"reason": why, "declined": e.unfit[why], "processed": e.unfit[why]})
		}
		since := e.since
		if since.IsZero() {
			since = now
		}
		all = append(all, map[string]any{
			"app": e.App, "count": p.start, "since": timestamp(since),
			"delay": map[string]any{"timeLeftSeconds": left, "overdue": left == 0},
			"processedOffersSummary": map[string]any{
				"processedOffersCount": unused, "unusedOffersCount": unused,
				"rejectSummaryLastOffers": reasons, "rejectSummaryLaunchAttempt": reasons,
			},
		})
	}
	return http.StatusOK, map[string]any{"queue": all}, nil
}

// resetDelay is DELETE /v2/queue/{app}/delay.
func (m *Marathon) resetDelay(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/queue"), "/delay")
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.store.Apps[id]
	if !ok || e == nil || e.Removed {
		return 0, nil, notFound(fmt.Sprintf("Application %s not found in tasks queue.", id))
	}
	e.delay, e.until = 0, time.Time{}
	m.changed()
	return http.StatusNoContent, nil, nil
}

// group is a part of the tree that ids make.
type group struct {
	ID           string   `json:"id"`
	Apps         []any    `json:"apps"`
	Pods         []any    `json:"pods"`
	Groups       []*group `json:"groups"`
	Dependencies []string `json:"dependencies"`
	Version      string   `json:"version"`
}

func (m *Marathon) getGroup(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	groups := map[string]*group{}
	var find func(id string) *group
	find = func(id string) *group {
		if g := groups[id]; g != nil {
			return g
		}
		g := &group{ID: id, Apps: []any{}, Pods: []any{}, Groups: []*group{}, Dependencies: []string{}, Version: timestamp(time.Unix(0, 0))}
		groups[id] = g
		if id != "/" {
			parent := find(parentOf(id))
			parent.Groups = append(parent.Groups, g)
		}
		return g
	}
	find("/")
	for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
		if e := m.store.Apps[id]; !e.Removed {
			for g := parentOf(id); ; g = parentOf(g) {
				find(g).Version = max(find(g).Version, e.App.Version)
				if g == "/" {
					break
				}
			}
			g := find(parentOf(id))
			g.Apps = append(g.Apps, e.App)
		}
	}
	id := "/" + strings.Trim(strings.TrimPrefix(r.URL.Path, "/v2/groups"), "/")
	g := groups[id]
	if g == nil {
		return 0, nil, notFound(fmt.Sprintf("Group '%s' does not exist", id))
	}
	return http.StatusOK, g, nil
}

func parentOf(id string) string {
	n := strings.LastIndexByte(id, '/')
	if n <= 0 {
		return "/"
	}
	return id[:n]
}

func (m *Marathon) info(http.ResponseWriter, *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return http.StatusOK, map[string]any{
		"name": m.cfg.Name, "version": m.cfg.Version, "buildref": "contrail", "elected": true, "leader": m.leaderName(),
		"frameworkId": m.store.FrameworkID,
		"marathon_config": map[string]any{
			"master": m.cfg.URL, "checkpoint": true, "task_launch_timeout": m.cfg.LaunchTimeout.Milliseconds(), "failover_timeout": int(failoverTimeout.Seconds()), "framework_name": m.cfg.Name,
			"ha": false, "hostname": m.cfg.Hostname, "mesos_role": "*", "mesos_user": "root", "default_network_name": m.cfg.DefaultNetwork,
		},
		"zookeeper_config": map[string]any{}, "http_config": map[string]any{},
	}, nil
}

func (m *Marathon) leaderName() string { return m.cfg.Hostname + ":8080" }

func (m *Marathon) leader(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, map[string]any{"leader": m.leaderName()}, nil
}

func (m *Marathon) metrics(http.ResponseWriter, *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	running, apps := 0, 0
	for _, i := range m.store.Instances {
		if i.running() {
			running++
		}
	}
	for _, e := range m.store.Apps {
		if !e.Removed {
			apps++
		}
	}
	value := func(v int) map[string]any { return map[string]any{"value": v} }
	subscribed := 0
	if m.session != nil {
		subscribed = 1
	}
	return http.StatusOK, map[string]any{
		"version": "4.0.0", "counters": map[string]any{}, "histograms": map[string]any{}, "meters": map[string]any{}, "timers": map[string]any{},
		"gauges": map[string]any{
			"marathon.apps.active.gauge": value(apps), "marathon.instances.running.gauge": value(running),
			"marathon.instances.gauge": value(len(m.store.Instances)), "marathon.deployments.active.gauge": value(len(m.store.Deployments)),
			"marathon.mesos.subscribed.gauge": value(subscribed),
		},
	}, nil
}
