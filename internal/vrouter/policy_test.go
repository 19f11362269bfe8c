package vrouter

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// policed is a port with a policy of which the arriving set is named.
func policed(id string, set []byte) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Port{Port: &controlv1.Port{
		InterfaceId: id, Vrf: 1, Policy: &controlv1.PortPolicy{Network: 1, SecurityGroups: []uint32{9}, ArrivingSet: set},
	}}}
}

func setMessage(id []byte, blocks ...[]byte) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicySet{PolicySet: &controlv1.PolicySet{Id: id, Blocks: blocks}}}
}

func blockMessage(id []byte, rules ...*controlv1.PolicyRule) *controlv1.ControlMessage {
	return &controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicyBlock{PolicyBlock: &controlv1.PolicyBlock{Id: id, Rules: rules}}}
}

var (
	setID   = []byte("0123456789abcdef")
	blockID = []byte("fedcba9876543210")
	webRule = &controlv1.PolicyRule{
		Src: &controlv1.PolicySelector{Prefixes: []string{"10.0.0.0/8"}, OwnOf: []uint32{3}}, Dst: &controlv1.PolicySelector{SecurityGroups: []uint32{9}},
		Family: 4, Protocol: new(uint32(6)), SrcPorts: []*controlv1.PortRange{{Last: 65535}}, DstPorts: []*controlv1.PortRange{{First: 80, Last: 81}},
		SameTags: []uint32{2},
		Uuid:     "u-1", Owner: 1, Place: 2,
	}
)

// Rules keep the names that people know them by; one without a name is a rule all
// the same, as an older control node sends it.
func TestNamesOfRules(t *testing.T) {
	nameless, beyond := proto.CloneOf(webRule), proto.CloneOf(webRule)
	nameless.Owner, nameless.Place, nameless.Uuid = 0, 0, ""
	beyond.Owner = 7
	rules, err := rulesOf(&controlv1.PolicyBlock{Rules: []*controlv1.PolicyRule{webRule, nameless, beyond}, Owners: []string{"network-policy d:p:web"}})
	if err != nil {
		t.Fatal(err)
	}
	type name struct {
		uuid, owner string
		place       int
	}
	for i, want := range []name{{"u-1", "network-policy d:p:web", 2}, {}, {uuid: "u-1", place: 2}} {
		if got := (name{rules[i].UUID, rules[i].Owner, rules[i].Place}); got != want {
			t.Errorf("rule %d is called %+v, want %+v", i, got, want)
		}
	}
}

// A port's policy is known when all that it names is, and stays so while no
// session says something else.
func TestPolicyOfPort(t *testing.T) {
	r := newTestRouting()
	rec := &record{ID: "p"}
	v := r.newView(nil)
	known := func(want bool) (p portPolicy) {
		t.Helper()
		p, got := r.policyOf(rec)
		if got != want {
			t.Errorf("policy is known: %v, want %v", got, want)
		}
		return p
	}
	known(false)
	r.say(v, 1, portMessage("p", 1))
	known(false) // of a control node that says nothing of it
	r.say(v, 2, policed("p", setID))
	known(false)
	r.say(v, 3, setMessage(setID, blockID))
	known(false)
	r.say(v, 4, blockMessage(blockID, webRule), endOfPorts())
	p := known(true)
	rule := p.sets[dataplane.SetID(setID)].Blocks[0][0]
	if p.Sets[dataplane.Arriving] != dataplane.SetID(setID) || p.Identity != dataplane.NewIdentity(1, []uint32{9}, nil) {
		t.Errorf("policy is %+v", p)
	}
	if rule.Protocol != 6 || rule.Family != 4 || rule.Deny || rule.Src.Prefixes[0].String() != "10.0.0.0/8" || rule.Src.OwnOf[0] != 3 ||
		rule.Dst.Groups[0] != 9 || !reflect.DeepEqual(rule.DstPorts, []dataplane.PortRange{{First: 80, Last: 81}}) ||
		!reflect.DeepEqual(rule.SrcPorts, []dataplane.PortRange{dataplane.AllPorts}) || rule.SameTags[0] != 2 {
		t.Errorf("rule is %+v", rule)
	}

	// Another session, which has not told everything yet, takes nothing away.
	next := r.newView(v)
	r.endView(v)
	known(true)
	r.say(next, 5, policed("p", nil), endOfPorts())
	if p := known(true); p.Sets != (dataplane.Policy{}).Sets {
		t.Errorf("policy is %+v, want no sets", p)
	}
	// What one comes back to is what it had.
	r.say(next, 6, setMessage(setID, blockID), blockMessage(blockID, webRule), policed("p", setID))
	r.begin(next, 6, &controlv1.ControlMessage{Body: &controlv1.ControlMessage_KeepAlive{KeepAlive: &controlv1.KeepAlive{Tables: []*controlv1.TableCursor{{Table: 1, At: 1}}}}})
	third := r.newView(next)
	r.endView(next)
	resumed := &controlv1.ControlMessage{Body: &controlv1.ControlMessage_Resumed{Resumed: &controlv1.Resumed{}}}
	r.say(third, 7, resumed, endOfPorts())
	known(true)
	gone := &controlv1.ControlMessage{Body: &controlv1.ControlMessage_PolicyGone{PolicyGone: &controlv1.PolicyGone{What: &controlv1.PolicyGone_Block{Block: blockID}}}}
	r.say(third, 8, gone)
	known(false)
}

// A block that is not understood is no block: nothing is enforced in part.
func TestPolicyThatIsNone(t *testing.T) {
	for name, change := range map[string]func(*controlv1.PolicyRule){
		"family":   func(r *controlv1.PolicyRule) { r.Family = 5 },
		"protocol": func(r *controlv1.PolicyRule) { r.Protocol = new(uint32(256)) },
		"ports":    func(r *controlv1.PolicyRule) { r.DstPorts = []*controlv1.PortRange{{First: 2, Last: 1}} },
		"high":     func(r *controlv1.PolicyRule) { r.SrcPorts = []*controlv1.PortRange{{First: 2, Last: 65536}} },
		"prefix":   func(r *controlv1.PolicyRule) { r.Src = &controlv1.PolicySelector{Prefixes: []string{"10.0.0.0/33"}} },
	} {
		rule := &controlv1.PolicyRule{}
		change(rule)
		r := newTestRouting()
		r.say(r.newView(nil), 1, blockMessage(blockID, rule), setMessage(setID, blockID), policed("p", setID))
		if _, known := r.policyOf(&record{ID: "p"}); known {
			t.Errorf("%s: the policy is known", name)
		}
	}
}
