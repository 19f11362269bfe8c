package store

import (
	"context"
	"path"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// newLatency makes the histogram of what etcd takes to answer.
func newLatency() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "contrail_store_request_seconds",
		Help:    "Time that etcd takes to answer one request, by method and gRPC status.",
		Buckets: prometheus.ExponentialBuckets(0.000125, 2, 18),
	}, []string{"method", "status"})
}

// Metrics are those of the store's client.
func (s *Store) Metrics() prometheus.Collector { return s.latency }

// measure is a gRPC interceptor that observes each request, retries one by one.
func measure(latency *prometheus.HistogramVec) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		start := time.Now()
		err := invoke(ctx, method, req, reply, cc, options...)
		latency.WithLabelValues(path.Base(method), status.Code(err).String()).Observe(time.Since(start).Seconds())
		return err
	}
}
