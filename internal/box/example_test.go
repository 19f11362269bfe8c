package box

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPostApps: an application that is missing is created, one that runs
// another build's image is changed, and one that is right is left alone.
func TestPostApps(t *testing.T) {
	for _, test := range []struct{ name, runs, want string }{
		{"missing", "", "POST /v2/apps"},
		{"another image", "contrail/example:old", "PUT /v2/apps/web"},
		{"the same image", "contrail/example:new", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var changes []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method != http.MethodGet:
					changes = append(changes, r.Method+" "+r.URL.Path)
				case test.runs == "":
					http.Error(w, "{}", http.StatusNotFound)
				default:
					fmt.Fprintf(w, `{"app": {"container": {"docker": {"image": %q}}}}`, test.runs)
				}
			}))
			defer server.Close()
			app := exampleApp{id: "/web", network: "blue", instances: 1}
			err := postApps(t.Context(), rest{server.Client(), server.URL}, []exampleApp{app}, "contrail/example:new")
			if got := strings.Join(changes, ", "); err != nil || got != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}

// TestReaches: what a user scaled away is not asked for.
func TestReaches(t *testing.T) {
	client := marathonTask{ID: "c", AppID: "/client", Host: "1"}
	db := marathonTask{ID: "d", AppID: "/db", Host: "1"}
	near, far := marathonTask{ID: "w1", AppID: "/web", Host: "1"}, marathonTask{ID: "w2", AppID: "/web", Host: "2"}
	for _, test := range []struct {
		tasks []marathonTask
		want  int
	}{
		{[]marathonTask{client, db, near, far}, 3}, {[]marathonTask{client, near}, 1}, {[]marathonTask{db, far}, 0}, {nil, 0},
	} {
		if got := reaches(test.tasks); len(got) != test.want {
			t.Errorf("%d pairs, want %d: %+v", len(got), test.want, got)
		}
	}
}
