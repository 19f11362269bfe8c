package configapi

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/dbcheck"
	"github.com/contrail-mesos/contrail/internal/store"
)

// Two controllers on one store and the naive API get the same requests in any
// order, each by one of the two: results, errors, back references and
// addresses agree, whoever is asked, and in the end nothing is left.
func TestAgreesWithTheNaiveAPI(t *testing.T) {
	for name, value := range map[string]string{"rapid.checks": "20", "rapid.steps": "80"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	cfg := testConfig()
	cfg.Rest = 0 // the naive API lets nothing rest
	at := store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/naive%d/", prefixCount.Add(1)), Shared: true}
	one := openBenchAt(t, at, cfg)
	two := openBenchAt(t, at, cfg)
	domain := one.json("POST", "/fqname-to-id", `{"type": "domain", "fq_name": ["default-domain"]}`)["uuid"].(string)
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++ // what a failed run leaves is in nobody's way
		r := &run{t: rt, apis: []*bench{one, two}, number: runs}
		r.ghosts = []string{r.uuid()}
		before := one.dump()
		r.naive.objects = map[string]*naiveObject{domain: {kind: "domain", uuid: domain, name: []string{"default-domain"}}}
		r.seed(domain)
		rt.Repeat(map[string]func(*rapid.T){
			"create": r.create, "create more": r.create, "update": r.update, "resize": r.resize,
			"refer": r.refer, "refer more": r.refer, "delete": r.delete, "read": r.read, "list": r.list,
		})
		if entries, _, err := dbcheck.Read(one.ctx(), one.store); err != nil || len(dbcheck.Check(entries)) > 0 {
			rt.Fatalf("the store: %v %v", err, dbcheck.Check(entries))
		}
		r.clear(domain)
		if diff := cmp.Diff(before, one.dump()); diff != "" {
			rt.Fatalf("left behind (-before +after):\n%s", diff)
		}
	})
}

// run is one sequence of requests.
type run struct {
	t    *rapid.T
	apis []*bench
	naive
	// ghosts are uuids of what does not exist.
	ghosts []string
	// number of the run; it is part of names and uuids.
	number, uuids int
}

// ask sends a request to either controller. refused are the statuses that it
// may have; none is success.
func (r *run) ask(method, path string, body any, refused []int) (map[string]any, bool) {
	text := ""
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		text = string(data)
	}
	status, answer, _ := r.apis[rapid.IntRange(0, 1).Draw(r.t, "controller")].call(method, path, text)
	if len(refused) == 0 {
		refused = []int{200}
	}
	if !slices.Contains(refused, status) {
		r.t.Fatalf("%s %s %s: %d %s, want one of %v", method, path, text, status, answer, refused)
	}
	if status != 200 || answer == "" {
		return nil, status == 200
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		r.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
	return out, true
}

// draw chooses an object of the kind, or sometimes one that is not there.
func (r *run) draw(kind string) string {
	ids := r.of(kind)
	if len(ids) == 0 || rapid.IntRange(0, 15).Draw(r.t, "ghost") == 0 {
		return rapid.SampledFrom(r.ghosts).Draw(r.t, "gone "+kind)
	}
	return rapid.SampledFrom(ids).Draw(r.t, kind)
}

func (r *run) create(*rapid.T) {
	k := rapid.SampledFrom(naiveKinds).Draw(r.t, "kind")
	o := &naiveObject{kind: k.kind, refs: map[string]naiveRef{}, display: rapid.SampledFrom([]string{"x", "y"}).Draw(r.t, "display")}
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r.t, "name")
	if k.parent != "" {
		o.parent = r.draw(k.parent)
	}
	o.uuid = r.uuid()
	if taken := r.of(rapid.SampledFrom(naiveKinds).Draw(r.t, "other kind").kind); len(taken) > 0 && rapid.IntRange(0, 15).Draw(r.t, "taken uuid") == 0 {
		o.uuid = rapid.SampledFrom(taken).Draw(r.t, "uuid")
	}
	for _, kind := range k.refs {
		r.choose(o, kind)
	}
	r.post(k, o, name)
}

// seeded is the display name of what every run begins with.
const seeded = "seeded"

