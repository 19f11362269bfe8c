package configapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/contrail-mesos/contrail/internal/dbcheck"
	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// findings are those of `contrail db check`.
func (b *bench) findings() []dbcheck.Finding {
	b.Helper()
	entries, _, err := dbcheck.Read(b.ctx(), b.store)
	if err != nil {
		b.Fatal(err)
	}
	return dbcheck.Check(entries)
}

// fits fails when the keys of the store do not fit to each other.
func (b *bench) fits() {
	b.Helper()
	for _, f := range b.findings() {
		b.Errorf("after what the API did: %s %s", f.Key, f.Problem)
	}
}

// content is that of the store, leased keys apart.
func (b *bench) content() map[store.Key]string {
	b.Helper()
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	keys := map[store.Key]string{}
	for _, e := range entries {
		if e.Lease == 0 {
			keys[e.Key] = string(e.Value)
		}
	}
	return keys
}

// damage writes to the store past the API.
func (b *bench) damage(change func(*store.Txn)) {
	b.Helper()
	t := b.store.Txn()
	change(t)
	if _, err := t.Commit(b.ctx()); err != nil {
		b.Fatal(err)
	}
}

// A store with some of everything that attachments and clients make.
func damagedBench(t *testing.T) (*bench, map[string]store.Key) {
	b := newBench(t, testConfig())
	node := b.join(1)
	at := b.attach(request(node, containerID(), "blue"))
	gone := b.attach(request(node, containerID(), "blue"))
	b.detach(gone.Key)
	group := b.create("security-group", `{"fq_name": ["default-domain", "default-project", "web"]}`)
	entity := func(kind model.Kind, id string) model.Entity { return model.Entity{Kind: kind, UUID: id} }
	vmi, vn := entity(model.KindVirtualMachineInterface, at.InterfaceId), entity(model.KindVirtualNetwork, at.NetworkId)
	scope := model.FQString(at.NetworkFqName)
	const floating = "10.32.16.77"
	public := b.attach(request(node, containerID(), "public"))
	pool := b.create("floating-ip-pool", fmt.Sprintf(`{"fq_name": ["default-domain", "mesos-default", "public", "pool"], "parent_type": "virtual-network", "parent_uuid": %q}`, public.NetworkId))
	b.create("floating-ip", fmt.Sprintf(`{"fq_name": ["default-domain", "mesos-default", "public", "pool", "f"], "parent_type": "floating-ip-pool", "parent_uuid": %q,
		"floating_ip_address": %q, "project_refs": [{"uuid": %q}]}`, pool, floating, at.ProjectId))
	// One that is under an instance-ip has no address of its own.
	b.create("floating-ip", `{"fq_name": ["`+b.get("instance-ip", public.Addresses[0].InstanceIpId)["name"].(string)+`", "vip"], "parent_type": "instance-ip"}`)
	keys := map[string]store.Key{
		"project": store.ObjectKey(entity(model.KindProject, at.ProjectId)),
		"vmi":     store.ObjectKey(vmi), "vn": store.ObjectKey(vn), "group": store.ObjectKey(entity(model.KindSecurityGroup, group)),
		"ip":      store.ObjectKey(entity(model.KindInstanceIP, at.Addresses[0].InstanceIpId)),
		"vn name": store.NameKey(model.KindVirtualNetwork, at.NetworkFqName),
		"child":   store.ChildKey(at.ProjectId, vmi),
		"ref":     store.RefKey(model.Edge{From: vmi, To: vn}),
		"address": store.AddressKey(scope, netip.MustParseAddr(at.Addresses[0].Address)),
		"rest":    store.RestKey(store.AddressKey(scope, netip.MustParseAddr(gone.Addresses[0].Address))),
		"number":  store.NumberKey(networkNumbers, at.Vrf), "label": store.LabelKey(node, at.Label),
		"mac":              store.MACKey(at.NetworkId, at.Mac),
		"floating address": store.AddressKey(model.FQString(public.NetworkFqName), netip.MustParseAddr(floating)),
		"binding":          store.BindingKey(at.InterfaceId), "owned": store.OwnedKey(at.NetworkId), "node": store.NodeKey(node),
	}
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range keys {
		if !slices.ContainsFunc(entries, func(e store.Entry) bool { return e.Key == k }) {
			t.Fatalf("the API made no %s: %s", name, k)
		}
	}
	b.fits()
	return b, keys
}

