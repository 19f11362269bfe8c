package compile

import (
	"github.com/contrail-mesos/contrail/internal/model"
)

// Origin is an object that a user wrote, from which something follows.
type Origin struct {
	Kind model.Kind `json:"type"`
	UUID string     `json:"uuid"`
	Name string     `json:"name"`
}

func originOf(o model.Object) Origin {
	m := o.GetMeta()
	return Origin{Kind: o.Kind(), UUID: m.UUID, Name: model.FQString(m.FQName)}
}

// Problem is why something that a user wrote does nothing, or not what it
// says. It never keeps anything else from being compiled.
type Problem struct {
	About Origin `json:"about"`
	Text  string `json:"text"`
	// Missing: something is not there. What is not there in other projects is
	// for operators to know only.
	Missing bool `json:"-"`
	// Names are other objects that the text names: it is for those who may see
	// them all.
	Names []Origin `json:"-"`
}