// seed makes one of each kind, so that a short run has something to work with.
func (r *run) seed(domain string) {
	ids := map[string]string{"domain": domain}
	for _, k := range naiveKinds {
		o := &naiveObject{kind: k.kind, uuid: r.uuid(), parent: ids[k.parent], display: seeded, refs: map[string]naiveRef{}}
		for _, kind := range k.refs {
			ref := naiveRef{kind: kind}
			if kind == "network-ipam" {
				ref.subnets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")}
			}
			o.refs[ids[kind]] = ref
		}
		r.post(k, o, "seed")
		ids[k.kind] = o.uuid
	}
}

// uuid is new, and in the same place of the order in every run.
func (r *run) uuid() string {
	r.uuids++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", r.uuids, r.number)
}

// post creates an object.
func (r *run) post(k naiveKind, o *naiveObject, name string) {
	parentMissing := false
	o.name = []string{fmt.Sprint(name, "-", r.number)}
	if k.parent != "" {
		if parent := r.objects[o.parent]; parent != nil {
			o.name = append(slices.Clone(parent.name), o.name...)
		} else {
			parentMissing = true
			o.name = []string{"default-domain", "no-such-project", "no-such-network", "no-such-pool", name}
		}
	}
	body := map[string]any{"fq_name": o.name, "uuid": o.uuid, "display_name": o.display}
	if k.parent != "" {
		body["parent_type"] = k.parent
	}
	for _, kind := range k.refs {
		if list := o.list(kind); len(list) > 0 {
			body[field(kind, "_refs")] = list
		}
	}
	want := r.wanted(o, body)
	_, ok := r.ask("POST", "/"+o.kind+"s", map[string]any{o.kind: body}, r.mayCreate(o, parentMissing, want))
	if !ok {
		return
	}
	r.objects[o.uuid] = o
	r.addressed(o, want)
}

// choose gives an object references to a kind.
func (r *run) choose(o *naiveObject, kind string) {
	count := rapid.IntRange(0, 2).Draw(r.t, "references to "+kind)
	switch kind {
	case "virtual-network", "network-ipam":
		count = 1
	case "virtual-machine":
		count = min(count, 1)
	}
	for range count {
		id := r.draw(kind)
		ref := naiveRef{kind: kind}
		if kind == "network-ipam" {
			ref.subnets = r.drawSubnets()
		}
		// An address is for interfaces of its network.
		if kind == "virtual-machine-interface" && (r.objects[id] == nil || r.objects[id].only("virtual-network") != o.only("virtual-network")) {
			continue
		}
		o.refs[id] = ref
	}
}

func (r *run) drawSubnets() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range []string{"10.0.0.0/29", "10.0.1.0/29"} {
		if rapid.Bool().Draw(r.t, text) {
			list = append(list, netip.MustParsePrefix(text))
		}
	}
	return list
}

// wanted asks for an address of its own choice, sometimes.
func (r *run) wanted(o *naiveObject, body map[string]any) (want netip.Addr) {
	property := map[string]string{"instance-ip": "instance_ip_address", "floating-ip": "floating_ip_address"}[o.kind]
	if property == "" || o.display == seeded || !rapid.Bool().Draw(r.t, "wants an address") {
		return want
	}
	want = netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", rapid.IntRange(0, 2).Draw(r.t, "third"), rapid.IntRange(0, 8).Draw(r.t, "fourth")))
	body[property] = want.String()
	return want
}

// addressed reads the address that an object got, and checks it.
func (r *run) addressed(o *naiveObject, want netip.Addr) {
	property := map[string]string{"instance-ip": "instance_ip_address", "floating-ip": "floating_ip_address"}[o.kind]
	if property == "" {
		return
	}
	out, _ := r.ask("GET", "/"+o.kind+"/"+o.uuid, nil, nil)
	text, _ := out[o.kind].(map[string]any)[property].(string)
	a, err := netip.ParseAddr(text)
	n := r.network(o)
	switch {
	case err != nil || want.IsValid() && a != want:
		r.t.Fatalf("%s has address %q, want %s", o, text, want)
	case !r.mayHave(o, a) || a == n.subnets()[0].Addr().Next() && a != want:
		r.t.Fatalf("%s has address %s, which is not of %v", o, a, n.subnets())
	}
	if owner, taken := r.used(n.uuid)[a]; taken {
		r.t.Fatalf("%s has address %s, which %s has", o, a, r.objects[owner])
	}
	o.address = a
}

