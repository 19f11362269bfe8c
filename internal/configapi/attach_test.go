package configapi

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	configv1 "github.com/contrail-mesos/contrail/api/contrail/config/v1"
	"github.com/contrail-mesos/contrail/internal/model"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

func TestAttachDetach(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	id := containerID()
	a := b.attach(request(node, id, "blue"))
	want := &configv1.Attachment{
		Key:              &configv1.AttachmentKey{Node: node, ContainerId: id, Interface: "eth0", BootId: "boot", Namespace: "4:1"},
		VirtualMachineId: id, InterfaceId: a.InterfaceId, NetworkId: a.NetworkId, ProjectId: a.ProjectId,
		NetworkFqName: []string{"default-domain", "mesos-default", "blue"},
		Vrf:           a.Vrf, Label: 16, Mac: a.Mac, Mtu: 1450, DisplayName: id + "-eth0", Revision: a.Revision,
		Addresses: []*configv1.Address{{
			Address: "10.32.0.3", PrefixLength: 20, Gateway: "10.32.0.1", DnsServer: "10.32.0.2", InstanceIpId: a.Addresses[0].InstanceIpId,
		}},
	}
	if diff := cmp.Diff(want, a, protocmp.Transform()); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	if a.Vrf == 0 || a.Revision == 0 || !strings.HasPrefix(a.Mac, "02:") {
		t.Errorf("vrf %d, revision %d, mac %s", a.Vrf, a.Revision, a.Mac)
	}
	if again := b.attach(request(node, id, "blue")); !proto.Equal(again, a) {
		t.Errorf("second attach answers %v, want %v", again, a)
	}
	list, err := b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true})
	if err != nil || len(list.Attachments) != 1 || !proto.Equal(list.Attachments[0], a) {
		t.Errorf("list has %v (%v), want %v", list.GetAttachments(), err, a)
	}

	// A second container gets the next ones.
	other := b.attach(request(node, containerID(), "blue"))
	if other.Addresses[0].Address != "10.32.0.4" || other.Label != 17 || other.Vrf != a.Vrf || other.NetworkId != a.NetworkId {
		t.Errorf("second container got %v", other)
	}
	b.detach(other.Key)

	if !b.detach(a.Key) {
		t.Error("detach found nothing")
	}
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	if b.detach(a.Key) {
		t.Error("second detach found something")
	}
	_, err = b.api.attach(b.ctx(), request(node, id, "blue"))
	if code(err) != connect.CodeAlreadyExists || !strings.Contains(err.Error(), "was detached") {
		t.Errorf("late attach: %v", err)
	}
	if list, err = b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true}); err != nil {
		t.Fatal(err)
	}
	if len(list.Attachments) != 0 || len(list.Tombstones) != 2 || len(list.Resting) != 2 ||
		list.Resting[0].SecondsLeft < 3500 || list.Tombstones[0].SecondsLeft < 3500 {
		t.Errorf("inventory after detach: %v", list)
	}
	b.endRests()
	if list, err = b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true}); err != nil || len(list.Tombstones)+len(list.Resting) != 0 {
		t.Errorf("inventory after the rests: %v (%v)", list, err)
	}
	b.attach(request(node, id, "blue"))
}

func TestNewNamespaceKeepsAddress(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	first := b.attach(request(node, "parent.child", ""))
	if first.NetworkFqName[2] != defaultNetwork {
		t.Errorf("network %v", first.NetworkFqName)
	}
	r := request(node, "parent.child", "")
	r.Key.Namespace = "4:2"
	second := b.attach(r)
	if second.Addresses[0].Address != first.Addresses[0].Address || second.Label != first.Label ||
		second.Key.Namespace != "4:2" || second.Revision <= first.Revision {
		t.Errorf("after the change %v, before %v", second, first)
	}
	// The detach of the old namespace is late: it takes nothing.
	if b.detach(first.Key) {
		t.Error("detach of the old namespace took the new one")
	}
	// Without a namespace any is meant.
	any := proto.CloneOf(second.Key)
	any.Namespace, any.BootId = "", ""
	if !b.detach(any) {
		t.Error("detach without namespace found nothing")
	}
	if _, err := b.api.attach(b.ctx(), r); code(err) != connect.CodeAlreadyExists {
		t.Errorf("late attach: %v", err)
	}
	// Where there was nothing, it forbids every namespace.
	b.detach(&configv1.AttachmentKey{Node: node, ContainerId: "never", Interface: "eth0"})
	if _, err := b.api.attach(b.ctx(), request(node, "never", "")); code(err) != connect.CodeAlreadyExists {
		t.Errorf("attach after a detach without namespace: %v", err)
	}
}

