package store

import (
	"context"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// Transactions are made of etcd's messages themselves: its client would copy
// each condition of a group three times and each operation twice, which is much
// of what a write costs.

const (
	// maxSent and maxReceived bound one message between us and etcd, in bytes.
	maxSent     = 16 << 20
	maxReceived = 256 << 20
)

// callOptions are those that etcd's client has for its own requests: one waits
// for a store that is starting again.
var callOptions = []grpc.CallOption{
	grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(maxSent), grpc.MaxCallRecvMsgSize(maxReceived),
}

// gRPC clears each buffer that it takes, and has none between 32 KiB and a
// megabyte, which is where groups of transactions are, and what the watch tells
// of them. It wants to know before anything is sent.
func init() {
	pool, err := mem.NewBinaryTieredBufferPool(8, 12, 14, 15, 16, 17, 18, 20)
	if err != nil {
		panic("buffers of gRPC: " + err.Error()) // the sizes are in order
	}
	experimental.SetDefaultBufferPool(pool)
}

// transact sends a transaction, once.
func (s *Store) transact(ctx context.Context, compares []*pb.Compare, then []*pb.RequestOp) (*pb.TxnResponse, error) {
	resp, err := clientv3.RetryKVClient(s.client).Txn(ctx, &pb.TxnRequest{Compare: compares, Success: then}, callOptions...)
	return resp, clientv3.ContextError(ctx, err)
}

// bytes is the path of a key.
func (s *Store) bytes(k Key) []byte {
	path := make([]byte, 0, len(s.prefix)+len(k))
	return append(append(path, s.prefix...), k...)
}

func (s *Store) putOp(k Key, value []byte, lease Lease) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: s.bytes(k), Value: value, Lease: int64(lease)}}}
}

func (s *Store) deleteOp(k Key) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: s.bytes(k)}}}
}

// readOp asks whether a key is there.
func (s *Store) readOp(k Key) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: s.bytes(k), KeysOnly: true}}}
}

// txnOp is a transaction as a part of another one.
func txnOp(compares []*pb.Compare, then []*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Compare: compares, Success: then}}}
}

// compare is a guard as etcd has it.
func (s *Store) compare(g Guard) *pb.Compare {
	c := &pb.Compare{Key: s.bytes(g.Key)}
	if g.ofRange() {
		c.RangeEnd = []byte(clientv3.GetPrefixRangeEnd(string(c.Key)))
	}
	switch g.Condition {
	case Absent, RangeEmpty:
		c.Result, c.Target, c.TargetUnion = pb.Compare_EQUAL, pb.Compare_CREATE, &pb.Compare_CreateRevision{}
	case Present:
		c.Result, c.Target, c.TargetUnion = pb.Compare_GREATER, pb.Compare_CREATE, &pb.Compare_CreateRevision{}
	case Unchanged:
		c.Result, c.Target, c.TargetUnion = pb.Compare_EQUAL, pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: g.Revision}
	default: // NotSince, and RangeUnchanged: deletions pass, they only take away what was seen
		c.Result, c.Target, c.TargetUnion = pb.Compare_LESS, pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: g.Revision + 1}
	}
	return c
}

// during demands that the epoch and the writer's fence are as they were.
func (s *Store) during(epoch uint64, fence int64) []*pb.Compare {
	return []*pb.Compare{
		{
			Result: pb.Compare_EQUAL, Target: pb.Compare_VALUE, Key: s.bytes(EpochKey),
			TargetUnion: &pb.Compare_Value{Value: strconv.AppendUint(nil, epoch, 10)},
		},
		s.compare(Guard{Condition: Unchanged, Key: key(SpaceFence, s.writer), Revision: fence}),
	}
}
