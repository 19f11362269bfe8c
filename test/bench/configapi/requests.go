package configapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/api/contrail/config/v1/configv1connect"
)

const base = "http://localhost"

// call sends a request of the REST interface and returns the answer's body.
func (c *controller) call(ctx context.Context, method, path, body string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(answer.Body)
	err = errors.Join(err, answer.Body.Close())
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, strings.TrimSpace(string(data)))
	}
	return data, err
}

// drain sends a GET and reads the answer without keeping it.
func (c *controller) drain(ctx context.Context, path string) error {
	r, err := http.NewRequestWithContext(ctx, "GET", base+path, nil)
	if err != nil {
		return err
	}
	answer, err := c.client.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return errors.Join(err, answer.Body.Close())
}

// create creates an object and returns its UUID.
func (c *controller) create(ctx context.Context, kind, properties string) (string, error) {
	data, err := c.call(ctx, "POST", "/"+kind+"s", fmt.Sprintf("{%q: %s}", kind, properties))
	if err != nil {
		return "", err
	}
	var answer map[string]struct{ UUID string }
	err = json.Unmarshal(data, &answer)
	return answer[kind].UUID, err
}

// place is where interfaces are made.
type place struct {
	project, network, machine string
}

// makePlace makes a network of 65,534 addresses and a virtual machine for the
// interfaces that are made one by one.
func (c *controller) makePlace(ctx context.Context, name string) (*place, error) {
	p := &place{}
	for _, step := range []struct {
		into             *string
		kind, properties string
	}{
		{&p.project, "project", `{"fq_name": ["default-domain", "` + name + `"]}`},
		{nil, "network-ipam", `{"fq_name": ["default-domain", "` + name + `", "ipam"], "parent_type": "project"}`},
		{&p.network, "virtual-network", `{"fq_name": ["default-domain", "` + name + `", "net"], "parent_type": "project",
			"network_ipam_refs": [{"to": ["default-domain", "` + name + `", "ipam"],
			"attr": {"ipam_subnets": [{"subnet": {"ip_prefix": "10.128.0.0", "ip_prefix_len": 16}, "addr_from_start": true}]}}]}`},
		{&p.machine, "virtual-machine", `{"fq_name": ["` + name + `-machine"]}`},
	} {
		id, err := c.create(ctx, step.kind, step.properties)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", step.kind, err)
		}
		if step.into != nil {
			*step.into = id
		}
	}
	return p, nil
}

// createInterface makes an interface and its address the classic way.
func (c *controller) createInterface(name string, p *place) operation {
	return func(ctx context.Context, n int64) error {
		port := fmt.Sprintf("port-%d", n)
		vmi, err := c.create(ctx, "virtual-machine-interface", fmt.Sprintf(`{"fq_name": ["default-domain", %q, %q], "parent_type": "project",
			"virtual_network_refs": [{"uuid": %q}], "virtual_machine_refs": [{"uuid": %q}]}`, name, port, p.network, p.machine))
		if err != nil {
			return err
		}
		_, err = c.create(ctx, "instance-ip", fmt.Sprintf(`{"fq_name": [%q],
			"virtual_network_refs": [{"uuid": %q}], "virtual_machine_interface_refs": [{"uuid": %q}]}`, name+port, p.network, vmi))
		return err
	}
}

// join makes a node that attaches.
func (c *controller) join(ctx context.Context) (string, error) {
	node := uuid.NewString()
	_, err := configv1connect.NewNodesClient(c.client, base).Join(ctx, connect.NewRequest(&configv1.JoinRequest{
		Node: node, Name: "node-" + node[:8], Address: "172.31.0.11", FabricMtu: 1500, BootId: "boot",
	}))
	return node, err
}

// containerKey is the interface of the nth container of a node.
func containerKey(node string, n int64) *configv1.AttachmentKey {
	id := uuid.NewSHA1(uuid.MustParse(node), strconv.AppendInt(nil, n, 10))
	return &configv1.AttachmentKey{Node: node, ContainerId: id.String(), Interface: "eth0", BootId: "boot", Namespace: "4:1"}
}

// attach attaches a container to a network.
func (c *controller) attach(node, project, network string) operation {
	client := configv1connect.NewAttachmentsClient(c.client, base)
	return func(ctx context.Context, n int64) error {
		_, err := client.Attach(ctx, connect.NewRequest(&configv1.AttachRequest{
			Key: containerKey(node, n), Network: &configv1.NetworkRequest{Project: project, Network: network},
		}))
		return err
	}
}

// detach detaches a container that attach attached.
func (c *controller) detach(node string) operation {
	client := configv1connect.NewAttachmentsClient(c.client, base)
	return func(ctx context.Context, n int64) error {
		answer, err := client.Detach(ctx, connect.NewRequest(&configv1.DetachRequest{Key: containerKey(node, n)}))
		if err == nil && !answer.Msg.GetExisted() {
			err = fmt.Errorf("container %d was not attached", n)
		}
		return err
	}
}

// get reads one object.
func (c *controller) get(path string) operation {
	return func(ctx context.Context, _ int64) error {
		_, err := c.call(ctx, "GET", path, "")
		return err
	}
}
