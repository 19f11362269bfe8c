package configapi

import (
	"slices"

	"github.com/contrail-mesos/contrail/internal/model"
)

// Rules of api-access-lists may keep single fields from being read. Such a
// field is left out of every answer, and filters find it absent. What says
// which object it is stays: those fields are in names and references anyway.
var identity = map[string]bool{
	"uuid": true, "fq_name": true, "name": true, "href": true, "parent_type": true, "parent_uuid": true, "parent_href": true,
}

// namedFields are the fields that rules have something special to say about,
// for objects of a kind.
func (s *scope) namedFields(kind model.Kind) []string {
	var list []string
	for _, set := range s.rules {
		for k := range set {
			if (k.object == string(kind) || k.object == anything) && k.field != anything && !identity[k.field] && !slices.Contains(list, k.field) {
				list = append(list, k.field)
			}
		}
	}
	return list
}

// deniedFields are the fields of a kind that the rules of one of the caller's
// projects do not let him read. Most kinds have none, and nothing more is asked
// for their objects.
func (may *access) deniedFields(kind model.Kind) []string {
	if may == nil || may.reads {
		return nil
	}
	list, ok := may.fields[kind]
	if ok {
		return list
	}
	for _, s := range may.scopes {
		for _, f := range s.namedFields(kind) {
			if !s.allows(opRead, string(kind), f) && !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	if may.fields == nil {
		may.fields = map[model.Kind][]string{}
	}
	may.fields[kind] = list
	return list
}

// hiddenBy are the fields of an object of a kind with such rights that the
// caller may not read in any of his projects.
func (may *access) hiddenBy(kind model.Kind, p *model.PermType2) map[string]bool {
	var hidden map[string]bool
	for _, f := range may.deniedFields(kind) {
		if may.allowed(p, bitRead, opRead, kind, f) {
			continue
		}
		if hidden == nil {
			hidden = map[string]bool{}
		}
		hidden[f] = true
	}
	return hidden
}

// hidden are the fields of an object that are left out for the caller.
func (may *access) hidden(v *model.View, e *entry) map[string]bool {
	if len(may.deniedFields(e.Kind)) == 0 {
		return nil
	}
	if e.view == nil {
		return may.known(e.Stored).hidden
	}
	return may.hiddenBy(e.Kind, permsOf(v, *e.view))
}

// permsOf are the rights on an object; those on a view are its owner's.
func permsOf(v *model.View, d derived) *model.PermType2 {
	if !d.isView() {
		return d.object.GetMeta().Perms2
	}
	of, ok := v.Find(d.owner.UUID)
	if !ok {
		return nil
	}
	return of.GetMeta().Perms2
}

// mayReadField refuses a field of an object that the caller may read.
func (may *access) mayReadField(v *model.View, d derived, field string) error {
	kind := d.object.Kind()
	if !slices.Contains(may.deniedFields(kind), field) || may.allowed(permsOf(v, d), bitRead, opRead, kind, field) {
		return nil
	}
	return may.refuseByRule(opRead, kind, field)
}

// mayCompare refuses to write fields that the caller may neither read nor
// write: an answer would tell whether they are as he says.
func (may *access) mayCompare(v *model.View, o model.Object, fields []string) error {
	for _, f := range fields {
		if may.mayReadField(v, derived{object: o}, f) == nil {
			continue
		}
		if err := may.mayWrite(o, opUpdate, f); err != nil {
			return err
		}
	}
	return nil
}

// showsBack tells whether a reference from a stored object may be shown at its
// other end, and whether its attribute may: both are the referrer's.
func (may *access) showsBack(from model.Stored, field string) (shown, attr bool) {
	if may == nil || may.reads {
		return may != nil, true
	}
	k := may.known(from)
	return (k.read || k.refer) && !k.hidden[field], k.read
}
