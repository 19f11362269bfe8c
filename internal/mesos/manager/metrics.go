package manager

import (
	"context"
	"path"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one manager.
type metrics struct {
	requests *prometheus.HistogramVec
	retries  prometheus.Counter
	released prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "contrail_manager_request_seconds",
			Help:    "Time to answer a request, by operation and result code.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"operation", "code"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "contrail_manager_config_retries_total",
			Help: "Requests to the configuration API that were tried again.",
		}),
		released: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "contrail_manager_released_total",
			Help: "Attachments released because the report of their node did not have them.",
		}),
	}
	registry.MustRegister(m.requests, m.retries, m.released)
	return m
}

func (m *metrics) observe(operation string, start time.Time, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.requests.WithLabelValues(operation, code).Observe(time.Since(start).Seconds())
}

func (m *metrics) interceptor() connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			start := time.Now()
			res, err := next(ctx, req)
			m.observe(path.Base(req.Spec().Procedure), start, err)
			return res, err
		}
	})
}