// A node may use the same key again: what tells a request that is late from a
// new one is when it began.
func TestSequence(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	r := request(node, "c", "blue")
	attach := func(sequence uint64, namespace string, want connect.Code) {
		t.Helper()
		r.Sequence, r.Key.Namespace = sequence, namespace
		if _, err := b.api.attach(b.ctx(), r); code(err) != want {
			t.Errorf("attach %d in %s: %v, want %v", sequence, namespace, err, want)
		}
	}
	detach := func(sequence uint64, boot, namespace string, want bool) {
		t.Helper()
		k := proto.CloneOf(r.Key)
		k.BootId, k.Namespace = boot, namespace
		d, err := b.api.detach(b.ctx(), &configv1.DetachRequest{Key: k, Sequence: sequence})
		if err != nil || d.Existed != want {
			t.Errorf("detach %d of %q: %v, %v, want %t", sequence, namespace, d, err, want)
		}
	}
	attach(10, "4:1", 0)
	attach(10, "4:1", 0) // the same request again
	detach(9, "boot", "4:1", false)
	detach(9, "boot", "", false)
	attach(20, "4:1", 0) // asked for again
	detach(15, "boot", "4:1", false)
	attach(25, "4:2", 0)
	attach(21, "4:1", connect.CodeAlreadyExists) // the namespace was replaced since
	attach(26, "4:1", 0)
	detach(30, "boot", "4:1", true)
	attach(30, "4:1", connect.CodeAlreadyExists)
	attach(0, "4:1", connect.CodeAlreadyExists)
	detach(20, "boot", "4:1", false) // forbids no less
	attach(29, "4:1", connect.CodeAlreadyExists)
	attach(31, "4:1", 0)
	detach(30, "boot", "4:1", false) // replayed
	detach(40, "boot", "", true)
	attach(39, "4:1", connect.CodeAlreadyExists)
	list, err := b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true})
	if err != nil || len(list.Tombstones) != 2 || list.Tombstones[1].Sequence != 40 {
		t.Errorf("tombstones %v (%v)", list.GetTombstones(), err)
	}
	// Nothing is known of the order beside another boot, or without a sequence.
	attach(41, "4:1", 0)
	detach(1, "", "4:1", true)
	attach(42, "4:1", connect.CodeAlreadyExists)
	attach(43, "4:3", 0)
	detach(0, "boot", "4:3", true)
	detach(50, "boot", "4:3", false)
	attach(60, "4:3", connect.CodeAlreadyExists)
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func TestTwoInterfacesShareTheMachine(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	id := containerID()
	first := b.attach(request(node, id, "blue"))
	r := request(node, id, "red")
	r.Key.Interface = "eth1"
	second := b.attach(r)
	if first.VirtualMachineId != second.VirtualMachineId || first.Vrf == second.Vrf || first.Label == second.Label {
		t.Errorf("%v and %v", first, second)
	}
	b.detach(first.Key)
	b.api.graph.View(func(v *model.View) {
		if _, ok := v.Find(id); !ok {
			t.Error("the machine went with its first interface")
		}
	})
	b.detach(second.Key)
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// An interface has an address of each family that its network has a subnet of.
func TestAttachGivesEachFamily(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	addresses := func(a *configv1.Attachment) string {
		var list []string
		for _, x := range a.Addresses {
			list = append(list, fmt.Sprintf("%s/%d by %s", x.Address, x.PrefixLength, x.Gateway))
		}
		return strings.Join(list, ", ")
	}
	var all []*configv1.Attachment
	for _, tt := range []struct {
		network, wish string
		subnets       []string
		want          string
	}{
		{"both", "", []string{"fd00::/64", "10.1.0.0/24"}, "10.1.0.3/24 by 10.1.0.1, fd00::3/64 by fd00::1"},
		{"both", "fd00::77", nil, "10.1.0.4/24 by 10.1.0.1, fd00::77/64 by fd00::1"},
		{"both", "10.1.0.77", nil, "10.1.0.77/24 by 10.1.0.1, fd00::4/64 by fd00::1"},
		{"six", "", []string{"fd00::/64"}, "fd00::3/64 by fd00::1"},
		{"six", "fd00::5", nil, "fd00::5/64 by fd00::1"},
		{"many", "", []string{"fd01::/64", "fd02::/64"}, "fd01::3/64 by fd01::1"},
	} {
		r := request(node, containerID(), tt.network)
		r.Network.Subnets, r.Network.Address = tt.subnets, tt.wish
		a := b.attach(r)
		if got := addresses(a); got != tt.want {
			t.Errorf("%s, asked for %q: %s, want %s", tt.network, tt.wish, got, tt.want)
		}
		if again := b.attach(r); !proto.Equal(again, a) {
			t.Errorf("second attach answers %v, want %v", again, a)
		}
		all = append(all, a)
	}
	for _, a := range all {
		b.detach(a.Key)
	}
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

func TestAttachRefuses(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	b.attach(request(node, "there", "blue"))
	r := request(node, "small", "tiny")
	r.Network.Subnets = []string{"10.9.0.0/29"}
	for _, id := range []string{"s1", "s2", "s3", "s4"} {
		r.Key.ContainerId = id
		b.attach(r)
	}
	before := b.dump()
	long := strings.Repeat("x", 10_000)
	tests := []struct {
		name string
		edit func(*configv1.AttachRequest)
		code connect.Code
		text []string
	}{
		{"no subnet", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"10.1.0.0"} }, connect.CodeInvalidArgument, []string{labelSubnets, `"10.1.0.0"`, "write it as"}},
		{"nonsense subnet", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"fish"} }, connect.CodeInvalidArgument, []string{labelSubnets, `"fish"`}},
		{"host bits", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"10.1.0.5/24"} }, connect.CodeInvalidArgument, []string{labelSubnets, "10.1.0.5/24", "10.1.0.0/24"}},
		{"overlap", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"10.1.0.0/16", "10.1.2.0/24"} }, connect.CodeInvalidArgument, []string{labelSubnets, "10.1.2.0/24", "overlaps", "10.1.0.0/16"}},
		{"same twice", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"10.1.0.0/24", "10.1.0.0/24"} }, connect.CodeInvalidArgument, []string{labelSubnets, "overlaps"}},
		{"too small", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"10.1.0.0/30"} }, connect.CodeInvalidArgument, []string{labelSubnets, "10.1.0.0/30", "too small"}},
		{"loopback", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"127.1.0.0/24"} }, connect.CodeInvalidArgument, []string{labelSubnets, "127.1.0.0/24"}},
		{"IPv6 of a link", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"fe80::/64"} }, connect.CodeInvalidArgument, []string{labelSubnets, "fe80::/64"}},
		{"IPv4 as IPv6", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"::ffff:10.1.0.0/120"} }, connect.CodeInvalidArgument, []string{labelSubnets, "::ffff"}},
		{"IPv6 too small", func(r *configv1.AttachRequest) { r.Network.Subnets = []string{"fd00::/126"} }, connect.CodeInvalidArgument, []string{labelSubnets, "fd00::/126", "/125"}},
		{"address of a family that is not there", func(r *configv1.AttachRequest) {
			r.Network.Network = "blue"
			r.Network.Address = "fd00::3"
		}, connect.CodeInvalidArgument, []string{"fd00::3"}},
		{"many subnets", func(r *configv1.AttachRequest) { r.Network.Subnets = make([]string, 1000) }, connect.CodeInvalidArgument, []string{labelSubnets, "1000"}},
		{"mismatch", func(r *configv1.AttachRequest) {
			r.Network.Network = "blue"
			r.Network.Subnets = []string{"10.1.0.0/24"}
		}, connect.CodeInvalidArgument, []string{labelSubnets, "blue", "10.1.0.0/24", "10.32.0.0/20"}},
		{"exhausted", func(r *configv1.AttachRequest) { r.Network.Network = "tiny" }, connect.CodeResourceExhausted, []string{"default-domain:mesos-default:tiny", "10.9.0.0/29", "4 of 4", "0 at rest"}},
		{"project colon", func(r *configv1.AttachRequest) { r.Network.Project = "a:b" }, connect.CodeInvalidArgument, []string{labelProject, `"a:b"`}},
		{"project slash", func(r *configv1.AttachRequest) { r.Network.Project = "../etc" }, connect.CodeInvalidArgument, []string{labelProject, `"../etc"`}},
		{"project control", func(r *configv1.AttachRequest) { r.Network.Project = "a\x01" }, connect.CodeInvalidArgument, []string{labelProject, `\x01`}},
		{"project long", func(r *configv1.AttachRequest) { r.Network.Project = long }, connect.CodeInvalidArgument, []string{labelProject, "10000 bytes", "255"}},
		{"network long", func(r *configv1.AttachRequest) { r.Network.Network = long }, connect.CodeInvalidArgument, []string{labelNetwork, "10000 bytes"}},
		{"network markup", func(r *configv1.AttachRequest) { r.Network.Network = "<b>" }, connect.CodeInvalidArgument, []string{labelNetwork, "<b>"}},
		{"network blank", func(r *configv1.AttachRequest) { r.Network.Network = " blue" }, connect.CodeInvalidArgument, []string{labelNetwork}},
		{"domain colon", func(r *configv1.AttachRequest) { r.Network.Domain = "a:b" }, connect.CodeInvalidArgument, []string{labelDomain, `"a:b"`}},
		{"domain unknown", func(r *configv1.AttachRequest) { r.Network.Domain = "mars" }, connect.CodeInvalidArgument, []string{labelDomain, `"mars"`, "create it"}},
		{"not to be created", func(r *configv1.AttachRequest) { r.Network.CreateMissing = false }, connect.CodeInvalidArgument, []string{labelNetwork, "new", "does not exist"}},
		{"address nonsense", func(r *configv1.AttachRequest) { r.Network.Address = "x" }, connect.CodeInvalidArgument, []string{"address", `"x"`}},
		{"address outside", func(r *configv1.AttachRequest) { r.Network.Address = "1.2.3.4" }, connect.CodeInvalidArgument, []string{"1.2.3.4"}},
		{"address of gateway", func(r *configv1.AttachRequest) {
			r.Network.Network = "blue"
			r.Network.Address = "10.32.0.1"
		}, connect.CodeInvalidArgument, []string{"Gateway IP"}},
		{"address in use", func(r *configv1.AttachRequest) {
			r.Network.Network = "blue"
			r.Network.Address = "10.32.0.3"
		}, connect.CodeAlreadyExists, []string{"IP address already in use", "10.32.0.3"}},
		{"other network", func(r *configv1.AttachRequest) { r.Key.ContainerId = "there" }, connect.CodeAlreadyExists, []string{"blue", "detach it first"}},
		{"no container", func(r *configv1.AttachRequest) { r.Key.ContainerId = "" }, connect.CodeInvalidArgument, []string{"container_id"}},
		{"long container", func(r *configv1.AttachRequest) { r.Key.ContainerId = long }, connect.CodeInvalidArgument, []string{"container_id", "255"}},
		{"no interface", func(r *configv1.AttachRequest) { r.Key.Interface = "" }, connect.CodeInvalidArgument, []string{"interface"}},
		{"long interface", func(r *configv1.AttachRequest) { r.Key.Interface = "interface-number-0" }, connect.CodeInvalidArgument, []string{"interface"}},
		{"no boot", func(r *configv1.AttachRequest) { r.Key.BootId = "" }, connect.CodeInvalidArgument, []string{"boot_id"}},
		{"no namespace", func(r *configv1.AttachRequest) { r.Key.Namespace = "" }, connect.CodeInvalidArgument, []string{"namespace"}},
		{"no node", func(r *configv1.AttachRequest) { r.Key.Node = "node-1" }, connect.CodeInvalidArgument, []string{"node"}},
		{"unknown node", func(r *configv1.AttachRequest) { r.Key.Node = model.NewUUID() }, connect.CodeFailedPrecondition, []string{"has not joined"}},
		{"long display name", func(r *configv1.AttachRequest) { r.DisplayName = long }, connect.CodeInvalidArgument, []string{"display_name"}},
		{"many annotations", func(r *configv1.AttachRequest) { r.Annotations = map[string]string{"a": strings.Repeat(long, 10)} }, connect.CodeInvalidArgument, []string{"annotations"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := request(node, containerID(), "new")
			tt.edit(r)
			_, err := b.api.attach(b.ctx(), r)
			if code(err) != tt.code {
				t.Fatalf("error %v (%v), want %v", err, code(err), tt.code)
			}
			for _, text := range tt.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not say %q", err, text)
				}
			}
			if len(err.Error()) > 500 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("refused requests changed (-before +after):\n%s", diff)
	}
}

