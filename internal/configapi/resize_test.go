package configapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/store"
)

// pair is two APIs over one store.
func pair(t testing.TB, cfg Config) (one, two *bench) {
	t.Helper()
	at := store.Config{Endpoints: []string{endpoint}, Prefix: fmt.Sprintf("/test%d/", prefixCount.Add(1)), Shared: true}
	return openBenchAt(t, at, cfg), openBenchAt(t, at, cfg)
}

func TestResize(t *testing.T) {
	const from = `"addr_from_start": true`
	for name, tt := range map[string]struct {
		before string
		// used are the addresses asked for before the change.
		used  []string
		after string
		// text of the refusal, empty when it is allowed.
		text string
	}{
		"add":                       {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from) + "," + subnetJSON("10.2.0.0/24", from), ""},
		"remove an empty one":       {subnetJSON("10.1.0.0/24", from) + "," + subnetJSON("10.2.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from), ""},
		"remove":                    {subnetJSON("10.1.0.0/24", from) + "," + subnetJSON("10.2.0.0/24", from), []string{"10.2.0.9"}, subnetJSON("10.1.0.0/24", from), "address 10.2.0.9 of default-domain:p:n is in use; its subnet can not be removed"},
		"widen":                     {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/23", from), ""},
		"widen over another":        {subnetJSON("10.1.0.0/24", from) + "," + subnetJSON("10.1.1.0/24", from), []string{"10.1.1.9"}, subnetJSON("10.1.0.0/23", from), ""},
		"narrow":                    {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/28", from), ""},
		"narrow too far":            {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.99"}, subnetJSON("10.1.0.0/28", from), "address 10.1.0.99 of default-domain:p:n is in use"},
		"narrow to its broadcast":   {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.15"}, subnetJSON("10.1.0.0/28", from), "address 10.1.0.15 of default-domain:p:n is in use; it can not become the network or broadcast address"},
		"gateway":                   {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from+`, "default_gateway": "10.1.0.8"`), ""},
		"gateway on an address":     {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from+`, "default_gateway": "10.1.0.9"`), "address 10.1.0.9 of default-domain:p:n is in use; it can not become the default_gateway"},
		"dns on an address":         {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from+`, "dns_server_address": "10.1.0.9"`), "it can not become the dns_server_address"},
		"other end on an address":   {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.254"}, subnetJSON("10.1.0.0/24", ""), "address 10.1.0.254 of default-domain:p:n is in use; it can not become the default_gateway"},
		"pools":                     {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from+`, "allocation_pools": [{"start": "10.1.0.100", "end": "10.1.0.110"}]`), ""},
		"larger unit":               {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.8"}, subnetJSON("10.1.0.0/24", from+`, "alloc_unit": 4`), ""},
		"larger unit, no multiple":  {subnetJSON("10.1.0.0/24", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from+`, "alloc_unit": 4`), "the alloc_unit of subnet 10.1.0.0/24 can not become 4"},
		"smaller unit":              {subnetJSON("10.1.0.0/24", from+`, "alloc_unit": 4`), []string{"10.1.0.8"}, subnetJSON("10.1.0.0/24", from), "can not become 1"},
		"unit of an unused subnet":  {subnetJSON("10.1.0.0/24", from+`, "alloc_unit": 4`), nil, subnetJSON("10.1.0.0/24", from), ""},
		"a large one becomes small": {subnetJSON("10.0.0.0/12", from), []string{"10.1.0.9"}, subnetJSON("10.1.0.0/24", from), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, testConfig())
			vn := b.networkWith("n", tt.before)
			for _, a := range tt.used {
				b.ip(vn, `"instance_ip_address": "`+a+`"`)
			}
			before := b.dump()
			status, text := b.setSubnets("n", vn, tt.after)
			switch {
			case tt.text == "" && status != http.StatusOK:
				t.Errorf("refused: %d %s", status, text)
			case tt.text != "" && (status != http.StatusConflict || !strings.Contains(text, tt.text)):
				t.Errorf("%d %q, want 409 and %q", status, text, tt.text)
			case tt.text != "":
				b.unchanged(before)
			}
		})
	}
}

// A subnet that is sent again, or made larger, under its id keeps its gateway
// and DNS address where the client leaves them out.
func TestResizeKeepsGateway(t *testing.T) {
	b := newBench(t, testConfig())
	const id = `"subnet_uuid": "00000000-0000-4000-8000-00000000000a"`
	vn := b.networkWith("n", subnetJSON("10.1.0.0/24", id))
	if status, text := b.setSubnets("n", vn, subnetJSON("10.1.0.0/23", id)); status != http.StatusOK {
		t.Fatal(text)
	}
	b.api.graph.View(func(v *model.View) {
		list, err := subnetsOf(v, vn)
		if err != nil || list[0].gateway != netip.MustParseAddr("10.1.0.254") || list[0].prefix.Bits() != 23 {
			t.Errorf("%+v %v", list, err)
		}
	})
}

// Two controllers allocate, free and resize at once, and any order of it: the
// store and a naive model agree on who has what, no address is given twice,
// and none in use is ever outside of its network.
func TestAnyAddressSequence(t *testing.T) {
	checks(t, 12)
	one, two := pair(t, testConfig())
	one.create("project", `{"fq_name": ["default-domain", "p"]}`)
	count := 0
	rapid.Check(t, func(t *rapid.T) {
		count++
		m := &addressModel{name: fmt.Sprint("any", count), benches: []*bench{one, two}, used: map[netip.Addr]string{}}
		m.bits = 26
		m.vn = one.networkWith(m.name, m.subnet(26))
		t.Repeat(map[string]func(*rapid.T){
			"take": m.take, "ask": m.ask, "free": m.free, "alloc": m.alloc, "ip-free": m.ipFree, "resize": m.resize, "": m.check,
		})
	})
}

// addressModel is what we know of a network beside what the store says.
type addressModel struct {
	name    string
	vn      string
	benches []*bench
	bits    int
	// used are the owners of addresses: UUIDs, or "ip-alloc".
	used  map[netip.Addr]string
	count int
}

var anyNetwork = netip.MustParseAddr("10.50.0.0")

func (m *addressModel) prefix() netip.Prefix { return netip.PrefixFrom(anyNetwork, m.bits) }

func (m *addressModel) subnet(bits int) string {
	return subnetJSON(netip.PrefixFrom(anyNetwork, bits).String(), `"addr_from_start": true`)
}

// isReserved tells the addresses that nobody gets.
func (m *addressModel) isReserved(a netip.Addr) bool {
	last := m.prefix().Masked().Addr()
	for n := last; m.prefix().Contains(n); n = n.Next() {
		last = n
	}
	return a == anyNetwork || a == anyNetwork.Next() || a == anyNetwork.Next().Next() || a == last
}

func (m *addressModel) bench(t *rapid.T) *bench {
	return rapid.SampledFrom(m.benches).Draw(t, "controller")
}

func (m *addressModel) size() int { return 1<<(32-m.bits) - 4 }

func (m *addressModel) post(t *rapid.T, more string) (string, int, string) {
	m.count++
	id := model.NewUUID()
	if more != "" {
		more = ", " + more
	}
	b := m.bench(t)
	status, text, _ := b.call("POST", "/instance-ips", fmt.Sprintf(`{"instance-ip": {"fq_name": ["%s-%d"], "uuid": %q, "virtual_network_refs": [{"uuid": %q}]%s}}`, m.name, m.count, id, m.vn, more))
	return id, status, text
}

func (m *addressModel) address(t *rapid.T, id string) netip.Addr {
	return netip.MustParseAddr(m.bench(t).get("instance-ip", id)["instance_ip_address"].(string))
}

func (m *addressModel) took(t *rapid.T, a netip.Addr, owner string) {
	if other, ok := m.used[a]; ok || m.isReserved(a) || !m.prefix().Contains(a) {
		t.Fatalf("%s was given to %s; %q has it, subnet %s", a, owner, other, m.prefix())
	}
	m.used[a] = owner
}

func (m *addressModel) take(t *rapid.T) {
	id, status, text := m.post(t, "")
	if full := len(m.used) >= m.size(); full != (status == http.StatusBadRequest) || !full && status != http.StatusOK {
		t.Fatalf("take with %d of %d used: %d %s", len(m.used), m.size(), status, text)
	}
	if status == http.StatusOK {
		m.took(t, m.address(t, id), id)
	}
}

func (m *addressModel) draw(t *rapid.T) netip.Addr {
	return addressAt(indexOf(anyNetwork).plus(rapid.Uint64Range(0, 63).Draw(t, "address")), false)
}

func (m *addressModel) ask(t *rapid.T) {
	a := m.draw(t)
	_, used := m.used[a]
	want := http.StatusOK
	switch {
	case !m.prefix().Contains(a), m.isReserved(a):
		want = http.StatusBadRequest
	case used:
		want = http.StatusConflict
	}
	id, status, text := m.post(t, `"instance_ip_address": "`+a.String()+`"`)
	if status != want {
		t.Fatalf("ask for %s in %s: %d %s, want %d", a, m.prefix(), status, text, want)
	}
	if status == http.StatusOK {
		m.took(t, a, id)
	}
}

// one is an address in use by an object, or by ip-alloc.
func (m *addressModel) one(t *rapid.T, allocated bool) netip.Addr {
	list := slices.SortedFunc(maps.Keys(m.used), netip.Addr.Compare)
	list = slices.DeleteFunc(list, func(a netip.Addr) bool { return (m.used[a] == "ip-alloc") != allocated })
	if len(list) == 0 {
		t.Skip("nothing is in use")
	}
	return rapid.SampledFrom(list).Draw(t, "used")
}

func (m *addressModel) free(t *rapid.T) {
	a := m.one(t, false)
	if status, text, _ := m.bench(t).call("POST", "/virtual-network/"+m.vn+"/ip-free", `{"ip_addr": ["`+a.String()+`"]}`); status != http.StatusConflict {
		t.Fatalf("ip-free of an object's address: %d %s", status, text)
	}
	if status, text, _ := m.bench(t).call("DELETE", "/instance-ip/"+m.used[a], ""); status != http.StatusOK {
		t.Fatalf("delete: %d %s", status, text)
	}
	delete(m.used, a)
}

func (m *addressModel) alloc(t *rapid.T) {
	n := rapid.IntRange(1, 4).Draw(t, "count")
	b := m.bench(t)
	status, text, _ := b.call("POST", "/virtual-network/"+m.vn+"/ip-alloc", fmt.Sprintf(`{"count": %d}`, n))
	if fits := len(m.used)+n <= m.size(); fits != (status == http.StatusOK) || !fits && status != http.StatusConflict {
		t.Fatalf("ip-alloc of %d with %d of %d used: %d %s", n, len(m.used), m.size(), status, text)
	}
	if status == http.StatusOK {
		for _, part := range strings.Split(strings.Trim(text[strings.Index(text, "["):], "[]}\n"), ",") {
			m.took(t, netip.MustParseAddr(strings.Trim(part, `"`)), "ip-alloc")
		}
	}
}

func (m *addressModel) ipFree(t *rapid.T) {
	a := m.one(t, true)
	if status, text, _ := m.bench(t).call("POST", "/virtual-network/"+m.vn+"/ip-free", `{"ip_addr": ["`+a.String()+`"]}`); status != http.StatusOK {
		t.Fatalf("ip-free: %d %s", status, text)
	}
	delete(m.used, a)
}

func (m *addressModel) resize(t *rapid.T) {
	now := &addressModel{bits: rapid.IntRange(26, 29).Draw(t, "bits")}
	ok := true
	for a := range m.used {
		ok = ok && now.prefix().Contains(a) && !now.isReserved(a)
	}
	status, text := m.bench(t).setSubnets(m.name, m.vn, m.subnet(now.bits))
	if ok != (status == http.StatusOK) || !ok && status != http.StatusConflict {
		t.Fatalf("resize %d to %d with %v: %d %s", m.bits, now.bits, slices.Collect(maps.Keys(m.used)), status, text)
	}
	if ok {
		m.bits = now.bits
	}
}

// check compares what the store says with what we know.
func (m *addressModel) check(t *rapid.T) {
	keys, err := m.benches[0].store.List(context.Background(), "ip/default-domain:p:"+"")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range keys {
		scope, a, err := e.Key.ParseAddress()
		if err != nil {
			t.Fatal(err)
		}
		if scope != "default-domain:p:"+m.name {
			continue
		}
		n++
		if owner := m.used[a]; owner != string(e.Value) && (owner != "ip-alloc" || string(e.Value) != m.vn) {
			t.Fatalf("%s is held by %s in the store, by %q in the model", a, e.Value, owner)
		}
	}
	if n != len(m.used) {
		t.Fatalf("%d addresses in the store, %d in the model", n, len(m.used))
	}
}

// While a network is made smaller and larger again, others take and free
// addresses at two controllers: whatever is in use is inside at any time.
func TestResizeRaces(t *testing.T) {
	one, two := pair(t, testConfig())
	small, large := subnetJSON("10.60.0.0/26", `"addr_from_start": true`), subnetJSON("10.60.0.0/22", `"addr_from_start": true`)
	vn := one.networkWith("race", large)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w, b := range []*bench{one, two} {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// Some of them in what goes away, and not for long.
				a := fmt.Sprintf("10.60.%d.%d", n%4/3*3, 10+w)
				id := model.NewUUID()
				status, text, _ := b.call("POST", "/instance-ips", fmt.Sprintf(`{"instance-ip": {"fq_name": [%q], "uuid": %q, "instance_ip_address": %q, "virtual_network_refs": [{"uuid": %q}]}}`, id, id, a, vn))
				switch {
				case status == http.StatusOK:
					if status, text, _ = b.call("DELETE", "/instance-ip/"+id, ""); status != http.StatusOK {
						t.Errorf("delete: %d %s", status, text)
						return
					}
				case status != http.StatusBadRequest: // outside at the moment
					t.Errorf("take %s: %d %s", a, status, text)
					return
				}
			}
		})
	}
	shrunk := 0
	for n := 0; n < 200 && shrunk < 10; n++ {
		switch status, text := one.setSubnets("race", vn, small); status {
		case http.StatusOK:
			shrunk++
			if err := one.allInside(vn); err != nil {
				t.Errorf("after shrinking %d times: %v", n, err)
			}
		case http.StatusConflict, http.StatusServiceUnavailable: // in use at the moment, or never let in
			continue
		default:
			t.Errorf("shrink: %d %s", status, text)
		}
		if status, text := two.setSubnets("race", vn, large); status != http.StatusOK {
			t.Errorf("grow: %d %s", status, text)
		}
	}
	close(stop)
	wg.Wait()
	if shrunk == 0 {
		t.Error("the network was never made smaller")
	}
}

