package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// The two forms of body that plugins send.
func objectForm(command, container, cluster string) string {
	return fmt.Sprintf(`{"cmd":%q,"cid":%q,"name":"contrail","type":"contrail","contrail":{"cluster-name":%q,"mode":"mesos"},
		"args":{"org.apache.mesos":{"network_info":{"name":"contrail","labels":{"labels":[{"key":"networks","value":"blue"}]}}}}}`, command, container, cluster)
}

func stringForm(command, container, cluster string) string {
	stdin := fmt.Sprintf(`{"name":"contrail","contrail":{"cluster-name":%q},"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"networks","value":"blue"}]}}}}}`, cluster)
	body, _ := json.Marshal(map[string]string{"cid": container, "cmd": command, "args": stdin})
	return string(body)
}

func TestAddCNIInfo(t *testing.T) {
	t.Parallel()
	for form, body := range map[string]func(command, container, cluster string) string{"object": objectForm, "string": stringForm} {
		for _, command := range []string{"ADD", "add", ""} {
			t.Run(form+" "+command, func(t *testing.T) {
				t.Parallel()
				b := newBed(t, Config{})
				n := b.node("contrail-node-1")
				code, text := n.post(t, "/add_cni_info", body(command, containerID, "contrail-node-1"))
				if code != http.StatusOK {
					t.Fatalf("%d %s", code, text)
				}
				var answer struct {
					CID        string
					Attachment struct {
						Addresses     []struct{ Address string }
						NetworkFqName []string
					}
				}
				if err := json.Unmarshal([]byte(text), &answer); err != nil {
					t.Fatalf("%v: %s", err, text)
				}
				if answer.CID != containerID || len(answer.Attachment.Addresses) != 1 || answer.Attachment.NetworkFqName[2] != "blue" {
					t.Errorf("answer %s", text)
				}
				if key := b.config.requests[0].Key; key.Node != n.id || key.BootId != "boot-1" || key.Interface != "eth0" {
					t.Errorf("key %v", key)
				}
				code, text = n.get(t, "/get_cni_info/"+containerID)
				if code != http.StatusOK || !strings.Contains(text, "10.32.0.3") {
					t.Errorf("get: %d %s", code, text)
				}
				if code, text = n.post(t, "/del_cni_info", body(strings.Replace(command, "ADD", "DEL", 1), containerID, "")); command != "add" && code != http.StatusOK {
					t.Errorf("delete: %d %s", code, text)
				}
				if command != "add" && len(b.config.attached) != 0 {
					t.Error("the attachment is left")
				}
			})
		}
	}
}

func TestBodyNamesNode(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n, other := b.node("contrail-node-1"), b.node("contrail-node-2")
	for _, named := range []string{n.id, n.name, ""} {
		if code, text := n.post(t, "/add_cni_info", objectForm("ADD", containerID, named)); code != http.StatusOK {
			t.Errorf("own name %q: %d %s", named, code, text)
		}
	}
	for _, named := range []string{other.id, other.name, "nobody"} {
		for _, body := range []string{objectForm("", containerID, named), stringForm("", containerID, named)} {
			for _, path := range []string{"/add_cni_info", "/del_cni_info"} {
				if code, text := n.post(t, path, body); code != http.StatusForbidden || !strings.Contains(text, "cluster-name") {
					t.Errorf("%s naming %q: %d %s", path, named, code, text)
				}
			}
		}
	}
	if len(b.config.attached) != 1 {
		t.Errorf("%d attachments", len(b.config.attached))
	}
	admin := b.admin()
	if code, text := admin.post(t, "/add_cni_info", objectForm("ADD", "c2", other.name)); code != http.StatusOK {
		t.Errorf("administrator: %d %s", code, text)
	}
	if b.config.attached[other.id+"/c2/eth0"] == nil {
		t.Error("the administrator's container is not on the node that the body names")
	}
	if code, text := admin.post(t, "/add_cni_info", objectForm("ADD", "c3", "")); code != http.StatusBadRequest || !strings.Contains(text, "contrail.cluster-name") {
		t.Errorf("administrator without node: %d %s", code, text)
	}
	if code, text := admin.post(t, "/add_cni_info", objectForm("ADD", "c3", "nobody")); code != http.StatusConflict || !strings.Contains(text, `"nobody" has not joined`) {
		t.Errorf("administrator with unknown node: %d %s", code, text)
	}
	if code, _ := b.stranger(ctls.RoleMarathon, "").post(t, "/add_cni_info", objectForm("ADD", "c4", "")); code != http.StatusForbidden {
		t.Errorf("marathon: %d", code)
	}
}

