//go:build net

package controllers_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// chaos is how long the controllers are disturbed; -chaos=10m for a long run.
var chaos = flag.Duration("chaos", 20*time.Second, "how long TestNetLinearizable disturbs the controllers")

const (
	workers = 10
	// window is how long clients use the same objects: short histories are
	// checked fast.
	window = 4 * time.Second
	pairs  = 5 // in each window
	// patience is how long a client waits for one that may be cut off.
	patience = 3 * time.Second
	// node is where all containers run.
	node = "00000000-0000-4000-8000-000000000001"
)

// worker is one client.
type worker struct {
	id int
	*client
	h    *history
	held map[string][]holding // by part
	// open are takings and frees whose end is not known yet.
	open []*openEnd
}

// holding is an address that the worker has.
type holding struct {
	id      string // of the instance-ip, or of the container
	attach  bool
	address int
}

type openEnd struct {
	part string
	id   string
	op   porcupine.Operation
}

func TestNetLinearizable(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	set.StartAll()
	eventually(t, "three full members", func() bool {
		return strings.Count(strings.Join(values(list(t, set.Members[0])), " "), "follower") == 2
	})
	setUp := newClient(t, set.Members...)
	if status, text, err := setUp.do(http.MethodPost, "/contrail.config.v1.Nodes/Join", fmt.Sprintf(
		`{"node": %q, "name": "n", "address": "172.31.0.11", "fabric_mtu": 1500, "boot_id": "b"}`, node)); err != nil || status != http.StatusOK {
		t.Fatalf("join: %d %s (%v)", status, text, err)
	}
	h := newHistory()
	stop := make(chan struct{})
	all := make([]*worker, workers)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = &worker{id: i, client: newClient(t, set.Members...), h: h, held: map[string][]holding{}}
		for _, c := range all[i].https {
			c.Timeout = patience
		}
		wg.Go(func() { all[i].work(t, stop) })
	}
	disturb(t, set, *chaos)
	close(stop)
	wg.Wait()
	for _, m := range set.Members {
		m.WaitReady()
	}
	for _, w := range all {
		w.resolve(t)
	}
	h.check(t)
	for _, m := range set.Members {
		checkStore(t, m.Name, "unix://"+m.StoreSocket())
	}
}

// disturb kills and cuts one controller after the other.
func disturb(t *testing.T, set *controllers.Set, length time.Duration) {
	end := time.Now().Add(length)
	for n := 0; time.Now().Before(end); n++ {
		m := set.Members[rand.IntN(len(set.Members))]
		switch kind := n % 5; kind {
		case 0:
			m, _ = leader(t, set)
			t.Logf("kill the leader %s", m.Name)
			m.Kill()
			time.Sleep(500 * time.Millisecond)
			m.Start()
		case 1:
			m, _ = leader(t, set)
			fallthrough
		case 2:
			t.Logf("cut %s off", m.Name)
			m.Cut()
			time.Sleep(2500 * time.Millisecond)
			m.Heal()
		default:
			part := []string{"store", "config"}[kind-3]
			t.Logf("kill %s of %s", part, m.Name)
			if err := m.KillPart(part); err != nil {
				t.Error(err)
			}
		}
		m.WaitReady()
	}
}

func (w *worker) work(t *testing.T, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		w.at = rand.IntN(len(w.https))
		part := int(time.Since(w.h.start) / window)
		if rand.IntN(3) > 0 {
			w.actOnPair(part, rand.IntN(pairs))
		} else if err := w.actOnAddresses(part / 2); err != nil {
			t.Errorf("client %d: %v", w.id, err)
			return
		}
	}
}

