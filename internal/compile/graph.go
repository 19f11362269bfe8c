package compile

import (
	"hash/maphash"
	"iter"

	"github.com/contrail-mesos/contrail/internal/model"
)

// graph is what units read from: a view of the configuration, and the results
// of other units. Inside a Compiler it remembers all that was asked of it, also
// what was not there: the answer to each question can only change with a
// change that touches one of its reads.
//
// Whatever a unit looks at, it must ask a graph for; the answers are only valid
// while the unit computes, except for objects, which never change.
type graph struct {
	view *model.View
	// from computes the units that are asked for.
	from results
	// unit is the one that computes; nil outside a Compiler, where nothing is
	// remembered.
	unit *cell
	// reads and uses are what the unit has asked for so far.
	reads []read
	uses  []*cell
}

// results gives graphs the results of units.
type results interface {
	// result is that of a unit that reads a view, nil where there is none.
	result(g *graph, u anyUnit, owner string) any
	// offered yields the results that a unit offers under a key, by owner.
	offered(g *graph, u anyUnit, key string) []any
}

// read is a question in 64 bits. Two questions may be the same number: a unit
// is then computed once more than it had to be, which changes nothing.
type read uint64

// Kinds of questions.
const (
	readObject   = iota // an object, by its UUID
	readName            // which object has a name
	readKind            // all objects of a kind
	readChildren        // an object's children of a kind
	readOut             // its references to a kind
	readIn              // references to it from a kind
	readOffers          // results that a unit offers under a key
)

type question struct {
	what int
	kind string
	key  string
}

var seed = maphash.MakeSeed()

func (q question) read() read { return read(maphash.Comparable(seed, q)) }

func (g *graph) note(what int, kind model.Kind, key string) {
	if g.unit != nil {
		g.reads = append(g.reads, question{what, string(kind), key}.read())
	}
}

// Object returns the object of this kind and UUID.
func (g *graph) Object(kind model.Kind, uuid string) (model.Object, bool) {
	g.note(readObject, "", uuid)
	return g.view.Object(kind, uuid)
}

// ByName returns the object with the fully qualified name.
func (g *graph) ByName(kind model.Kind, fq []string) (model.Object, bool) {
	g.note(readName, kind, model.FQString(fq))
	o, ok := g.view.ByName(kind, fq)
	if ok {
		// A change that deletes it does not tell its name.
		g.note(readObject, "", o.GetMeta().UUID)
	}
	return o, ok
}

// EntityByName returns the object with the fully qualified name, joined with
// colons, for who only wants to know which one it is.
func (g *graph) EntityByName(kind model.Kind, fq string) (model.Entity, bool) {
	g.note(readName, kind, fq)
	e, ok := g.view.EntityByName(kind, fq)
	if ok {
		g.note(readObject, "", e.UUID)
	}
	return e, ok
}

// All yields the objects of a kind in no particular order. Every change of
// one of them computes the unit again.
func (g *graph) All(kind model.Kind) iter.Seq[model.Object] {
	g.note(readKind, kind, "")
	return g.view.All(kind)
}

// Children returns the children of the kind, sorted by UUID.
func (g *graph) Children(uuid string, kind model.Kind) []model.Object {
	g.note(readChildren, kind, uuid)
	list := g.view.Children(uuid, kind)
	for _, o := range list {
		g.note(readObject, "", o.GetMeta().UUID)
	}
	return list
}

// References returns the object's references to the kind, or to all
// kinds when it is empty, sorted by the target's kind and UUID.
func (g *graph) References(uuid string, to model.Kind) []model.Reference {
	g.note(readOut, to, uuid)
	return g.view.References(uuid, to)
}

// BackReferences returns the references of objects of the kind, or of all
// kinds when it is empty, to this one, sorted by the referrer's kind and UUID.
func (g *graph) BackReferences(uuid string, from model.Kind) []model.Reference {
	g.note(readIn, from, uuid)
	return g.view.BackReferences(uuid, from)
}

// touched yields the questions to which a change may give another answer. Of
// what is gone only the UUID is known: whoever found it by anything else has
// asked for it by its UUID too.
func touched(v *model.View, changes model.Changes) iter.Seq[read] {
	return func(yield func(read) bool) {
		ok := true
		touch := func(what int, kind model.Kind, key string) {
			ok = ok && yield(question{what, string(kind), key}.read())
		}
		for e := range changes.Objects {
			touch(readObject, "", e.UUID)
			touch(readKind, e.Kind, "")
			if s, found := v.Stored(e.UUID); found {
				touch(readName, e.Kind, s.FQString())
				touch(readChildren, e.Kind, s.Parent.UUID)
			}
		}
		for e := range changes.References {
			for _, to := range []model.Kind{e.To.Kind, ""} {
				touch(readOut, to, e.From.UUID)
			}
			for _, from := range []model.Kind{e.From.Kind, ""} {
				touch(readIn, from, e.To.UUID)
			}
		}
	}
}

// get is the object of a type with the UUID.
func get[T model.Object](g *graph, kind model.Kind, uuid string) (T, bool) {
	o, _ := g.Object(kind, uuid)
	t, ok := o.(T)
	return t, ok
}

// byName is the object of a type with the name, joined with colons.
func byName[T model.Object](g *graph, kind model.Kind, name string) (T, bool) {
	o, _ := g.ByName(kind, model.ParseFQ(kind, name))
	t, ok := o.(T)
	return t, ok
}
