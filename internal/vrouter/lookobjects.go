package vrouter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/reconcile"
)

// objects are those of all tables that are not in the data plane as they should
// be, the failed ones first.
func (l *look) objects(ctx context.Context) (vrouterapi.Objects, error) {
	answer := vrouterapi.Objects{Objects: []vrouterapi.Object{}}
	ofPort := func(ifindex int) string {
		if device := l.device(ifindex); device != "" {
			return device
		}
		return "interface " + strconv.Itoa(ifindex)
	}
	a := l.agent
	for _, list := range []func(context.Context) ([]vrouterapi.Object, error){
		unsettled(a.ports, ofPort), unsettled(a.policies, ofPort), unsettled(a.routes, text), unsettled(a.macs, text),
		unsettled(a.bridges, text), unsettled(a.vnis, text), unsettled(a.services, text), unsettled(a.fabricServices, text), unsettled(a.snats, text), unsettled(a.probes, text),
	} {
		objects, err := list(ctx)
		if err != nil {
			return answer, err
		}
		answer.Objects = append(answer.Objects, objects...)
	}
	slices.SortFunc(answer.Objects, func(x, y vrouterapi.Object) int {
		return cmp.Or(cmp.Compare(x.Status.State, y.Status.State), cmp.Compare(x.Table, y.Table), cmp.Compare(x.Object, y.Object))
	})
	answer.Left = max(len(answer.Objects)-l.limit, 0)
	answer.Objects = answer.Objects[:len(answer.Objects)-answer.Left]
	return answer, nil
}

func text[K any](key K) string { return fmt.Sprint(key) }

// unsettled lists the objects of a table that are not applied.
func unsettled[K comparable, V any](t *reconcile.Table[K, V], name func(K) string) func(context.Context) ([]vrouterapi.Object, error) {
	return func(ctx context.Context) ([]vrouterapi.Object, error) {
		entries, err := t.Entries(ctx)
		var list []vrouterapi.Object
		for _, e := range entries {
			if e.Status.State != reconcile.Applied {
				list = append(list, vrouterapi.Object{Table: t.Name(), Object: name(e.Key), Wanted: e.Desired != nil, Status: stateOf(e.Status)})
			}
		}
		return list, err
	}
}
