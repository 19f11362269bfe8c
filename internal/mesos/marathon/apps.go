package marathon

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// deploymentResult is the answer to a change.
type deploymentResult struct {
	Version      string `json:"version"`
	DeploymentID string `json:"deploymentId"`
}

func answerDeployment(w http.ResponseWriter, status int, d *deployment) (int, any, error) {
	w.Header().Set("Marathon-Deployment-Id", d.ID)
	return status, deploymentResult{d.Version, d.ID}, nil
}

// target splits the path below /v2/apps into an application's id and what of it
// is meant.
type target struct {
	id, part, item string
}

func targetOf(r *http.Request) target {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, "/v2/apps"), "/")
	segments := strings.Split(path, "/")
	for _, part := range []string{"tasks", "versions", "restart"} {
		n := len(segments)
		if n >= 2 && segments[n-1] == part {
			return target{"/" + strings.Join(segments[:n-1], "/"), part, ""}
		}
		if n >= 3 && segments[n-2] == part && part != "restart" {
			return target{"/" + strings.Join(segments[:n-2], "/"), part, segments[n-1]}
		}
	}
	return target{id: "/" + path}
}

// shown returns an application that is not removed.
func (m *Marathon) shown(id string) (*entry, error) {
	e := m.store.Apps[id]
	if e == nil || e.Removed {
		return nil, notFound(fmt.Sprintf("App '%s' does not exist", id))
	}
	return e, nil
}

// appInfo is a definition with counts, deployments and what embed names.
func (m *Marathon) appInfo(e *entry, tasks, lastFailure bool) map[string]any {
	info := map[string]any{}
	if err := json.Unmarshal(mustJSON(e.App), &info); err != nil {
		m.log.Error("definition does not decode", "app", e.App.ID, "error", err)
	}
	staged, running := 0, 0
	instances := m.instancesOf(e.App.ID)
	for _, i := range instances {
		switch i.shownState() {
		case "TASK_RUNNING":
			running++
		case "TASK_STAGING", "TASK_STARTING":
			staged++
		}
	}
	info["tasksStaged"], info["tasksRunning"], info["tasksHealthy"], info["tasksUnhealthy"] = staged, running, 0, 0
	deployments := []idOnly{}
	if d := m.deploymentOf(e.App.ID); d != nil {
		deployments = append(deployments, idOnly{d.ID})
	}
	info["deployments"] = deployments
	if tasks {
		info["tasks"] = tasksOf(e.App, instances)
	}
	if lastFailure && e.LastFailure != nil {
		info["lastTaskFailure"] = e.LastFailure
	}
	return info
}

// taskJSON is a task as the API shows it.
type taskJSON struct {
	ID                 string    `json:"id"`
	AppID              string    `json:"appId"`
	Host               string    `json:"host"`
	Ports              []int     `json:"ports"`
	ServicePorts       []int     `json:"servicePorts"`
	IPAddresses        []address `json:"ipAddresses"`
	SlaveID            string    `json:"slaveId"`
	State              string    `json:"state"`
	StagedAt           string    `json:"stagedAt"`
	StartedAt          string    `json:"startedAt,omitempty"`
	Version            string    `json:"version"`
	HealthCheckResults []any     `json:"healthCheckResults"`
	LocalVolumes       []any     `json:"localVolumes"`
	Role               string    `json:"role"`
}

func tasksOf(a *App, instances []*instance) []taskJSON {
	all := []taskJSON{}
	for _, i := range instances {
		t := taskJSON{
			ID: i.ID, AppID: i.AppID, Host: i.Place.Host, Ports: i.Ports, ServicePorts: []int{}, IPAddresses: i.Addresses, SlaveID: i.AgentID,
			State: i.shownState(), StagedAt: timestamp(i.StagedAt), Version: i.Version, HealthCheckResults: []any{}, LocalVolumes: []any{}, Role: "*",
		}
		if t.IPAddresses == nil {
			t.IPAddresses = []address{}
		}
		if a != nil && a.Container != nil {
			for _, p := range a.Container.PortMappings {
				if p.ServicePort != 0 {
					t.ServicePorts = append(t.ServicePorts, p.ServicePort)
				}
			}
		}
		if !i.StartedAt.IsZero() {
			t.StartedAt = timestamp(i.StartedAt)
		}
		all = append(all, t)
	}
	return all
}