func TestNodesSpeakForThemselves(t *testing.T) {
	b := newBench(t, testConfig())
	one, two := b.join(1), b.join(2)
	if _, err := b.api.attach(as(ctls.RoleNode, one), request(two, "c", "blue")); code(err) != connect.CodePermissionDenied {
		t.Errorf("node one for node two: %v", err)
	}
	if _, err := b.api.attach(as(ctls.RoleMarathon, ""), request(one, "c", "blue")); code(err) != connect.CodePermissionDenied {
		t.Errorf("marathon: %v", err)
	}
	r := request("", "c", "blue")
	a, err := b.api.attach(as(ctls.RoleNode, one), r)
	if err != nil || a.Attachment.Key.Node != one {
		t.Fatalf("node one for itself: %v %v", a, err)
	}
	if _, err := b.api.attach(as(ctls.RoleManager, ""), request(two, "d", "blue")); err != nil {
		t.Errorf("manager: %v", err)
	}
	if _, err := b.api.detach(as(ctls.RoleNode, two), &configv1.DetachRequest{Key: a.Attachment.Key}); code(err) != connect.CodePermissionDenied {
		t.Errorf("node two detaches for node one: %v", err)
	}
	// The same container cannot be on two nodes.
	if _, err := b.api.attach(as(ctls.RoleNode, two), request("", "c", "blue")); code(err) != connect.CodeAlreadyExists {
		t.Errorf("same container on two nodes: %v", err)
	}
	list, err := b.api.list(as(ctls.RoleNode, two), &configv1.ListRequest{})
	if err != nil || len(list.Attachments) != 1 || list.Attachments[0].Key.Node != two {
		t.Errorf("node two sees %v (%v)", list, err)
	}
	if _, err := b.api.list(as(ctls.RoleNode, two), &configv1.ListRequest{Node: one}); code(err) != connect.CodePermissionDenied {
		t.Errorf("node two lists node one: %v", err)
	}
	if _, err := (&nodes{b.api}).Remove(as(ctls.RoleNode, two), connect.NewRequest(&configv1.RemoveNodeRequest{Node: one})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("node two removes node one: %v", err)
	}
}