func (r *run) update(*rapid.T) {
	k := rapid.SampledFrom(naiveKinds).Draw(r.t, "kind")
	id := r.draw(k.kind)
	body := map[string]any{"display_name": rapid.SampledFrom([]string{"x", "y", "z"}).Draw(r.t, "display")}
	o := r.objects[id]
	if o == nil {
		r.ask("PUT", "/"+k.kind+"/"+id, map[string]any{k.kind: body}, []int{404})
		return
	}
	after := &naiveObject{kind: o.kind, refs: map[string]naiveRef{}}
	replaced := ""
	if k.kind == "virtual-machine-interface" && rapid.Bool().Draw(r.t, "security groups") {
		replaced = "security-group"
		r.choose(after, replaced)
		body[field(replaced, "_refs")] = after.list(replaced)
	}
	var refused []int
	for target := range after.refs {
		if r.objects[target] == nil {
			refused = []int{400, 404}
		}
	}
	if _, ok := r.ask("PUT", "/"+k.kind+"/"+id, map[string]any{k.kind: body}, refused); !ok {
		return
	}
	o.display = body["display_name"].(string)
	if replaced != "" {
		r.replace(o, replaced, after)
	}
}

// replace gives o the references to a kind that after has; those that stay
// are as relaxed as they were.
func (r *run) replace(o *naiveObject, kind string, after *naiveObject) {
	for id, ref := range o.refs {
		if _, stays := after.refs[id]; ref.kind == kind && !stays {
			delete(o.refs, id)
		}
	}
	for id, ref := range after.refs {
		ref.relaxed = o.refs[id].relaxed
		o.refs[id] = ref
	}
}

// resize replaces the subnets of a network.
func (r *run) resize(*rapid.T) {
	id := r.draw("virtual-network")
	o := r.objects[id]
	if o == nil {
		r.t.Skip("no network")
	}
	after := &naiveObject{kind: o.kind, refs: map[string]naiveRef{}}
	r.choose(after, "network-ipam")
	var refused []int
	for target := range after.refs {
		if r.objects[target] == nil {
			refused = append(refused, 400, 404)
		}
	}
	refused = append(refused, r.maySubnet(o, after.subnets())...)
	body := map[string]any{"network_ipam_refs": after.list("network-ipam")}
	if _, ok := r.ask("PUT", "/virtual-network/"+id, map[string]any{"virtual-network": body}, refused); ok {
		r.replace(o, "network-ipam", after)
	}
}

// refer adds or removes one reference of an interface to a security group.
func (r *run) refer(*rapid.T) {
	from, to := r.draw("virtual-machine-interface"), r.draw("security-group")
	operation := rapid.SampledFrom([]string{"ADD", "DELETE"}).Draw(r.t, "operation")
	relaxed := rapid.Bool().Draw(r.t, "relaxed")
	body := map[string]any{
		"type": "virtual-machine-interface", "uuid": from, "ref-type": "security-group", "ref-uuid": to,
		"operation": operation, "relax_ref_for_delete": relaxed,
	}
	o := r.objects[from]
	var refused []int
	if o == nil || r.objects[to] == nil && operation == "ADD" {
		refused = []int{404}
	}
	if o != nil && r.objects[to] == nil && operation == "DELETE" {
		refused = []int{200, 404} // an absent reference is as good as removed
	}
	if _, ok := r.ask("POST", "/ref-update", body, refused); !ok {
		return
	}
	delete(o.refs, to)
	if operation == "ADD" {
		o.refs[to] = naiveRef{kind: "security-group", relaxed: relaxed}
	}
}

func (r *run) delete(*rapid.T) {
	kind := rapid.SampledFrom(naiveKinds).Draw(r.t, "kind").kind
	id := r.draw(kind)
	if _, ok := r.ask("DELETE", "/"+kind+"/"+id, nil, r.mayDelete(id)); ok {
		r.naive.delete(id)
		r.ghosts = append(r.ghosts, id)
	}
}