func (m *Marathon) listApps(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	query := r.URL.Query()
	embed := query["embed"]
	has := func(name string) bool {
		return slices.Contains(embed, "apps."+name) || slices.Contains(embed, "app."+name)
	}
	apps := []any{}
	for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
		e := m.store.Apps[id]
		if e.Removed || !strings.Contains(id, query.Get("id")) || !matchesLabels(e.App, query.Get("label")) {
			continue
		}
		if cmd := query.Get("cmd"); cmd != "" && (e.App.Cmd == nil || !strings.Contains(*e.App.Cmd, cmd)) {
			continue
		}
		apps = append(apps, m.appInfo(e, has("tasks"), has("lastTaskFailure") || has("failures")))
	}
	return http.StatusOK, map[string]any{"apps": apps}, nil
}

// matchesLabels reads a selector: comma-separated keys and key==value.
func matchesLabels(a *App, selector string) bool {
	if selector == "" {
		return true
	}
	for term := range strings.SplitSeq(selector, ",") {
		key, value, equal := strings.Cut(strings.TrimSpace(term), "==")
		got, has := a.Labels[key]
		if !has || equal && got != value {
			return false
		}
	}
	return true
}

func (m *Marathon) createApp(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := readObject(w, r)
	if err != nil {
		return 0, nil, err
	}
	app, err := parseApp("", body, nil, m.cfg.DefaultNetwork)
	if err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.store.Apps[app.ID]; e != nil && !e.Removed {
		return 0, nil, &problem{status: http.StatusConflict, message: fmt.Sprintf("An app with id [%s] already exists.", app.ID)}
	}
	d, err := m.change(app, flag(r, "force", false), false, time.Now())
	if err != nil {
		return 0, nil, err
	}
	m.publish("api_post_event", map[string]any{"clientIp": r.RemoteAddr, "uri": r.URL.Path, "appDefinition": app})
	w.Header().Set("Location", "/v2/apps"+app.ID)
	w.Header().Set("Marathon-Deployment-Id", d.ID)
	return http.StatusCreated, m.appInfo(m.store.Apps[app.ID], true, false), nil
}