// allInside finds an address in use that is outside of its network, as of one
// revision of the store.
func (b *bench) allInside(vn string) error {
	entries, err := b.store.Dump(b.ctx())
	if err != nil {
		return err
	}
	var bits int64 = -1
	var addresses []netip.Addr
	for _, e := range entries {
		if scope, a, err := e.Key.ParseAddress(); err == nil && e.Key.Space() == "ip" && scope == "default-domain:p:race" {
			addresses = append(addresses, a)
		}
		if k := string(e.Key); strings.HasPrefix(k, "ref/network-ipam/") && strings.HasSuffix(k, vn) {
			if strings.Contains(string(e.Value), `"ip_prefix_len":26`) {
				bits = 26
			} else {
				bits = 22
			}
		}
	}
	if bits < 0 {
		return errors.New("the network has no reference to its IPAM")
	}
	p := netip.PrefixFrom(netip.MustParseAddr("10.60.0.0"), int(bits))
	for _, a := range addresses {
		if !p.Contains(a) {
			return fmt.Errorf("%s is in use outside of %s", a, p)
		}
	}
	return nil
}

// meets decides a change at one controller, lets something else happen before
// it is committed for the first time, and returns what became of it.
func (b *bench) meets(decide func(c *change) error, meanwhile func()) error {
	done := false
	_, err := b.api.write(b.ctx(), audit{"test", "race"}, func(c *change) error {
		err := decide(c)
		if err == nil && !done {
			done = true
			meanwhile()
		}
		return err
	})
	return err
}

