package manager

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"

	managerv1 "github.com/contrail-mesos/contrail/api/contrail/manager/v1"
	typesv1 "github.com/contrail-mesos/contrail/api/contrail/types/v1"
)

// TestDefects holds one test for each known defect of the manager that this
// one succeeds; each fails on the defect's behaviour. What a defect says about
// other parts is tested there:
//
//	 8  security groups and floating IPs are not applied yet: their labels are
//	    refused, so that nobody relies on them; several networks in one label too
//	 9  likewise; that a transaction rolls back whole is the configuration API's test
//	10  the network's collection with its last attachment is the configuration
//	    API's test; here: the manager asks for it to be made in the same transaction
//	12  label and node are part of the one transaction; here: the node is the certificate's
func TestDefects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *bed, *node){
		"01 answer before anything exists":     defectFireAndForget,
		"02 one failure ends the worker":       defectWorkerDies,
		"03 queue and cache lost on restart":   defectLostOnRestart,
		"04 no reconciliation":                 defectNoReconciliation,
		"05 new login and resync per event":    defectStaleCache,
		"06 confused ports":                    defectPorts,
		"07 network-subnets mandatory":         defectSubnetsMandatory,
		"08 labels ignored":                    defectLabelsIgnored,
		"09 no rollback":                       defectNoRollback,
		"10 creators race":                     defectCreatorsRace,
		"11 blocked by the agent":              defectBlocked,
		"12 node linked by name, and last":     defectNodeByName,
		"13 no authentication, limits, counts": defectOpen,
		"14 DEL not ordered with ADD":          defectOrder,
		"15 only UUIDs":                        defectOnlyUUID,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, short())
			test(t, b, b.node("contrail-node-1"))
		})
	}
}

func mustAttach(t *testing.T, n *node, req *managerv1.AttachRequest) {
	t.Helper()
	if _, err := n.attach(req); err != nil {
		t.Fatal(err)
	}
}

func (b *bed) wantAttached(want int) {
	b.t.Helper()
	b.config.mu.Lock()
	defer b.config.mu.Unlock()
	if got := len(b.config.attached); got != want {
		b.t.Errorf("%d attachments, want %d", got, want)
	}
}

func defectFireAndForget(t *testing.T, b *bed, n *node) {
	b.config.attachError = func(int) error { return connect.NewError(connect.CodeResourceExhausted, errors.New("pool is full")) }
	if code, text := n.post(t, "/add_cni_info", objectForm("ADD", containerID, "")); code != http.StatusConflict || !strings.Contains(text, "pool is full") {
		t.Errorf("a failure was answered with %d %s", code, text)
	}
	b.config.attachError = nil
	if code, _ := n.post(t, "/add_cni_info", objectForm("ADD", containerID, "")); code != http.StatusOK {
		t.Errorf("answered %d", code)
	}
	b.wantAttached(1)
}

func defectWorkerDies(t *testing.T, b *bed, n *node) {
	for _, bad := range []string{`{`, `null`, `{"cid":"c","args":{"org.apache.mesos":{"network_info":{"labels":7}}}}`} {
		if code, _ := n.post(t, "/add_cni_info", bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, code)
		}
	}
	b.config.attachError = func(try int) error {
		if try == 1 {
			return connect.NewError(connect.CodeInternal, errors.New("exception"))
		}
		return nil
	}
	if _, err := n.attach(blue(containerID)); err == nil {
		t.Error("the failure was not reported")
	}
	mustAttach(t, n, blue(containerID))
	b.wantAttached(1)
}

func defectLostOnRestart(t *testing.T, b *bed, n *node) {
	mustAttach(t, n, blue(containerID))
	b.start(short())
	after := b.stranger("node", n.id)
	mustAttach(t, after, blue(containerID))
	b.wantAttached(1)
	if d, err := after.detach(containerID); err != nil || !d.Existed {
		t.Errorf("detach by another manager: %v, %v", d, err)
	}
	b.wantAttached(0)
}

func defectNoReconciliation(t *testing.T, b *bed, n *node) {
	mustAttach(t, n, blue(containerID))
	since := &typesv1.Position{Epoch: 1, Revision: b.config.revision}
	res, err := n.report(&managerv1.ReportRequest{BootId: "boot-1", Since: since})
	if err != nil || len(res.Released) != 1 {
		t.Errorf("report: %v, %v", res, err)
	}
	b.wantAttached(0)
}

func defectStaleCache(t *testing.T, b *bed, n *node) {
	mustAttach(t, n, blue(containerID))
	if b.config.tries != 1 {
		t.Errorf("%d requests for one ADD", b.config.tries)
	}
	// What another manager does is seen at once: there is no cache to go stale.
	b.start(short())
	if _, err := b.stranger("node", n.id).detach(containerID); err != nil {
		t.Fatal(err)
	}
	if code, _ := n.get(t, "/get_cni_info/"+containerID); code != http.StatusNotFound {
		t.Errorf("detached elsewhere and still shown: %d", code)
	}
}

