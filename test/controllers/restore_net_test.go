//go:build net

package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/test/controllers"
)

// A backup is restored under three controllers that go on being used. Nothing
// that somebody has is given to another, and all three show the same.
func TestNetRestoreThree(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	set.StartAll()
	eventually(t, "three full members", func() bool {
		return strings.Count(strings.Join(values(list(t, set.Members[0])), " "), "follower") == 2
	})
	var stores []string
	for _, m := range set.Members {
		stores = append(stores, "unix://"+m.StoreSocket())
	}
	restoreUnderLoad(t, set, set.Members[1].StoreFlags(), stores)
}

// The same with an etcd as it comes: 128 operations in a transaction, requests
// of 1.5 MiB, no streams.
func TestNetRestoreExternal(t *testing.T) {
	set := controllers.New(t, root, "a", "b", "c")
	url := fmt.Sprintf("http://%s:2379", set.Members[0].Address)
	startEtcd(t, set.Members[0], url)
	set.Args = []string{"--store-endpoints", url}
	for _, m := range set.Members {
		m.Alone = true
		m.Start()
		m.WaitReady()
	}
	restoreUnderLoad(t, set, []string{"--store", url}, []string{"unix://" + set.Members[0].Forward(2379)})
}

// restored is the test of a restore.
type restored struct {
	t      *testing.T
	set    *controllers.Set
	flags  []string // by which commands reach the store
	stores []string // endpoints, one of each member
	apis   []api
	given  *given
	agents []*agent
}

func restoreUnderLoad(t *testing.T, set *controllers.Set, flags, stores []string) {
	g := &given{has: map[string]string{}, freed: map[string]time.Time{}}
	r := &restored{t: t, set: set, flags: flags, stores: stores, apis: apisOf(t, set), given: g}
	for n := range 3 {
		r.agents = append(r.agents, newAgent(t, r.apis, g, n+1))
	}
	r.bigObjects()
	for range 12 {
		r.change()
	}
	dump := filepath.Join(t.TempDir(), "dump")
	r.db("dump", dump)
	for _, a := range r.agents {
		a.networks = append(a.networks, "made-after-the-dump")
	}
	for range 25 {
		r.change()
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	for _, a := range r.agents {
		wg.Go(func() { a.work(t.Context(), stop) })
	}
	for _, m := range set.Members {
		c := newClient(t, m)
		wg.Go(func() { writeOn(t, c, stop) })
	}
	r.moreGiven(20)
	late := r.agents[2]
	late.silent.Store(true)
	r.db("restore", dump, "--rest", "3s")
	r.closed(late)
	late.silent.Store(false)
	r.opened()
	r.moreGiven(60)
	end()
	wg.Wait()
	r.agree()
}

// db runs a command on the store, on the machine of the second controller.
func (r *restored) db(args ...string) {
	r.t.Helper()
	out, err := r.set.Members[1].Command(append(append([]string{"db"}, args...), r.flags...)...)
	if err != nil {
		r.t.Fatalf("db %v: %v %s", args, err, out)
	}
	r.t.Logf("db %s: %s", args[0], strings.ReplaceAll(strings.TrimSpace(out), "\n", "; "))
}

// bigObjects makes some that do not fit into one transaction together.
func (r *restored) bigObjects() {
	r.t.Helper()
	c := newClient(r.t, r.set.Members...)
	for i, size := range []int{900 << 10, 400 << 10, 400 << 10, 400 << 10, 300 << 10, 300 << 10} {
		status, text, err := c.do(http.MethodPost, "/virtual-networks", fmt.Sprintf(
			`{"virtual-network": {"fq_name": ["default-domain", "default-project", "big%d"], "annotations": {"key_value_pair": [{"key": "k", "value": %q}]}}}`,
			i, strings.Repeat("x", size)))
		if err != nil || status != http.StatusOK {
			r.t.Fatalf("create an object of %d bytes: %d %s (%v)", size, status, text, err)
		}
	}
}

// change has each node start two containers and stop one.
func (r *restored) change() {
	r.t.Helper()
	for _, a := range r.agents {
		for _, do := range []func(context.Context) error{a.start, a.start, a.stop} {
			if err := do(r.t.Context()); err != nil {
				r.t.Fatalf("%s: %v", a.name, err)
			}
		}
	}
}

// writeOn makes networks, and changes and reads them, until it is to stop. The
// restore takes them away, and closes the store for a while.
func writeOn(t *testing.T, c *client, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		body, id := network()
		path := "/virtual-network/" + id
		for _, r := range [][3]string{
			{http.MethodPost, "/virtual-networks", body},
			{http.MethodPut, path, `{"virtual-network": {"display_name": "changed"}}`},
			{http.MethodGet, path, ""},
		} {
			status, text, err := c.once(r[0], r[1], r[2])
			if err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable && status != http.StatusNotFound {
				t.Errorf("%s %s at %s: %d %s (%v)", r[0], r[1], c.bases[0], status, text, err)
				return
			}
			if status == http.StatusServiceUnavailable {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}

// moreGiven waits until so many more containers have started.
func (r *restored) moreGiven(n int) {
	r.t.Helper()
	before := r.given.total()
	eventually(r.t, fmt.Sprintf("%d more containers start", n), func() bool { return r.given.total() >= before+n || r.t.Failed() })
}

func (r *restored) status(of api) *configv1.RecoveryStatusResponse {
	r.t.Helper()
	out, err := of.recovery.Status(r.t.Context(), connect.NewRequest(&configv1.RecoveryStatusRequest{}))
	if err != nil {
		r.t.Fatalf("status: %v", err)
	}
	return out.Msg
}

// closed checks that no controller gives anything out while a node is awaited.
func (r *restored) closed(late *agent) {
	r.t.Helper()
	for range 5 {
		for i, of := range r.apis {
			name := r.set.Members[i].Name
			s := r.status(of)
			if s.Position.Epoch != 2 || s.Phase != configv1.RecoveryStatusResponse_PHASE_AWAITING ||
				!slices.ContainsFunc(s.Awaited, func(n *configv1.AwaitedNode) bool { return n.Name == late.name }) {
				r.t.Errorf("status of %s after the restore: %v; want epoch 2 that awaits %s", name, s, late.name)
			}
			_, err := of.Attach(r.t.Context(), connect.NewRequest(late.request()))
			if connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), late.name) {
				r.t.Errorf("attach at %s before %s has reported: %v", name, late.name, err)
			}
			body, _ := network()
			c := newClient(r.t, r.set.Members[i])
			if status, text, err := c.once(http.MethodPost, "/virtual-networks", body); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, late.name) {
				r.t.Errorf("create a network at %s before %s has reported: %d %s (%v)", name, late.name, status, text, err)
			}
		}
	}
}