func TestRestAndReuse(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	r := request(node, "a", "tiny")
	r.Network.Subnets = []string{"10.9.0.0/29"} // .3 .4 .5 .6
	attach := func(id string) *configv1.Attachment {
		r.Key.ContainerId = id
		return b.attach(r)
	}
	a := attach("a")
	b.detach(a.Key) // the network goes, the address rests by its name
	if got := attach("b").Addresses[0].Address; got != "10.9.0.4" {
		t.Errorf("b got %s, want 10.9.0.4", got)
	}
	c := attach("c")
	b.detach(c.Key)
	attach("c2")
	d := attach("d") // all the rest are resting: the oldest
	if d.Addresses[0].Address != "10.9.0.3" {
		t.Errorf("d got %s, want 10.9.0.3, which has rested longest", d.Addresses[0].Address)
	}
	if n := counter(t, b, "contrail_config_early_reuse_total"); n != 1 {
		t.Errorf("%v early reuses counted, want 1", n)
	}
	// Who asks for a resting address by name gets it.
	r.Network.Address = "10.9.0.5"
	if got := attach("e").Addresses[0].Address; got != "10.9.0.5" {
		t.Errorf("e got %s", got)
	}
	r.Network.Address = ""
	r.Key.ContainerId = "f"
	if _, err := b.api.attach(b.ctx(), r); code(err) != connect.CodeResourceExhausted {
		t.Errorf("full network: %v", err)
	}
	if d.Label == a.Label || d.Label == c.Label {
		t.Errorf("label %d was reused while at rest", d.Label)
	}
}

