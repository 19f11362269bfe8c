package store

import (
	"context"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Transactions are written as etcd's TxnRequest is on the wire, each key and
// value once: a write has dozens of them, and to make its messages first, and to
// encode these, is much of what it costs.

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

// transact sends a transaction, once: its fields as they are on the wire.
func (s *Store) transact(ctx context.Context, fields []byte) (*pb.TxnResponse, error) {
	r := &pb.TxnRequest{}
	r.ProtoReflect().SetUnknown(fields) // which are written as they are
	resp, err := clientv3.RetryKVClient(s.client).Txn(ctx, r, callOptions...)
	return resp, clientv3.ContextError(ctx, err)
}

// Fields of etcd's messages.
const (
	txnCompare, txnSuccess = 1, 2

	opRange, opPut, opDelete, opTxn = 1, 2, 3, 4

	putKey, putValue, putLease = 1, 2, 3
	deleteKey                  = 1
	rangeKey, rangeKeysOnly    = 1, 8

	compareResult, compareTarget, compareKey = 1, 2, 3
	compareCreated, compareModified          = 5, 6
	compareValue, compareEnd                 = 7, 64
)

// appendPut appends the operation that puts a key.
func (s *Store) appendPut(b []byte, k Key, value []byte, lease Lease) []byte {
	size := s.sizeOfKey(k)
	if len(value) > 0 {
		size += 1 + protowire.SizeBytes(len(value))
	}
	if lease != 0 {
		size += 1 + protowire.SizeVarint(uint64(lease))
	}
	b = s.appendKey(appendOperation(b, opPut, size), putKey, k)
	if len(value) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, putValue, protowire.BytesType), value)
	}
	if lease != 0 {
		b = appendNumber(b, putLease, int64(lease))
	}
	return b
}

// appendDelete appends the operation that deletes a key.
func (s *Store) appendDelete(b []byte, k Key) []byte {
	return s.appendKey(appendOperation(b, opDelete, s.sizeOfKey(k)), deleteKey, k)
}

// appendRead appends the question whether a key is there.
func (s *Store) appendRead(b []byte, k Key) []byte {
	const keysOnly = 2 // its size
	b = s.appendKey(appendOperation(b, opRange, s.sizeOfKey(k)+keysOnly), rangeKey, k)
	return appendNumber(b, rangeKeysOnly, 1)
}

// appendTxn appends the fields of a transaction as an operation of another one.
func appendTxn(b []byte, fields ...[]byte) []byte {
	size := 0
	for _, f := range fields {
		size += len(f)
	}
	b = appendOperation(b, opTxn, size)
	for _, f := range fields {
		b = append(b, f...)
	}
	return b
}

// appendOperation begins an operation, of which size bytes follow.
func appendOperation(b []byte, operation protowire.Number, size int) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, txnSuccess, protowire.BytesType), uint64(1+protowire.SizeBytes(size)))
	return protowire.AppendVarint(protowire.AppendTag(b, operation, protowire.BytesType), uint64(size))
}

// appendGuard appends a guard as etcd has it.
func (s *Store) appendGuard(b []byte, g Guard) []byte {
	result, union, target, revision := pb.Compare_EQUAL, protowire.Number(compareModified), pb.Compare_MOD, g.Revision
	switch g.Condition {
	case Absent, RangeEmpty:
		union, target, revision = compareCreated, pb.Compare_CREATE, 0
	case Present:
		result, union, target, revision = pb.Compare_GREATER, compareCreated, pb.Compare_CREATE, 0
	case Unchanged:
	default: // NotSince, and RangeUnchanged: deletions pass, they only take away what was seen
		result, revision = pb.Compare_LESS, g.Revision+1
	}
	var few [128]byte
	c := appendNumber(few[:0], compareResult, int64(result))
	c = appendNumber(c, compareTarget, int64(target))
	c = appendNumber(s.appendKey(c, compareKey, g.Key), union, revision)
	if g.ofRange() {
		c = protowire.AppendString(protowire.AppendTag(c, compareEnd, protowire.BytesType), clientv3.GetPrefixRangeEnd(s.path(g.Key)))
	}
	return protowire.AppendBytes(protowire.AppendTag(b, txnCompare, protowire.BytesType), c)
}

// appendDuring appends the demand that the epoch and the writer's fence are as
// they were.
func (s *Store) appendDuring(b []byte, epoch uint64, fence int64) []byte {
	c := appendNumber(nil, compareResult, int64(pb.Compare_EQUAL))
	c = appendNumber(c, compareTarget, int64(pb.Compare_VALUE))
	c = s.appendKey(c, compareKey, EpochKey)
	c = protowire.AppendBytes(protowire.AppendTag(c, compareValue, protowire.BytesType), strconv.AppendUint(nil, epoch, 10))
	b = protowire.AppendBytes(protowire.AppendTag(b, txnCompare, protowire.BytesType), c)
	return s.appendGuard(b, Guard{Condition: Unchanged, Key: key(SpaceFence, s.writer), Revision: fence})
}

// sizeOfKey is that of a field with a key.
func (s *Store) sizeOfKey(k Key) int { return 1 + protowire.SizeBytes(len(s.prefix)+len(k)) }

func (s *Store) appendKey(b []byte, field protowire.Number, k Key) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(s.prefix)+len(k)))
	return append(append(b, s.prefix...), k...)
}

func appendNumber(b []byte, field protowire.Number, n int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(n))
}