func (m *Marathon) getApp(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	t := targetOf(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if prefix, ok := strings.CutSuffix(t.id, "/*"); ok {
		apps := []any{}
		for _, id := range slices.Sorted(maps.Keys(m.store.Apps)) {
			if e := m.store.Apps[id]; !e.Removed && strings.HasPrefix(id, prefix+"/") {
				apps = append(apps, m.appInfo(e, true, true))
			}
		}
		return http.StatusOK, map[string]any{"*": apps}, nil
	}
	e, err := m.shown(t.id)
	if err != nil {
		return 0, nil, err
	}
	switch t.part {
	case "tasks":
		return http.StatusOK, map[string]any{"tasks": tasksOf(e.App, m.instancesOf(t.id))}, nil
	case "versions":
		return m.versions(e, t.item)
	case "restart":
		return 0, nil, &problem{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}
	}
	return http.StatusOK, map[string]any{"app": m.appInfo(e, true, true)}, nil
}

func (m *Marathon) versions(e *entry, version string) (int, any, error) {
	all := []string{}
	for _, app := range slices.Backward(append(slices.Clone(e.History), e.App)) {
		if app.Version == version {
			return http.StatusOK, app, nil
		}
		all = append(all, app.Version)
	}
	if version != "" {
		return 0, nil, notFound(fmt.Sprintf("App '%s' does not exist in version %s", e.App.ID, version))
	}
	return http.StatusOK, map[string]any{"versions": all}, nil
}

func (m *Marathon) putApp(w http.ResponseWriter, r *http.Request) (int, any, error) {
	return m.replaceApp(w, r, flag(r, "partialUpdate", true), true)
}

func (m *Marathon) patchApp(w http.ResponseWriter, r *http.Request) (int, any, error) {
	return m.replaceApp(w, r, true, false)
}

func (m *Marathon) replaceApp(w http.ResponseWriter, r *http.Request, partial, create bool) (int, any, error) {
	body, err := readObject(w, r)
	if err != nil {
		return 0, nil, err
	}
	t := targetOf(r)
	if t.part != "" {
		return 0, nil, &problem{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	status, d, err := m.put(t.id, body, partial, create, flag(r, "force", false))
	if err != nil {
		return 0, nil, err
	}
	m.publish("api_post_event", map[string]any{"clientIp": r.RemoteAddr, "uri": r.URL.Path, "appDefinition": m.store.Apps[t.id].App})
	return answerDeployment(w, status, d)
}

// put changes or makes one application.
func (m *Marathon) put(id string, body map[string]json.RawMessage, partial, create, force bool) (int, *deployment, error) {
	e := m.store.Apps[id]
	status := http.StatusOK
	var base *App
	switch {
	case e != nil && !e.Removed:
		if partial {
			base = e.App
		}
		if version := body["version"]; version != nil && len(body) == 1 {
			_, earlier, err := m.versions(e, strings.Trim(string(version), `"`))
			if err != nil {
				return 0, nil, err
			}
			app, isApp := earlier.(*App)
			if !isApp {
				return 0, nil, invalidJSON(fmt.Errorf("version is empty"))
			}
			base = app
		}
	case !create:
		return 0, nil, notFound(fmt.Sprintf("App '%s' does not exist", id))
	default:
		status = http.StatusCreated
	}
	app, err := parseApp(id, body, base, m.cfg.DefaultNetwork)
	if err != nil {
		return 0, nil, err
	}
	d, err := m.change(app, force, false, time.Now())
	return status, d, err
}

// putApps is PUT /v2/apps with a list. All definitions are checked before the
// first is taken.
func (m *Marathon) putApps(w http.ResponseWriter, r *http.Request) (int, any, error) {
	var list []map[string]json.RawMessage
	if err := readJSON(w, r, &list); err != nil {
		return 0, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]string, len(list))
	for i, body := range list {
		var id string
		if err := json.Unmarshal(body["id"], &id); err != nil {
			return 0, nil, &problem{status: http.StatusUnprocessableEntity, message: "Object is not valid", details: []detail{{fmt.Sprintf("(%d)/id", i), []string{"error.path.missing"}}}}
		}
		ids[i] = "/" + strings.Trim(id, "/")
		var base *App
		if e := m.store.Apps[ids[i]]; e != nil && !e.Removed {
			base = e.App
		}
		if _, err := parseApp(ids[i], body, base, m.cfg.DefaultNetwork); err != nil {
			return 0, nil, err
		}
	}
	var last *deployment
	for i, body := range list {
		_, d, err := m.put(ids[i], body, true, r.Method == http.MethodPut, flag(r, "force", false))
		if err != nil {
			return 0, nil, err
		}
		last = d
	}
	if last == nil {
		return 0, nil, invalidJSON(fmt.Errorf("the list is empty"))
	}
	return answerDeployment(w, http.StatusOK, last)
}

// postApp is POST /v2/apps/{id}/restart.
func (m *Marathon) postApp(w http.ResponseWriter, r *http.Request) (int, any, error) {
	t := targetOf(r)
	if t.part != "restart" {
		return 0, nil, &problem{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, err := m.shown(t.id)
	if err != nil {
		return 0, nil, err
	}
	app := *e.App
	d, err := m.change(&app, flag(r, "force", false), true, time.Now())
	if err != nil {
		return 0, nil, err
	}
	return answerDeployment(w, http.StatusOK, d)
}

func (m *Marathon) deleteApp(w http.ResponseWriter, r *http.Request) (int, any, error) {
	t := targetOf(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch t.part {
	case "":
		d, err := m.remove(t.id, flag(r, "force", false), time.Now())
		if err != nil {
			return 0, nil, err
		}
		return answerDeployment(w, http.StatusOK, d)
	case "tasks":
		return m.deleteTasks(w, r, t)
	default:
		return 0, nil, &problem{status: http.StatusMethodNotAllowed, message: "HTTP 405 Method Not Allowed"}
	}
}

// deleteTasks kills tasks of an application: one, those on a host, or all.
func (m *Marathon) deleteTasks(w http.ResponseWriter, r *http.Request, t target) (int, any, error) {
	e, err := m.shown(t.id)
	if err != nil {
		return 0, nil, err
	}
	host := r.URL.Query().Get("host")
	var victims []*instance
	for _, i := range m.instancesOf(t.id) {
		if (t.item == "" || i.ID == t.item) && (host == "" || i.Place.Host == host) {
			victims = append(victims, i)
		}
	}
	if t.item != "" && len(victims) == 0 {
		return 0, nil, notFound(fmt.Sprintf("Task '%s' does not exist", t.item))
	}
	shown := tasksOf(e.App, victims)
	if flag(r, "scale", false) {
		d, err := m.scaleDown(e, victims, flag(r, "force", false))
		if err != nil {
			return 0, nil, err
		}
		return answerDeployment(w, http.StatusOK, d)
	}
	m.killNow(victims)
	if t.item != "" {
		return http.StatusOK, map[string]any{"task": shown[0]}, nil
	}
	return http.StatusOK, map[string]any{"tasks": shown}, nil
}

// killNow marks instances for killing; the next step does it.
func (m *Marathon) killNow(victims []*instance) {
	for _, i := range victims {
		i.Killing, m.dirty = true, true
	}
	m.changed()
}

func (m *Marathon) scaleDown(e *entry, victims []*instance, force bool) (*deployment, error) {
	app := *e.App
	app.Instances = max(0, app.Instances-len(victims))
	d, err := m.change(&app, force, false, time.Now())
	if err == nil {
		m.killNow(victims)
	}
	return d, err
}
