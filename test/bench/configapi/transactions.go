package configapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// transaction is what one transaction wrote.
type transaction []*mvccpb.KeyValue

// record runs an action and returns the transactions that it made in the
// store, in their order.
func record(ctx context.Context, client *clientv3.Client, action func() error) ([]transaction, error) {
	before, err := client.Get(ctx, "epoch", clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	if err := action(); err != nil {
		return nil, err
	}
	after, err := client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithMinModRev(before.Header.Revision+1))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(after.Kvs, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
	var all []transaction
	for i, kv := range after.Kvs {
		if i == 0 || kv.ModRevision != after.Kvs[i-1].ModRevision {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], kv)
	}
	if len(all) == 0 {
		return nil, errors.New("the action wrote nothing")
	}
	return all, nil
}

// replay makes the same transactions with a bare client: the same keys but for
// a number before them, the same values, each key with the condition that it
// does not exist.
func replay(client *clientv3.Client, transactions []transaction) operation {
	return func(ctx context.Context, n int64) error {
		for _, t := range transactions {
			var conditions []clientv3.Cmp
			var puts []clientv3.Op
			for _, kv := range t {
				key := fmt.Sprintf("/%d%s", n, kv.Key)
				conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
				puts = append(puts, clientv3.OpPut(key, string(kv.Value)))
			}
			answer, err := client.Txn(ctx).If(conditions...).Then(puts...).Commit()
			if err != nil {
				return err
			}
			if !answer.Succeeded {
				return fmt.Errorf("transaction %d met its own keys", n)
			}
		}
		return nil
	}
}
