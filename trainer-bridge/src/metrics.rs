//! Numbers of this service, besides those that every service has.

use std::sync::atomic::AtomicU64;

use chassis::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Where a training ran and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabels {
    /// `local` or `databricks`.
    pub backend: &'static str,
    /// `succeeded`, `failed`, `cancelled` or `timed_out`.
    pub outcome: &'static str,
}

/// Counters of trainings.
#[derive(Debug, Clone, Default)]
pub struct BridgeMetrics {
    /// Trainings that ended.
    pub trainings: Family<EndLabels, Counter>,
    /// Their time, seconds.
    pub seconds: Family<EndLabels, Counter<f64, AtomicU64>>,
    /// Jobs that have not ended although their deadline has passed.
    pub overdue: Gauge,
}

impl BridgeMetrics {
    /// Registers the numbers.
    pub fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register(
                "vigie_trainings",
                "Trainings that ended, by outcome",
                own.trainings.clone(),
            );
            registry.register(
                "vigie_training_seconds",
                "Seconds spent in trainings",
                own.seconds.clone(),
            );
            registry.register(
                "vigie_training_jobs_overdue",
                "Training jobs that have not ended although their deadline has passed",
                own.overdue.clone(),
            );
        });
        own
    }

    /// Counts an end.
    pub fn ended(&self, backend: &'static str, outcome: &'static str, seconds: f64) {
        let labels = EndLabels { backend, outcome };
        self.trainings.get_or_create(&labels).inc();
        self.seconds.get_or_create(&labels).inc_by(seconds.max(0.0));
    }
}
