package configapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// BenchmarkAttach is the rate of attachments by 1, 16 and 64 writers, next to
// that of bare transactions with the same keys and values.
func BenchmarkAttach(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("attach/%d", writers), func(b *testing.B) {
			api := newBench(b, testConfig())
			node := api.join(1)
			api.attach(request(node, containerID(), "blue"))
			b.ResetTimer()
			spread(b, writers, func(int64) error {
				_, err := api.api.attach(api.ctx(), request(node, containerID(), "blue"))
				return err
			})
		})
		b.Run(fmt.Sprintf("etcd-txn/%d", writers), func(b *testing.B) {
			api := newBench(b, testConfig())
			keys := keysOfAttach(api)
			b.ResetTimer()
			spread(b, writers, func(n int64) error {
				x := api.store.Txn()
				for k, v := range keys {
					x.Create(store.Key("bare/"+string(k)+fmt.Sprint(n)), []byte(v))
				}
				_, err := x.Commit(api.ctx())
				return err
			})
		})
	}
}

// keysOfAttach returns what one attachment to an existing network writes.
func keysOfAttach(b *bench) map[store.Key]string {
	node := b.join(1)
	b.attach(request(node, containerID(), "blue"))
	before := b.dump()
	b.attach(request(node, containerID(), "blue"))
	keys := b.dump()
	for k := range before {
		delete(keys, k)
	}
	return keys
}

// spread runs f b.N times from several goroutines.
func spread(b *testing.B, writers int, f func(n int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range writers {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				if err := f(n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "per-second")
}

// BenchmarkCreateInterface is the classic way: POST of an interface with its
// references and of an instance-ip.
func BenchmarkCreateInterface(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			api := newBench(b, testConfig())
			node := api.join(1)
			vn := api.attach(request(node, containerID(), "blue")).NetworkId
			vm := api.create("virtual-machine", `{"fq_name": ["vm"]}`)
			b.ResetTimer()
			spread(b, writers, func(n int64) error {
				name := fmt.Sprint("i", n)
				for path, text := range map[string]string{
					"/virtual-machine-interfaces": fmt.Sprintf(`{"virtual-machine-interface": {"fq_name": ["default-domain", "mesos-default", %q], "parent_type": "project", "virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}}`, name, vn, vm),
					"/instance-ips":               fmt.Sprintf(`{"instance-ip": {"fq_name": [%q], "virtual_network_refs": [{"uuid": %q}]}}`, name, vn),
				} {
					if status, answer, _ := api.call("POST", path, text); status != 200 {
						return fmt.Errorf("%d %s", status, strings.TrimSpace(answer))
					}
				}
				return nil
			})
		})
	}
}

// discard is a client that reads nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkList is the making of lists, without their way to a client.
func BenchmarkList(b *testing.B) {
	api := newBench(b, testConfig())
	network := model.NewUUID()
	projects := map[int]string{500: model.NewUUID(), 10_000: model.NewUUID()}
	for size, project := range projects {
		batch := model.Batch{Position: api.api.graph.Position()}
		for i := range size {
			perms, err := model.NewIDPerms(network, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			vmi := &model.VirtualMachineInterface{Meta: model.Meta{
				UUID: model.NewUUID(), FQName: []string{"default-domain", "p" + fmt.Sprint(size), fmt.Sprint("port-", i)}, ParentType: "project", ParentUUID: project,
				IDPerms: perms, Perms2: model.NewPerms2(""), DisplayName: fmt.Sprint("port-", i),
			}}
			data, err := model.Encode(vmi)
			if err != nil {
				b.Fatal(err)
			}
			s, err := model.ParseStored(model.EntityOf(vmi), data)
			if err != nil {
				b.Fatal(err)
			}
			batch.Stored = append(batch.Stored, s)
			for _, kind := range []model.Kind{model.KindVirtualNetwork, model.KindVirtualMachine} {
				batch.References = append(batch.References, model.Reference{From: s.Entity, To: model.Entity{Kind: kind, UUID: network}})
			}
		}
		vn, err := model.StoredOf(&model.VirtualNetwork{Meta: model.Meta{UUID: network, FQName: []string{"default-domain", "p", "net"}}})
		if err != nil {
			b.Fatal(err)
		}
		batch.Stored = append(batch.Stored, vn)
		api.api.graph.Apply(batch)
	}
	for name, path := range map[string]string{
		"plain/500":    "/virtual-machine-interfaces?parent_id=" + projects[500],
		"plain/10000":  "/virtual-machine-interfaces?parent_id=" + projects[10_000],
		"detail/10000": "/virtual-machine-interfaces?detail=true&parent_id=" + projects[10_000],
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "http://api:8082"+path, nil).WithContext(api.ctx())
				api.handler.ServeHTTP(&discard{http.Header{}}, r)
			}
		})
	}
}