func defectPorts(t *testing.T, b *bed, n *node) {
	// RPC and the REST contract share every address that the manager listens on.
	mustAttach(t, n, blue(containerID))
	if code, _ := n.post(t, "/add_cni_info", objectForm("ADD", "c2", "")); code != http.StatusOK {
		t.Errorf("REST: %d", code)
	}
}

func defectSubnetsMandatory(t *testing.T, b *bed, n *node) {
	mustAttach(t, n, blue("c1"))
	req := blue("c2")
	req.NetworkConfiguration = withLabels(t, "networks", "blue", "network-subnets", "10.1.0.0/16,10.2.0.0/16")
	mustAttach(t, n, req)
	if got := b.config.requests[1].Network.Subnets; len(got) != 2 {
		t.Errorf("subnets %v", got)
	}
	if got := b.config.requests[0].Network.Subnets; len(got) != 0 {
		t.Errorf("subnets %v without label", got)
	}
}

func defectLabelsIgnored(t *testing.T, b *bed, n *node) {
	req := blue(containerID)
	req.NetworkConfiguration = withLabels(t, "networks", "blue", "project-name", "p", "domain-name", "d")
	mustAttach(t, n, req)
	if got := b.config.requests[0].Network; got.Project != "p" || got.Domain != "d" {
		t.Errorf("request %v", got)
	}
	for _, key := range []string{"security-groups", "floating-ips"} {
		req.NetworkConfiguration = withLabels(t, key, "x")
		_, err := n.attach(req)
		wantCode(t, err, connect.CodeInvalidArgument, key)
	}
}

func defectNoRollback(t *testing.T, b *bed, n *node) {
	b.config.afterAttach = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := n.attach(blue(containerID)); err == nil {
		t.Error("no error")
	}
	b.wantAttached(0)
}

func defectCreatorsRace(t *testing.T, b *bed, n *node) {
	b.config.attachError = func(try int) error {
		if try%2 == 1 {
			return connect.NewError(connect.CodeAborted, errors.New("another writer created the network"))
		}
		return nil
	}
	var group sync.WaitGroup
	for _, id := range []string{"c1", "c2", "c3", "c4"} {
		group.Go(func() {
			if _, err := n.attach(blue(id)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	b.wantAttached(4)
	for _, r := range b.config.requests {
		if !r.Network.CreateMissing {
			t.Error("the network is not made in the attachment's transaction")
		}
	}
}

func defectBlocked(t *testing.T, b *bed, n *node) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.config.afterAttach = func(context.Context) error {
		first := false
		once.Do(func() { first = true })
		if first {
			close(entered)
			<-leave
		}
		return nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.attach(blue("slow"))
		done <- err
	}()
	<-entered
	mustAttach(t, n, blue("quick"))
	close(leave)
	if err := <-done; err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
		t.Error(err)
	}
}

func defectNodeByName(t *testing.T, b *bed, n *node) {
	req := blue(containerID)
	req.NetworkConfiguration = []byte(`{"contrail":{"cluster-name":"some-other-host"}}`)
	mustAttach(t, n, req)
	if got := b.config.requests[0].Key.Node; got != n.id {
		t.Errorf("node %s, want the certificate's %s", got, n.id)
	}
}

func defectOpen(t *testing.T, b *bed, n *node) {
	res, err := http.Post("http://"+b.address+"/add_cni_info", "application/json", strings.NewReader(objectForm("ADD", containerID, n.name)))
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("an unknown caller was served")
		}
	}
	b.wantAttached(0)
	if code, _ := n.get(t, "/config"); code != http.StatusNotFound {
		t.Errorf("/config: %d", code)
	}
	if code, text := n.get(t, "/metrics"); code != http.StatusOK || !strings.Contains(text, "contrail_manager_") {
		t.Errorf("/metrics: %d", code)
	}
	if code, _ := n.post(t, "/add_cni_info", `{"cid":"`+strings.Repeat("a", maxBody)+`"}`); code != http.StatusRequestEntityTooLarge {
		t.Errorf("huge body: %d", code)
	}
}

func defectOrder(t *testing.T, b *bed, n *node) {
	if d, err := n.detach(containerID); err != nil || d.Existed {
		t.Fatalf("DEL of an unknown container: %v, %v", d, err)
	}
	_, err := n.attach(blue(containerID))
	wantCode(t, err, connect.CodeAlreadyExists, "was detached")
	if code, _ := n.post(t, "/del_cni_info", objectForm("DEL", "c2", "")); code != http.StatusOK {
		t.Fatalf("DEL: %d", code)
	}
	if code, text := n.post(t, "/add_cni_info", objectForm("ADD", "c2", "")); code != http.StatusConflict {
		t.Errorf("ADD after DEL: %d %s", code, text)
	}
	b.wantAttached(0)
}

func defectOnlyUUID(t *testing.T, b *bed, n *node) {
	for _, id := range []string{
		"ee1162ee-d6fe-4b43-8a6e-a5a963dce44d",
		"ee1162ee-d6fe-4b43-8a6e-a5a963dce44d.09d2707d-d4f8-449c-bfda-265268821d7c",
		strings.Repeat("0123456789abcdef", 4),
	} {
		mustAttach(t, n, blue(id))
	}
	b.wantAttached(3)
}