// actOnPair does something with a network and a policy that all know.
func (w *worker) actOnPair(part, n int) {
	name := fmt.Sprintf("p%d-%d", part, n)
	network, policy := fmt.Sprintf("00000000-0000-4000-8001-%06d%06d", part, n), fmt.Sprintf("00000000-0000-4000-8002-%06d%06d", part, n)
	body := func(kind, id string) string {
		return fmt.Sprintf(`{%q: {"fq_name": ["default-domain", "default-project", %q], "uuid": %q}}`, kind, name, id)
	}
	reference := func(operation string) string {
		return fmt.Sprintf(`{"type": "virtual-network", "uuid": %q, "ref-type": "network-policy", "ref-uuid": %q, "operation": %q, "attr": {"sequence": {"major": 0, "minor": 0}}}`,
			network, policy, operation)
	}
	requests := []struct {
		act                pairAct
		method, path, body string
	}{
		{createNetwork, http.MethodPost, "/virtual-networks", body("virtual-network", network)},
		{deleteNetwork, http.MethodDelete, "/virtual-network/" + network, ""},
		{createPolicy, http.MethodPost, "/network-policys", body("network-policy", policy)},
		{deletePolicy, http.MethodDelete, "/network-policy/" + policy, ""},
		{addReference, http.MethodPost, "/ref-update", reference("ADD")},
		{addReference, http.MethodPost, "/ref-update", reference("ADD")},
		{dropReference, http.MethodPost, "/ref-update", reference("DELETE")},
		{readNetwork, http.MethodGet, "/virtual-network/" + network, ""},
		{readNetwork, http.MethodGet, "/virtual-network/" + network, ""},
	}
	r := requests[rand.IntN(len(requests))]
	op := porcupine.Operation{ClientId: w.id, Input: r.act, Call: w.h.now()}
	status, text, err := w.once(r.method, r.path, r.body)
	op.Return = w.h.now()
	switch {
	case err != nil || status >= 500:
		if r.act == readNetwork {
			return
		}
		op.Output, op.Return = unknown, never
	case status >= 400:
		op.Output = refused
	case r.act != readNetwork:
		op.Output = done
	case strings.Contains(text, policy):
		op.Output = present
	default:
		op.Output = bare
	}
	w.h.add(name, op)
}

// actOnAddresses takes or frees an address of the window's network.
func (w *worker) actOnAddresses(part int) error {
	name := fmt.Sprintf("a%d", part)
	held := w.held[name]
	if len(held) > 3 || len(held) > 0 && rand.IntN(2) == 0 {
		w.held[name] = held[1:]
		return w.free(name, held[0])
	}
	if rand.IntN(2) == 0 {
		return w.attach(name, part)
	}
	return w.take(name)
}

// insist sends a request that may be repeated until it is answered.
func (w *worker) insist(path, body string) (string, int64, error) {
	for {
		status, text, err := w.once(http.MethodPost, path, body)
		switch {
		case err == nil && status == http.StatusOK:
			return text, w.h.now(), nil
		case err == nil && status < 500 && status != http.StatusConflict: // 409 is connect's "aborted"
			return "", 0, fmt.Errorf("%s: %d %s", path, status, text)
		case w.h.now() > int64(*chaos+time.Minute):
			return "", 0, fmt.Errorf("%s: no answer in time: %d %s %w", path, status, text, err)
		}
		w.at = (w.at + 1) % len(w.https)
		time.Sleep(20 * time.Millisecond)
	}
}

func key(id string) string {
	return fmt.Sprintf(`"key": {"node": %q, "container_id": %q, "interface": "eth0", "boot_id": "b", "namespace": "4:1"}`, node, id)
}

func (w *worker) attach(name string, part int) error {
	id := model.NewUUID()
	op := porcupine.Operation{ClientId: w.id, Input: addressAct{}, Call: w.h.now()}
	text, end, err := w.insist("/contrail.config.v1.Attachments/Attach", fmt.Sprintf(
		`{%s, "network": {"domain": "default-domain", "project": "linear", "network": %q, "subnets": ["10.99.%d.0/26"], "create_missing": true}}`, key(id), name, part))
	if err != nil {
		return err
	}
	var answer struct {
		Attachment struct{ Addresses []struct{ Address string } }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || len(answer.Attachment.Addresses) != 1 {
		return fmt.Errorf("attach answered %s (%w)", text, err)
	}
	address, err := lastByte(answer.Attachment.Addresses[0].Address)
	if err != nil {
		return err
	}
	op.Output, op.Return = addressResult{address}, end
	w.h.add(name, op)
	w.held[name] = append(w.held[name], holding{id, true, address})
	return nil
}

func lastByte(address string) (int, error) {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return 0, err
	}
	b := a.As4()
	return int(b[3]), nil
}

// take creates an instance-ip, with an address of its choice or any.
func (w *worker) take(name string) error {
	id := model.NewUUID()
	act := addressAct{}
	wanted := ""
	if rand.IntN(2) == 0 {
		act.want = 20 + rand.IntN(6)
		wanted = fmt.Sprintf(`, "instance_ip_address": "10.99.%s.%d"`, strings.TrimPrefix(name, "a"), act.want)
	}
	op := porcupine.Operation{ClientId: w.id, Input: act, Call: w.h.now()}
	status, text, err := w.once(http.MethodPost, "/instance-ips", fmt.Sprintf(
		`{"instance-ip": {"fq_name": [%q], "uuid": %q, "virtual_network_refs": [{"to": ["default-domain", "linear", %q]}]%s}}`, id, id, name, wanted))
	end := w.h.now()
	switch {
	case err != nil || status >= 500:
		w.open = append(w.open, &openEnd{name, id, op})
		return nil
	case status == http.StatusOK:
		return w.took(name, id, op, end)
	case strings.Contains(text, "virtual-network has"):
		return nil // nobody has attached to it yet, or any more
	case act.want == 0:
		return fmt.Errorf("take any address: %d %s", status, text)
	}
	op.Output, op.Return = addressResult{}, end
	w.h.add(name, op)
	return nil
}