func TestGetShowsOwnNode(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	one, two := b.node("contrail-node-1"), b.node("contrail-node-2")
	for i, n := range []*node{one, two} {
		if code, text := n.post(t, "/add_cni_info", objectForm("ADD", fmt.Sprintf("container-%d", i+1), "")); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
	}
	if code, text := one.get(t, "/get_cni_info"); code != http.StatusOK || !strings.Contains(text, "container-1") || strings.Contains(text, "container-2") {
		t.Errorf("node: %d %s", code, text)
	}
	if code, text := one.get(t, "/get_cni_info/container-2"); code != http.StatusNotFound {
		t.Errorf("the other node's container: %d %s", code, text)
	}
	if code, text := b.admin().get(t, "/get_cni_info"); code != http.StatusOK || !strings.Contains(text, "container-1") || !strings.Contains(text, "container-2") {
		t.Errorf("administrator: %d %s", code, text)
	}
	if code, _ := b.stranger(ctls.RoleMaster, "").get(t, "/get_cni_info"); code != http.StatusForbidden {
		t.Errorf("master: %d", code)
	}
}

func TestRESTErrors(t *testing.T) {
	t.Parallel()
	b := newBed(t, short())
	n := b.node("contrail-node-1")
	for body, says := range map[string]string{
		`{`:                              "body is no JSON object",
		`[]`:                             "body is no JSON object",
		`null`:                           "container_id is empty",
		`{"cid":7}`:                      "cid, cmd and ifname are strings",
		`{"cid":"a/b"}`:                  "container_id",
		`{"cid":"c","cmd":"DEL"}`:        `cmd: "DEL" does not belong to /add_cni_info`,
		`{"cid":"c","args":"no json"}`:   "network configuration is not JSON",
		`{"cid":"c","args":["a"]}`:       "field args",
		`{"cid":"c","contrail":"mesos"}`: "field contrail",
	} {
		if code, text := n.post(t, "/add_cni_info", body); code != http.StatusBadRequest || !strings.Contains(text, says) {
			t.Errorf("%s: %d %s, want %q", body, code, text, says)
		}
	}
	res, err := n.web.Post(n.base+"/add_cni_info", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if code, text := status(t, res); code != http.StatusUnsupportedMediaType || text != "Unable to parse publish request\n" {
		t.Errorf("plain text: %d %s", code, text)
	}
	for code, want := range map[connect.Code]int{
		connect.CodeInvalidArgument: 400, connect.CodeAlreadyExists: 409, connect.CodeResourceExhausted: 409, connect.CodeUnavailable: 503,
	} {
		b.config.attachError = func(int) error { return connect.NewError(code, errors.New("pool is full")) }
		if got, text := n.post(t, "/add_cni_info", objectForm("ADD", containerID, "")); got != want || !strings.Contains(text, "pool is full") {
			t.Errorf("%s: %d %s, want %d", code, got, text, want)
		}
	}
}

func TestHomeAndMetrics(t *testing.T) {
	t.Parallel()
	b := newBed(t, Config{})
	n := b.node("contrail-node-1")
	if code, text := n.get(t, "/"); code != http.StatusOK || !strings.Contains(text, `"name":"add_cni_info"`) || !strings.Contains(text, `"href":"https://`) {
		t.Errorf("home: %d %s", code, text)
	}
	if _, err := n.attach(blue(containerID)); err != nil {
		t.Fatal(err)
	}
	if code, text := n.get(t, "/metrics"); code != http.StatusOK || !strings.Contains(text, `contrail_manager_request_seconds_count{code="ok",operation="Attach"} 1`) {
		t.Errorf("metrics: %d %s", code, text)
	}
}
