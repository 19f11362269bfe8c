package store

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// decoded are the messages of etcd that are on the wire.
func decoded(t *rapid.T, fields []byte) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	if err := proto.Unmarshal(fields, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// compareOf is a guard as etcd's client makes it.
func compareOf(s *Store, g Guard) *pb.Compare {
	k := s.path(g.Key)
	var c clientv3.Cmp
	switch g.Condition {
	case Absent, RangeEmpty:
		c = clientv3.Compare(clientv3.CreateRevision(k), "=", 0)
	case Present:
		c = clientv3.Compare(clientv3.CreateRevision(k), ">", 0)
	case Unchanged:
		c = clientv3.Compare(clientv3.ModRevision(k), "=", g.Revision)
	case NotSince, RangeUnchanged:
		c = clientv3.Compare(clientv3.ModRevision(k), "<", g.Revision+1)
	}
	if g.Condition == RangeEmpty || g.Condition == RangeUnchanged {
		c = c.WithPrefix()
	}
	return c.GetCompare()
}

// What is written byte by byte is what etcd's own code makes of its messages.
func TestRequestsOnTheWire(t *testing.T) {
	text := rapid.StringMatching(`[a-z0-9/:%-]{1,200}`)
	guard := rapid.Custom(func(t *rapid.T) Guard {
		g := Guard{Key: Key("obj/" + text.Draw(t, "key")), Condition: rapid.SampledFrom([]Condition{
			Absent, Present, Unchanged, RangeEmpty, RangeUnchanged, NotSince,
		}).Draw(t, "condition")}
		switch g.Condition {
		case Unchanged, RangeUnchanged, NotSince:
			g.Revision = rapid.Int64Range(0, 1<<40).Draw(t, "revision")
		}
		return g
	})
	rapid.Check(t, func(t *rapid.T) {
		s := &Store{prefix: "/contrail/", writer: "w"}
		s.enter(rapid.Uint64Range(1, 1<<40).Draw(t, "epoch"))
		fence := rapid.Int64Range(0, 1<<40).Draw(t, "fence")
		all := &pb.TxnRequest{Compare: []*pb.Compare{
			{
				Result: pb.Compare_EQUAL, Target: pb.Compare_VALUE, Key: []byte("/contrail/epoch"),
				TargetUnion: &pb.Compare_Value{Value: strconv.AppendUint(nil, s.Epoch(), 10)},
			},
			compareOf(s, Guard{Condition: Unchanged, Key: "fence/w", Revision: fence}),
		}}
		fields := s.appendDuring(nil, s.Epoch(), fence)
		for range rapid.IntRange(1, 3).Draw(t, "members") {
			x, want := s.Txn(), &pb.TxnRequest{}
			for _, g := range rapid.SliceOfNDistinct(guard, 0, 5, rapid.ID[Guard]).Draw(t, "guards") {
				x.Guard(g)
				want.Compare = append(want.Compare, compareOf(s, g))
			}
			for i := range rapid.IntRange(0, 5).Draw(t, "operations") {
				k := Key(fmt.Sprintf("obj/%d/%s", i, text.Draw(t, "key")))
				if rapid.Bool().Draw(t, "delete") {
					x.Delete(k)
					want.Success = append(want.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
						RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(s.path(k))},
					}})
					continue
				}
				put := &pb.PutRequest{
					Key:   []byte(s.path(k)),
					Value: []byte(strings.Repeat("v", rapid.IntRange(0, 300).Draw(t, "size"))),
					Lease: rapid.SampledFrom([]int64{0, 1, 1 << 62}).Draw(t, "lease"),
				}
				x.PutLeased(k, put.Value, Lease(put.Lease))
				want.Success = append(want.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
			}
			if x.Empty() {
				want.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
					RequestRange: &pb.RangeRequest{Key: []byte("/contrail/epoch"), KeysOnly: true},
				}}}
			}
			if got := decoded(t, append(x.appendGuards(nil, nil), x.operations()...)); !proto.Equal(got, want) {
				t.Fatalf("on the wire %v, want %v", got, want)
			}
			fields = appendTxn(fields, x.appendGuards(nil, nil), x.operations())
			all.Success = append(all.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: want}})
		}
		if got := decoded(t, fields); !proto.Equal(got, all) {
			t.Fatalf("group on the wire %v, want %v", got, all)
		}
	})
}