// opened waits until all controllers are open.
func (r *restored) opened() {
	r.t.Helper()
	for i, of := range r.apis {
		eventually(r.t, r.set.Members[i].Name+" is open", func() bool {
			s := r.status(of)
			return s.Phase == configv1.RecoveryStatusResponse_PHASE_OPEN && s.Position.Epoch == 2
		})
	}
}

// agree checks that all controllers show the same, which is what runs, and
// that the members of the store hold the same.
func (r *restored) agree() {
	r.t.Helper()
	var first map[string]string
	for i, m := range r.set.Members {
		out, err := r.apis[i].List(r.t.Context(), connect.NewRequest(&configv1.ListRequest{}))
		if err != nil {
			r.t.Fatal(err)
		}
		for _, a := range r.agents {
			a.sameAs(r.t, m, out.Msg.Attachments)
		}
		shown := r.lists(m)
		if first == nil {
			first = shown
			r.t.Logf("%d attachments, %d lists", len(out.Msg.Attachments), len(shown))
			continue
		}
		for kind, text := range first {
			if shown[kind] != text {
				r.t.Errorf("%s and %s show different lists of %s:\n%.2000s\n%.2000s", r.set.Members[0].Name, m.Name, kind, text, shown[kind])
			}
		}
	}
	r.sameKeys()
	for i, endpoint := range r.stores {
		checkStore(r.t, r.set.Members[i].Name, endpoint)
	}
	r.db("check")
}

// lists are the lists of all types, as one controller shows them.
func (r *restored) lists(m *controllers.Controller) map[string]string {
	r.t.Helper()
	c, shown := newClient(r.t, m), map[string]string{}
	for _, kind := range model.Types() {
		status, text, err := c.do(http.MethodGet, "/"+string(kind.Kind)+"s?detail=true", "")
		if err != nil || status != http.StatusOK {
			r.t.Fatalf("list of %s at %s: %d %.500s (%v)", kind.Kind, m.Name, status, text, err)
		}
		shown[string(kind.Kind)] = strings.ReplaceAll(text, c.bases[0], "")
	}
	return shown
}

// sameKeys compares what each member of the store has by itself.
func (r *restored) sameKeys() {
	r.t.Helper()
	revision := int64(0)
	var first map[string]string
	for _, endpoint := range r.stores {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), MaxCallRecvMsgSize: 64 << 20})
		if err != nil {
			r.t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		defer cancel()
		head, err := client.Get(ctx, "/contrail/epoch") // asks a quorum: the member has all from here on
		if err != nil {
			r.t.Fatal(err)
		}
		if len(head.Kvs) != 1 || string(head.Kvs[0].Value) != "2" {
			r.t.Errorf("epoch in %s: %v, want 2", endpoint, head.Kvs)
		}
		if revision == 0 {
			revision = head.Header.Revision
		}
		all, err := client.Get(ctx, "/", clientv3.WithPrefix(), clientv3.WithSerializable(), clientv3.WithRev(revision))
		if err != nil {
			r.t.Fatal(err)
		}
		keys := map[string]string{}
		for _, kv := range all.Kvs {
			text, err := json.Marshal(kv)
			if err != nil {
				r.t.Fatal(err)
			}
			keys[string(kv.Key)] = string(text)
		}
		if first == nil {
			first = keys
			r.t.Logf("%d keys at revision %d", len(keys), revision)
		}
		if !maps.Equal(first, keys) {
			r.t.Errorf("the members of the store hold different keys: %d in %s, %d in %s", len(first), r.stores[0], len(keys), endpoint)
		}
	}
}
