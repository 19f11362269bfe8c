//go:build net

package controllers_test

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/internal/control"
	"github.com/contrail-mesos/contrail/internal/serve"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// ask asks a controller's control node, on its unix socket.
func ask(m *controllers.Controller, path string) (string, error) {
	client, base, err := serve.Client("unix:"+filepath.Join(filepath.Dir(m.StoreSocket()), "control.sock"), nil, false)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	response, err := client.Get(base + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// connected are the control nodes that another one hears.
func connected(m *controllers.Controller) (addresses []string) {
	text, err := ask(m, "/controllers")
	var shown []control.ShownColleague
	if err != nil || json.Unmarshal([]byte(text), &shown) != nil {
		return nil
	}
	for _, c := range shown {
		if c.Connected {
			addresses = append(addresses, c.Address)
		}
	}
	return addresses
}

// TestNetControlNodesFindEachOther: nothing but the store tells control nodes of
// each other; a third joins by being started, and one that is cut off from the
// store says so.
func TestNetControlNodesFindEachOther(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	set.ListenForAgents()
	a, b, c := set.Members[0], set.Members[1], set.Members[2]
	hears := func(what string, m *controllers.Controller, others ...*controllers.Controller) {
		t.Helper()
		want := []string{}
		for _, o := range others {
			want = append(want, o.Control())
		}
		eventually(t, what, func() bool { return fmt.Sprint(connected(m)) == fmt.Sprint(want) })
	}
	for _, m := range []*controllers.Controller{a, b} {
		m.Start()
		m.WaitReady()
	}
	hears("a hears b", a, b)
	hears("b hears a", b, a)
	c.Start()
	c.WaitReady()
	hears("a hears both", a, b, c)
	hears("b hears both", b, a, c)
	hears("c hears both", c, a, b)

	says := func(m *controllers.Controller, cutOff int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s says whether it is cut off: %d", m.Name, cutOff), func() bool {
			text, err := ask(m, "/metrics")
			return err == nil && strings.Contains(text, fmt.Sprintf("\ncontrail_control_cut_off %d\n", cutOff))
		})
	}
	c.Cut()
	says(c, 1)
	says(a, 0)
	c.Heal()
	says(c, 0)
	hears("c hears both again", c, a, b)

	b.Kill()
	hears("a misses b", a, c)
	b.Start()
	b.WaitReady()
	hears("a hears both again", a, b, c)
}