func counter(t *testing.T, b *bench, name string) float64 {
	families, err := b.api.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

func TestNetworkGetsItsPrefixBack(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	blue := b.attach(request(node, "a", "blue"))
	red := b.attach(request(node, "b", "red"))
	if red.Addresses[0].Address != "10.32.16.3" {
		t.Errorf("red got %s", red.Addresses[0].Address)
	}
	b.detach(blue.Key)
	if green := b.attach(request(node, "c", "green")); green.Addresses[0].Address != "10.32.32.3" || green.Vrf == blue.Vrf {
		t.Errorf("green got %v, %v must rest", green, blue)
	}
	again := b.attach(request(node, "d", "blue"))
	if again.Addresses[0].Address != "10.32.0.4" { // .3 rests
		t.Errorf("blue got %s in its second life", again.Addresses[0].Address)
	}
}

func TestPoolOfPrefixesRunsOut(t *testing.T) {
	cfg := testConfig()
	cfg.Pool = netip.MustParsePrefix("10.32.0.0/19")
	b := newBench(t, cfg)
	node := b.join(1)
	b.attach(request(node, "a", "n1"))
	b.attach(request(node, "b", "n2"))
	_, err := b.api.attach(b.ctx(), request(node, "c", "n3"))
	if code(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "10.32.0.0/19") {
		t.Errorf("third network: %v", err)
	}
}

func TestConcurrentAttach(t *testing.T) {
	b := newBench(t, testConfig())
	var ids []string
	for n := range 4 {
		ids = append(ids, b.join(n+1))
	}
	before := b.dump()
	const writers, each = 64, 4
	var mu sync.Mutex
	seen := map[string]string{}
	var keys []*configv1.AttachmentKey
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				network := []string{"blue", "red"}[i%2]
				a, err := b.api.attach(b.ctx(), request(ids[w%len(ids)], containerID(), network))
				if err != nil {
					t.Errorf("attach: %v", err)
					return
				}
				at := a.Attachment
				mu.Lock()
				for _, unique := range []string{network + at.Addresses[0].Address, at.Key.Node + "/" + string(rune(at.Label)), at.Mac} {
					if other, ok := seen[unique]; ok {
						t.Errorf("%s was given to %s and %s", unique, other, at.Key.ContainerId)
					}
					seen[unique] = at.Key.ContainerId
				}
				keys = append(keys, at.Key)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		wg.Go(func() {
			if _, err := b.api.detach(b.ctx(), &configv1.DetachRequest{Key: k}); err != nil {
				t.Errorf("detach: %v", err)
			}
		})
	}
	wg.Wait()
	if after := b.dump(); !maps.Equal(before, after) {
		t.Errorf("left behind (-before +after):\n%s", cmp.Diff(before, after))
	}
}

