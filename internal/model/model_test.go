package model_test

import (
	"testing"

	"github.com/contrail-mesos/contrail/internal/model"
)

func TestTypesAreLinked(t *testing.T) {
	for _, typ := range model.Types() {
		o := typ.New()
		if o.Kind() != typ.Kind {
			t.Errorf("new %s is a %s", typ.Kind, o.Kind())
		}
		if found, ok := model.TypeOfCollection(typ.Collection()); !ok || found != typ {
			t.Errorf("collection %s finds %v", typ.Collection(), found)
		}
	}
}