// Each kind of damage is found; what has one right answer is mended, the rest
// is not touched.
func TestDamageIsFoundAndMended(t *testing.T) {
	nobody := model.NewUUID()
	nobodyVMI := model.Entity{Kind: model.KindVirtualMachineInterface, UUID: nobody}
	for name, c := range map[string]struct {
		damage func(t *store.Txn, k map[string]store.Key)
		says   string
		// mended says that a repair leaves nothing.
		mended bool
	}{
		"name lost": {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["vn name"]) }, "has no key for its name", true},
		"name of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.NameKey(model.KindProject, []string{"a", "b"}), []byte(nobody))
		}, "does not exist", true},
		"name of another": {func(t *store.Txn, k map[string]store.Key) { t.Put(k["vn name"], []byte(nobody)) }, "taken by", true},
		"child lost":      {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["child"]) }, "as a child", true},
		"child of nobody": {func(t *store.Txn, _ map[string]store.Key) { t.Put(store.ChildKey(nobody, nobodyVMI), nil) }, "which does not exist", true},
		"reference to nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.RefKey(model.Edge{From: nobodyVMI, To: model.Entity{Kind: model.KindProject, UUID: nobody}}), []byte("{}"))
		}, "one of its ends", true},
		"reference unreadable": {func(t *store.Txn, k map[string]store.Key) { t.Put(k["ref"], []byte("{")) }, "cannot be read", false},
		"object unreadable":    {func(t *store.Txn, k map[string]store.Key) { t.Put(k["group"], []byte("[]")) }, "cannot be read", false},
		"object of no type":    {func(t *store.Txn, _ map[string]store.Key) { t.Put("obj/nothing/"+store.Key(nobody), []byte("{}")) }, "unknown type", false},
		"address lost":         {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["address"]) }, "its address", true},
		"address of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.AddressKey("a:b:c", netip.MustParseAddr("10.0.0.9")), []byte(nobody))
		}, "does not exist", true},
		"address of two": {func(t *store.Txn, k map[string]store.Key) {
			t.Put(k["address"], []byte(strings.Split(string(k["vn"]), "/")[2]))
		}, "is had by", false},
		"number lost": {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["number"]) }, "its number", true},
		"number of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.NumberKey(networkNumbers, 4711), []byte(nobody))
		}, "does not exist", true},
		"label lost":      {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["label"]) }, "its label", true},
		"label of nobody": {func(t *store.Txn, _ map[string]store.Key) { t.Put(store.LabelKey(nobody, 99), []byte(nobody)) }, "which does not exist", true},
		"binding lost":    {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["binding"]) }, "not bound", false},
		"binding of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.BindingKey(nobody), []byte(`{"interface":"`+nobody+`","label":99}`))
		}, "which does not exist", true},
		"binding unreadable":  {func(t *store.Txn, k map[string]store.Key) { t.Put(k["binding"], []byte("x")) }, "cannot be read", false},
		"fabric address lost": {func(t *store.Txn, _ map[string]store.Key) { t.Delete(store.FabricKey("172.31.0.11")) }, "is not in use", true},
		"fabric address of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.FabricKey("172.31.0.99"), []byte(nobody))
		}, "does not exist", true},
		"fabric address of another": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.FabricKey("172.31.0.11"), []byte(nobody))
		}, "is had by node", true},
		"floating address lost": {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["floating address"]) }, "its address", true},
		"mac lost":              {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["mac"]) }, "MAC address", true},
		"mac of nobody": {func(t *store.Txn, _ map[string]store.Key) {
			t.Put(store.MACKey(nobody, "02:00:00:00:00:01"), []byte(nobody))
		}, "does not exist", true},
		"mark of nobody":       {func(t *store.Txn, _ map[string]store.Key) { t.Put(store.OwnedKey(nobody), []byte("project")) }, "does not exist", true},
		"rest of what is used": {func(t *store.Txn, k map[string]store.Key) { t.Put(store.RestKey(k["address"]), nil) }, "in use", true},
		"rest without end":     {func(t *store.Txn, k map[string]store.Key) { t.Put(k["rest"], nil) }, "no lease", false},
		"parent lost":          {func(t *store.Txn, k map[string]store.Key) { t.Delete(k["project"]) }, "does not exist", false},
		"node unreadable":      {func(t *store.Txn, k map[string]store.Key) { t.Put(k["node"], []byte("x")) }, "cannot be read", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, keys := damagedBench(t)
			before := b.content()
			b.damage(func(t *store.Txn) { c.damage(t, keys) })
			found := b.findings()
			if !slices.ContainsFunc(found, func(f dbcheck.Finding) bool { return strings.Contains(f.Problem, c.says) }) {
				t.Fatalf("findings are %v, want one that says %q", found, c.says)
			}
			damaged := b.content()
			var steps []string
			o := dbcheck.Options{DryRun: true, Rest: time.Hour, Told: func(s dbcheck.Step) { steps = append(steps, fmt.Sprint(s.Repair, s.Note)) }}
			if _, err := dbcheck.Repair(b.ctx(), b.store, o); err != nil {
				t.Fatal(err)
			}
			if diff := diffKeys(damaged, b.content()); diff != "" {
				t.Errorf("a dry run changed something: %s", diff)
			}
			o.DryRun = false
			left, err := dbcheck.Repair(b.ctx(), b.store, o)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.mended && len(left) > 0:
				t.Errorf("left after the repair: %v; it did %v", left, steps)
			case c.mended:
				if diff := diffKeys(before, b.content()); diff != "" {
					t.Errorf("mended is not as before: %s", diff)
				}
			case len(left) == 0:
				t.Errorf("the repair decided what is ambiguous: %v", steps)
			}
		})
	}
}

// A repair that is overtaken does nothing.
func TestRepairDoesNotOverwrite(t *testing.T) {
	b, keys := damagedBench(t)
	b.damage(func(t *store.Txn) { t.Delete(keys["vn name"]) })
	told := 0
	o := dbcheck.Options{Rest: time.Hour, Told: func(dbcheck.Step) { told++ }}
	entries, _, err := dbcheck.Read(b.ctx(), b.store)
	if err != nil {
		t.Fatal(err)
	}
	findings := dbcheck.Check(entries)
	b.damage(func(t *store.Txn) { t.Put(keys["vn name"], []byte("somebody else")) })
	for _, f := range findings {
		done, note, err := f.Repair.Apply(b.ctx(), b.store, time.Hour)
		if err != nil || done || !strings.Contains(note, "changed") {
			t.Errorf("repair of what has changed: %v %q %v", done, note, err)
		}
	}
	if _, err := dbcheck.Repair(b.ctx(), b.store, o); err != nil || told == 0 {
		t.Fatal(told, err)
	}
	b.fits()
}
