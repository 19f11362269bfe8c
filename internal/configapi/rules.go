package configapi

import (
	"slices"
	"strings"

	"github.com/contrail-mesos/contrail/internal/model"
)

// operation is what rules of an api-access-list speak of: one of the letters
// of CRUD.
type operation byte

const (
	opCreate operation = 'C'
	opRead   operation = 'R'
	opUpdate operation = 'U'
	opDelete operation = 'D'
)

func (o operation) String() string {
	switch o {
	case opCreate:
		return "create"
	case opRead:
		return "read"
	case opUpdate:
		return "update"
	default:
		return "delete"
	}
}

// anything stands in rules for every object, field or role.
const anything = "*"

// ruleKey is what a rule is about. Objects are kinds, or names of actions such
// as "fqname-to-id".
type ruleKey struct {
	object, field string
}

// ruleset is one api-access-list, ready to be asked.
type ruleset map[ruleKey][]rolePermission

type rolePermission struct {
	role, crud string
}

// newRuleset compiles the entries of a list. Types are written with dashes or
// underscores, fields as they are in JSON.
func newRuleset(entries *model.RbacRuleEntriesType) ruleset {
	set := ruleset{}
	if entries == nil {
		return set
	}
	for _, r := range entries.RbacRule {
		k := ruleKey{object: strings.ReplaceAll(r.RuleObject, "_", "-"), field: r.RuleField}
		if k.field == "" {
			k.field = anything
		}
		for _, p := range r.RulePerms {
			set[k] = append(set[k], rolePermission{p.RoleName, strings.ToUpper(p.RoleCrud)})
		}
	}
	return set
}

// decide asks the lists together. The most specific rules there are decide: of
// the field of the object, of the field of any object, of the object, of
// anything. Where nothing is said nothing is allowed.
func decide(lists []ruleset, roles []string, o operation, object, field string) bool {
	keys := [4]ruleKey{{object, field}, {anything, field}, {object, anything}, {anything, anything}}
	for _, k := range keys {
		if k.field == "" {
			continue
		}
		found := false
		for _, set := range lists {
			for _, p := range set[k] {
				found = true
				if p.allows(roles, o) {
					return true
				}
			}
		}
		if found {
			return false
		}
	}
	return false
}

func (p rolePermission) allows(roles []string, o operation) bool {
	return strings.IndexByte(p.crud, byte(o)) >= 0 && (p.role == anything || slices.Contains(roles, p.role))
}