// read compares all that a controller says of one object.
func (r *run) read(*rapid.T) {
	kind := rapid.SampledFrom(naiveKinds).Draw(r.t, "kind").kind
	id := r.draw(kind)
	o := r.objects[id]
	if o == nil {
		r.ask("GET", "/"+kind+"/"+id, nil, []int{404})
		return
	}
	out, _ := r.ask("GET", "/"+kind+"/"+id, nil, nil)
	got := out[kind].(map[string]any)
	want := map[string]any{"fq_name": strings.Join(o.name, ":"), "display_name": o.display, "parent_uuid": o.parent}
	have := map[string]any{"fq_name": joined(got["fq_name"]), "display_name": got["display_name"], "parent_uuid": ""}
	if p, ok := got["parent_uuid"]; ok {
		have["parent_uuid"] = p
	}
	add := func(into map[string]any, lists map[string][]string, suffix string) {
		for k, ids := range lists {
			into[field(k, suffix)] = ids
		}
	}
	add(want, o.references(), "_refs")
	add(want, r.children(id), "s")
	add(want, r.referrers(id), "_back_refs")
	for name, value := range got {
		list, ok := value.([]any)
		// What is derived has no counterpart.
		if !ok || name == "fq_name" || strings.HasPrefix(name, "routing_instance") || strings.HasPrefix(name, "access_control_list") {
			continue
		}
		have[name] = idsIn(list)
	}
	if o.address.IsValid() {
		property := map[string]string{"instance-ip": "instance_ip_address", "floating-ip": "floating_ip_address"}[kind]
		want[property], have[property] = o.address.String(), got[property]
	}
	if diff := cmp.Diff(want, have); diff != "" {
		r.t.Fatalf("%s (-naive +controller):\n%s", o, diff)
	}
}

// list compares a list, by parent or of all, with its count and with what the
// names are resolved to.
func (r *run) list(*rapid.T) {
	k := rapid.SampledFrom(naiveKinds).Draw(r.t, "kind")
	query, parent := "", ""
	if k.parent != "" {
		parent = r.draw(k.parent)
		query = "?parent_id=" + parent
	}
	var want []string
	for _, id := range r.of(k.kind) {
		o := r.objects[id]
		if parent != "" && o.parent != parent {
			continue
		}
		want = append(want, id)
		out, _ := r.ask("POST", "/fqname-to-id", map[string]any{"type": k.kind, "fq_name": o.name}, nil)
		if out["uuid"] != id {
			r.t.Fatalf("fqname-to-id of %s: %v, want %s", o, out, id)
		}
	}
	out, _ := r.ask("GET", "/"+k.kind+"s"+query, nil, nil)
	have := idsIn(out[k.kind+"s"].([]any))
	if k.parent == "" || k.parent == "domain" {
		have = slices.DeleteFunc(have, func(id string) bool { return r.objects[id] == nil }) // of other runs
	}
	if !slices.Equal(want, have) {
		r.t.Fatalf("list of %s%s: %v, want %v", k.kind, query, have, want)
	}
}

func idsIn(list []any) []string {
	var ids []string
	for _, element := range list {
		id, _ := element.(map[string]any)["uuid"].(string)
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func joined(list any) string {
	var parts []string
	for _, p := range list.([]any) {
		parts = append(parts, p.(string))
	}
	return strings.Join(parts, ":")
}

// clear deletes everything but the domain, what nothing needs first.
func (r *run) clear(domain string) {
	for len(r.objects) > 1 {
		left := len(r.objects)
		for _, id := range slices.Sorted(maps.Keys(r.objects)) {
			if id == domain || len(r.mayDelete(id)) > 0 {
				continue
			}
			status, answer, _ := r.apis[0].call("DELETE", "/"+r.objects[id].kind+"/"+id, "")
			if status != 200 {
				r.t.Fatalf("delete %s: %d %s", r.objects[id], status, answer)
			}
			r.naive.delete(id)
		}
		if len(r.objects) == left {
			r.t.Fatalf("nothing can be deleted of %v", r.objects)
		}
	}
}
