package configapi

import "github.com/prometheus/client_golang/prometheus"

// metrics of the configuration API, all named contrail_config_*.
type metrics struct {
	registry  *prometheus.Registry
	attaches  *prometheus.CounterVec
	writes    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	early     prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		attaches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_attachments_total",
			Help: "Requests to attach and detach, by operation and result.",
		}, []string{"operation", "result"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_writes_total",
			Help: "Transactions that changed something, by operation.",
		}, []string{"operation"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "contrail_config_conflicts_total",
			Help: "Transactions that were decided anew because others got in between, by what they met on.",
		}, []string{"space"}),
		early: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "contrail_config_early_reuse_total",
			Help: "Addresses, labels and numbers given out before the end of their rest because nothing else was free.",
		}),
	}
	m.registry.MustRegister(m.attaches, m.writes, m.conflicts, m.early)
	return m
}