// Whatever is decided on what somebody else changes before it is committed is
// decided anew: a subnet does not go while one of its addresses is given out,
// and the other way round.
func TestDecisionsMeet(t *testing.T) {
	const from = `"addr_from_start": true`
	resize := func(name, vn, subnets string) func(c *change) error {
		return func(c *change) error {
			return c.replaceReferences(model.Entity{Kind: model.KindVirtualNetwork, UUID: vn}, model.KindNetworkIPAM, []givenRef{{
				To: []string{"default-domain", "p", name}, Attr: []byte(`{"ipam_subnets": [` + subnets + `]}`),
			}})
		}
	}
	for name, tt := range map[string]struct{ before, after, asked string }{
		"few addresses":  {subnetJSON("10.1.0.0/24", from), subnetJSON("10.1.0.0/25", from), "10.1.0.200"},
		"many addresses": {subnetJSON("10.1.0.0/20", from), subnetJSON("10.1.0.0/25", from), "10.1.0.200"},
		"gateway":        {subnetJSON("10.1.0.0/24", from), subnetJSON("10.1.0.0/24", from+`, "default_gateway": "10.1.0.200"`), "10.1.0.200"},
		"unit":           {subnetJSON("10.1.0.0/24", from), subnetJSON("10.1.0.0/24", from+`, "alloc_unit": 4`), "10.1.0.201"},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := pair(t, testConfig())
			vn := one.networkWith("n", tt.before)
			err := one.meets(resize("n", vn, tt.after), func() { two.ip(vn, `"instance_ip_address": "`+tt.asked+`"`) })
			if err == nil || !strings.Contains(err.Error(), "address "+tt.asked+" of default-domain:p:n is in use") {
				t.Errorf("resize: %v", err)
			}
			// The other way round.
			vn = one.networkWith("m", tt.before)
			err = one.meets(func(c *change) error {
				o := &model.InstanceIP{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"late"}}, InstanceIPAddress: tt.asked}
				return c.create(o, []model.Reference{{From: model.EntityOf(o), To: model.Entity{Kind: model.KindVirtualNetwork, UUID: vn}}})
			}, func() {
				if status, text := two.setSubnets("m", vn, tt.after); status != http.StatusOK {
					t.Errorf("resize: %d %s", status, text)
				}
			})
			if err == nil {
				t.Errorf("%s was given out although the subnet had changed", tt.asked)
			}
		})
	}
	t.Run("flat", func(t *testing.T) {
		one, two := pair(t, testConfig())
		one.create("project", `{"fq_name": ["default-domain", "p"]}`)
		ipam := one.create("network-ipam", `{"fq_name": ["default-domain", "p", "flat"], "ipam_subnet_method": "flat-subnet", "ipam_subnets": {"subnets": [`+subnetJSON("10.8.0.0/24", from)+`]}}`)
		vn := one.create("virtual-network", `{"fq_name": ["default-domain", "p", "n"], "network_ipam_refs": [{"uuid": "`+ipam+`"}]}`)
		err := one.meets(func(c *change) error {
			o, _ := model.Get[*model.NetworkIPAM](c.v, ipam)
			smaller := *o
			smaller.IPAMSubnets = nil
			if err := c.revise(&smaller, o); err != nil {
				return err
			}
			c.UpdateObject(&smaller, c.since)
			return nil
		}, func() { two.ip(vn, "") })
		if err == nil || !strings.Contains(err.Error(), "address 10.8.0.3 of network-ipam:default-domain:p:flat is in use") {
			t.Errorf("resize: %v", err)
		}
		for n, tt := range []struct {
			what string
			take func(network, name string)
		}{
			{"an instance-ip", func(vn, _ string) { two.ip(vn, "") }},
			{"a floating-ip", func(_, name string) {
				two.create("floating-ip", `{"fq_name": ["default-domain", "p", "`+name+`", "pool", "f"], "parent_type": "floating-ip-pool"}`)
			}},
			{"ip-alloc", func(vn, _ string) { two.json("POST", "/virtual-network/"+vn+"/ip-alloc", `{}`) }},
		} {
			name := fmt.Sprint("other", n)
			other := one.create("virtual-network", `{"fq_name": ["default-domain", "p", "`+name+`"], "network_ipam_refs": [{"uuid": "`+ipam+`"}]}`)
			one.create("floating-ip-pool", `{"fq_name": ["default-domain", "p", "`+name+`", "pool"]}`)
			err := one.meets(func(c *change) error {
				return c.replaceReferences(model.Entity{Kind: model.KindVirtualNetwork, UUID: other}, model.KindNetworkIPAM, nil)
			}, func() { tt.take(other, name) })
			if err == nil || !strings.Contains(err.Error(), "is in use") {
				t.Errorf("reference removed while %s came: %v", tt.what, err)
			}
		}
	})
	t.Run("delete", func(t *testing.T) {
		one, two := pair(t, testConfig())
		vn := one.networkWith("n", subnetJSON("10.1.0.0/24", from))
		err := one.meets(func(c *change) error {
			o, _ := c.v.Object(model.KindVirtualNetwork, vn)
			return c.deleteObject(o, "")
		}, func() { two.json("POST", "/virtual-network/"+vn+"/ip-alloc", `{}`) })
		if err == nil || !strings.Contains(err.Error(), "is in use by ip-alloc") {
			t.Errorf("delete: %v", err)
		}
	})
}