func TestHundredCyclesLeaveNothing(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	before := b.dump()
	for range 100 {
		b.detach(b.attach(request(node, containerID(), "blue")).Key)
	}
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	list, err := b.api.list(b.ctx(), &configv1.ListRequest{Inactive: true})
	if err != nil || len(list.Resting) != 100 || len(list.Tombstones) != 100 {
		t.Errorf("%d addresses rest, %d tombstones (%v), want 100 each", len(list.Resting), len(list.Tombstones), err)
	}
}

func TestRemoveNode(t *testing.T) {
	b := newBench(t, testConfig())
	one := b.join(1)
	before := b.dump()
	two := b.join(2)
	b.attach(request(two, "a", "blue"))
	b.attach(request(two, "b", "red"))
	kept := b.attach(request(one, "c", "blue"))
	r, err := (&nodes{b.api}).Remove(b.ctx(), connect.NewRequest(&configv1.RemoveNodeRequest{Node: "node-2"}))
	if err != nil || r.Msg.Detached != 2 {
		t.Fatalf("remove: %v %v", r, err)
	}
	if _, err := b.api.attach(b.ctx(), request(two, "d", "blue")); code(err) != connect.CodeFailedPrecondition {
		t.Errorf("attach on a removed node: %v", err)
	}
	b.detach(kept.Key)
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	if _, err := (&nodes{b.api}).Remove(b.ctx(), connect.NewRequest(&configv1.RemoveNodeRequest{Node: "node-2"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("second remove: %v", err)
	}
	b.join(2)
}

func TestJoin(t *testing.T) {
	b := newBench(t, testConfig())
	b.join(1)
	good := func() *configv1.JoinRequest {
		return &configv1.JoinRequest{Node: "00000000-0000-4000-8000-000000000002", Name: "node-2", Address: "172.31.0.12", FabricMtu: 9000, BootId: "boot"}
	}
	tests := []struct {
		name string
		edit func(*configv1.JoinRequest)
		code connect.Code
		mtu  uint32
	}{
		{"good", func(*configv1.JoinRequest) {}, 0, 1450},
		{"again", func(*configv1.JoinRequest) {}, 0, 1450},
		{"smaller mtu", func(r *configv1.JoinRequest) { r.FabricMtu = 1400 }, 0, 1350},
		{"new boot", func(r *configv1.JoinRequest) { r.BootId = "next" }, 0, 1450},
		{"new address", func(r *configv1.JoinRequest) { r.Address = "172.31.0.99" }, 0, 1450},
		{"new name", func(r *configv1.JoinRequest) { r.Name = "node-3" }, connect.CodeAlreadyExists, 0},
		{"name of another", func(r *configv1.JoinRequest) { r.Name = "node-1" }, connect.CodeAlreadyExists, 0},
		{"address of another", func(r *configv1.JoinRequest) { r.Address = "172.31.0.11" }, connect.CodeAlreadyExists, 0},
		{"loopback", func(r *configv1.JoinRequest) { r.Address = "127.0.0.1" }, connect.CodeInvalidArgument, 0},
		{"no address", func(r *configv1.JoinRequest) { r.Address = "" }, connect.CodeInvalidArgument, 0},
		{"no name", func(r *configv1.JoinRequest) { r.Name = "" }, connect.CodeInvalidArgument, 0},
		{"no mtu", func(r *configv1.JoinRequest) { r.FabricMtu = 0 }, connect.CodeInvalidArgument, 0},
		{"no boot", func(r *configv1.JoinRequest) { r.BootId = "" }, connect.CodeInvalidArgument, 0},
		{"no uuid", func(r *configv1.JoinRequest) { r.Node = "two" }, connect.CodeInvalidArgument, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.edit(r)
			resp, err := (&nodes{b.api}).Join(b.ctx(), connect.NewRequest(r))
			if err != nil && connect.CodeOf(err) != tt.code || err == nil && (tt.code != 0 || resp.Msg.Mtu != tt.mtu) {
				t.Errorf("answer %v, error %v; want code %v, mtu %d", resp, err, tt.code, tt.mtu)
			}
		})
	}
	list, err := (&nodes{b.api}).List(b.ctx(), connect.NewRequest(&configv1.ListNodesRequest{}))
	if err != nil || len(list.Msg.Nodes) != 2 {
		t.Errorf("nodes %v (%v)", list, err)
	}
}

// A node that calls its container as some object is called does not take the
// object's place.
func TestAttachUnderAnObjectsID(t *testing.T) {
	b := newBench(t, testConfig())
	node := b.join(1)
	vn := b.attach(request(node, containerID(), "blue")).NetworkId
	before := b.dump()
	_, err := b.api.attach(b.ctx(), request(node, vn, "blue"))
	if code(err) != connect.CodeAlreadyExists || !strings.Contains(err.Error(), "virtual-network") {
		t.Errorf("attach of a container with a network's id: %v", err)
	}
	if diff := cmp.Diff(before, b.dump()); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}