// took reads which address a created instance-ip has; what is created stays.
func (w *worker) took(name, id string, op porcupine.Operation, end int64) error {
	status, text, err := w.do(http.MethodGet, "/instance-ip/"+id, "")
	var answer struct {
		IP struct {
			Address string `json:"instance_ip_address"`
		} `json:"instance-ip"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &answer)
	}
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("read created instance-ip %s: %d %s (%w)", id, status, text, err)
	}
	address, err := lastByte(answer.IP.Address)
	if err != nil {
		return err
	}
	op.Output, op.Return = addressResult{address}, end
	w.h.add(name, op)
	w.held[name] = append(w.held[name], holding{id, false, address})
	return nil
}

func (w *worker) free(name string, what holding) error {
	op := porcupine.Operation{ClientId: w.id, Input: addressAct{free: true}, Output: addressResult{what.address}, Call: w.h.now()}
	if what.attach {
		_, end, err := w.insist("/contrail.config.v1.Attachments/Detach", "{"+key(what.id)+"}")
		op.Return = end
		w.h.add(name, op)
		return err
	}
	status, text, err := w.once(http.MethodDelete, "/instance-ip/"+what.id, "")
	op.Return = w.h.now()
	switch {
	case err != nil || status >= 500:
		w.open = append(w.open, &openEnd{name, what.id, op})
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("delete instance-ip %s: %d %s", what.id, status, text)
	}
	w.h.add(name, op)
	return nil
}

// resolve finds out what became of takings and frees that were not answered.
// Nobody else touched their objects, so what is now tells.
func (w *worker) resolve(t *testing.T) {
	for _, o := range w.open {
		status, text, err := w.do(http.MethodGet, "/instance-ip/"+o.id, "")
		if err != nil || status != http.StatusOK && status != http.StatusNotFound {
			t.Errorf("read instance-ip %s: %d %s (%v)", o.id, status, text, err)
		}
		exists := status == http.StatusOK
		free := o.op.Input.(addressAct).free
		o.op.Return = never
		switch {
		case free && !exists:
			w.h.add(o.part, o.op)
		case !free && exists:
			if err := w.took(o.part, o.id, o.op, never); err != nil {
				t.Error(err)
			}
		}
	}
}

// checkStore reads the store itself: every reference has both ends, and every
// address one owner that has it.
func checkStore(t *testing.T, name, endpoint string) {
	t.Helper()
	s, err := store.Open(t.Context(), slog.New(slog.DiscardHandler), store.Config{Endpoints: []string{endpoint}, Writer: "check"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	entries, err := s.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]map[string]any{} // by kind and UUID
	for _, e := range entries {
		if e.Key.Space() == store.SpaceObject {
			p, err := e.Key.Split(2)
			var fields map[string]any
			if err == nil {
				err = json.Unmarshal(e.Value, &fields)
			}
			if err != nil {
				t.Fatalf("%s: %v", e.Key, err)
			}
			objects[p[0]+"/"+p[1]] = fields
		}
	}
	owners := map[string]string{} // of addresses, by the instance-ip
	references, addresses := 0, 0
	for _, e := range entries {
		switch e.Key.Space() {
		case store.SpaceRef:
			p, err := e.Key.Split(4)
			if err != nil {
				t.Fatal(err)
			}
			for _, end := range []string{p[0] + "/" + p[1], p[2] + "/" + p[3]} {
				if objects[end] == nil && !strings.HasPrefix(end, "routing-instance/") && !strings.HasPrefix(end, "route-target/") {
					t.Errorf("reference %s: %s does not exist", e.Key, end)
				}
			}
			references++
		case store.SpaceAddress:
			_, a, err := e.Key.ParseAddress()
			if err != nil {
				t.Fatal(err)
			}
			owner := string(e.Value)
			if have := owners[owner]; have != "" {
				t.Errorf("instance-ip %s has %s and %s", owner, have, a)
			}
			owners[owner] = a.String()
			if ip := objects["instance-ip/"+owner]; ip == nil || ip["instance_ip_address"] != a.String() {
				t.Errorf("%s belongs to %q, which is %v", e.Key, owner, ip)
			}
			addresses++
		}
	}
	for name, fields := range objects {
		if id, ok := strings.CutPrefix(name, "instance-ip/"); ok && owners[id] == "" {
			t.Errorf("%s has the address %v, and no key says so", name, fields["instance_ip_address"])
		}
	}
	t.Logf("store of %s: %d objects, %d references, %d addresses", name, len(objects), references, addresses)
}
